//! One direction of one stream: a bounded queue of bytes, the first of which have arrived while the rest is under way.
//!
//! It must never look at a clock, a link or a waker: the instant is an argument, and what is held on the way is told
//! to it from outside.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::io::ReadBuf;

/// The bytes of one direction, in order, with the marks that end it.
pub(super) struct Pipe {
    capacity: usize,
    /// Everything that was sent and is not yet read; the first `arrived` of it can be read.
    bytes: VecDeque<u8>,
    arrived: usize,
    /// What is under way, in order. Either all of it is held or none of it is. A parcel has at least one byte or is
    /// one of the two marks, so the bytes' bound is a bound on this queue too.
    wire: VecDeque<Parcel>,
    ended: bool,
    closed: bool,
}

/// Something under way, due at an instant or, without one, held by the link.
struct Parcel {
    due: Option<Instant>,
    load: Load,
}

/// What a parcel brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// So many of the bytes of the queue.
    Bytes(usize),
    /// Nothing more will be sent.
    End,
    /// The end that sent this is gone altogether: it will not read either.
    Close,
}

impl Pipe {
    /// An empty pipe that holds at most `capacity` unread bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            bytes: VecDeque::new(),
            arrived: 0,
            wire: VecDeque::new(),
            ended: false,
            closed: false,
        }
    }

    /// Sends as many of `bytes` as there is room for, to arrive at `due` or, without one, when the link lets go.
    pub(super) fn send(&mut self, bytes: &[u8], due: Option<Instant>) -> usize {
        let sent = bytes.len().min(self.capacity - self.bytes.len());
        if sent > 0 {
            self.bytes.extend(&bytes[..sent]);
            self.ship(Load::Bytes(sent), due);
        }
        sent
    }

    /// Says, after all bytes, that no more will come.
    pub(super) fn send_end(&mut self, due: Option<Instant>) {
        self.ship(Load::End, due);
    }

    /// Says, after all else, that the sending end is gone.
    pub(super) fn send_close(&mut self, due: Option<Instant>) {
        self.ship(Load::Close, due);
    }

    /// Lets arrive what is due by `now`.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(parcel) = self.wire.front()
            && parcel.due.is_some_and(|due| due <= now)
        {
            match parcel.load {
                Load::Bytes(count) => self.arrived += count,
                Load::End => self.ended = true,
                Load::Close => self.closed = true,
            }
            self.wire.pop_front();
        }
    }

    /// Moves bytes that have arrived into `buf`, as many as fit; returns how many.
    pub(super) fn receive(&mut self, buf: &mut ReadBuf<'_>) -> usize {
        let count = self.arrived.min(buf.remaining());
        let (front, back) = self.bytes.as_slices();
        let first = count.min(front.len());
        buf.put_slice(&front[..first]);
        buf.put_slice(&back[..count - first]);
        self.bytes.drain(..count);
        self.arrived -= count;
        count
    }

    /// Whether everything that was sent has been read and nothing more will come.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.arrived == 0
    }

    /// Whether the news has arrived that the sending end is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// When the next of what is under way arrives, if nothing holds it.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.wire.front().and_then(|parcel| parcel.due)
    }

    /// When the news arrives that the sending end is gone, if it is under way and nothing holds it.
    pub(super) fn close_due(&self) -> Option<Instant> {
        self.wire.back().filter(|parcel| parcel.load == Load::Close).and_then(|parcel| parcel.due)
    }

    /// Holds everything that has not arrived by `now`, until `release`.
    pub(super) fn hold(&mut self, now: Instant) {
        self.settle(now);
        for parcel in &mut self.wire {
            parcel.due = None;
        }
    }

    /// Lets what was held arrive at `due`; what was not held keeps its instant.
    pub(super) fn release(&mut self, due: Instant) {
        for parcel in &mut self.wire {
            parcel.due.get_or_insert(due);
        }
    }

    fn ship(&mut self, load: Load, due: Option<Instant>) {
        let Some(last) = self.wire.back_mut() else {
            self.wire.push_back(Parcel { due, load });
            return;
        };
        // A link whose delay shrank must not let later bytes overtake earlier ones, nor those that are held.
        let due = due.zip(last.due).map(|(due, before)| due.max(before));
        match (&mut last.load, load) {
            (Load::Bytes(before), Load::Bytes(count)) if last.due == due => *before += count,
            _ => self.wire.push_back(Parcel { due, load }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn received(pipe: &mut Pipe, now: Instant) -> Vec<u8> {
        pipe.settle(now);
        let mut space = [0; 16];
        let mut buf = ReadBuf::new(&mut space);
        pipe.receive(&mut buf);
        buf.filled().to_vec()
    }

    #[test]
    fn bytes_arrive_at_their_instant_and_not_before() {
        let start = crate::time::now();
        let mut pipe = Pipe::new(16);
        assert_eq!(pipe.send(b"abc", Some(start + 2 * MILLI)), 3);
        assert_eq!(received(&mut pipe, start + MILLI), b"");
        assert_eq!(pipe.next_due(), Some(start + 2 * MILLI));
        assert_eq!(received(&mut pipe, start + 2 * MILLI), b"abc");
    }

    #[test]
    fn a_shrunken_delay_does_not_let_bytes_overtake() {
        let start = crate::time::now();
        let mut pipe = Pipe::new(16);
        pipe.send(b"first", Some(start + 9 * MILLI));
        pipe.send(b"second", Some(start + MILLI));
        assert_eq!(received(&mut pipe, start + MILLI), b"");
        assert_eq!(received(&mut pipe, start + 9 * MILLI), b"firstsecond");
    }

    #[test]
    fn only_what_is_under_way_is_held() {
        let start = crate::time::now();
        let mut pipe = Pipe::new(16);
        pipe.send(b"there", Some(start));
        pipe.send(b"going", Some(start + 2 * MILLI));
        pipe.hold(start + MILLI);
        assert_eq!(received(&mut pipe, start + 9 * MILLI), b"there");
        pipe.release(start + 12 * MILLI);
        assert_eq!(received(&mut pipe, start + 12 * MILLI), b"going");
    }

    #[test]
    fn unread_bytes_count_against_the_capacity_wherever_they_are() {
        let start = crate::time::now();
        let mut pipe = Pipe::new(4);
        assert_eq!(pipe.send(b"abc", Some(start)), 3);
        assert_eq!(pipe.send(b"def", None), 1);
        assert_eq!(pipe.send(b"ef", None), 0);
        assert_eq!(received(&mut pipe, start), b"abc");
        assert_eq!(pipe.send(b"efgh", None), 3);
    }

    #[test]
    fn the_end_comes_after_the_bytes() {
        let start = crate::time::now();
        let mut pipe = Pipe::new(16);
        pipe.send(b"last", Some(start));
        pipe.send_end(Some(start));
        pipe.send_close(Some(start + MILLI));
        assert_eq!(pipe.close_due(), Some(start + MILLI));
        pipe.settle(start);
        assert!(!pipe.is_ended());
        assert_eq!(received(&mut pipe, start), b"last");
        assert!(pipe.is_ended() && !pipe.is_closed());
        pipe.settle(start + MILLI);
        assert!(pipe.is_closed());
    }
}
