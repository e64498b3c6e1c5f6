//! One connection: its two ends, a pipe towards each, and who waits where.
//!
//! It must never decide whether a link is open: `Links` does. And it must never wake a task itself: what it leaves
//! in `After` runs once the network's lock is free.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::task::Waker;
use std::time::Instant;

use tokio::io::ReadBuf;

use super::after::After;
use super::links::Links;
use super::pipe::Pipe;

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The end that connected.
    Dialer,
    /// The end that accepted, or still waits to be accepted.
    Acceptor,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Dialer, Self::Acceptor];

    fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

/// How far an attempt to read or write got.
pub(super) enum Progress<T> {
    /// It is finished.
    Done(io::Result<T>),
    /// The task is registered and will be woken; if there is an instant, it must also look again by then.
    Wait(Option<Instant>),
}

/// Two ends and what is under way between them.
pub(super) struct Connection {
    dialer: End,
    acceptor: End,
}

/// One end, with the pipe towards it.
struct End {
    address: SocketAddrV4,
    incoming: Pipe,
    reader: Half,
    writer: Half,
    finished: bool,
    reset: Reset,
}

/// One half of an end: whether it is still held by someone, and who waits on it.
struct Half {
    open: bool,
    waiting: Option<Waker>,
}

/// Whether the connection broke, as one end sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    No,
    /// The news is held on the way.
    Coming,
    Here,
}

impl Connection {
    /// A new connection whose pipes hold at most `capacity` unread bytes each.
    pub(super) fn new(dialer: SocketAddrV4, acceptor: SocketAddrV4, capacity: usize) -> Self {
        Self { dialer: End::new(dialer, capacity), acceptor: End::new(acceptor, capacity) }
    }

    /// The address of one end.
    pub(super) fn address(&self, side: Side) -> SocketAddrV4 {
        self.end(side).address
    }

    /// Whether nobody holds any part of it any more.
    pub(super) fn is_over(&self) -> bool {
        Side::BOTH.iter().all(|&side| self.end(side).is_gone())
    }

    /// Reads what has arrived at one end.
    pub(super) fn read(
        &mut self,
        side: Side,
        buf: &mut ReadBuf<'_>,
        links: &Links,
        now: Instant,
        task: (&Waker, &mut After),
    ) -> Progress<()> {
        let (waker, after) = task;
        let (end, peer) = self.both(side);
        // A host that stands still reads nothing, not even what has arrived.
        if !links.is_paused(*end.address.ip()) {
            if end.reset == Reset::Here {
                return Progress::Done(Err(io::ErrorKind::ConnectionReset.into()));
            }
            end.incoming.settle(now);
            if end.incoming.receive(buf) > 0 {
                after.wake(&mut peer.writer.waiting);
                return Progress::Done(Ok(()));
            }
            if end.incoming.is_ended() || buf.remaining() == 0 {
                return Progress::Done(Ok(()));
            }
        }
        after.register(&mut end.reader.waiting, waker);
        Progress::Wait(end.incoming.next_due())
    }

    /// Writes at one end as much as its pipe has room for.
    pub(super) fn write(
        &mut self,
        side: Side,
        bytes: &[u8],
        links: &Links,
        now: Instant,
        task: (&Waker, &mut After),
    ) -> Progress<usize> {
        let (waker, after) = task;
        let due = self.due_from(side, links, now);
        let (end, peer) = self.both(side);
        if end.reset == Reset::Here {
            return Progress::Done(Err(io::ErrorKind::ConnectionReset.into()));
        }
        end.incoming.settle(now);
        if end.finished || end.incoming.is_closed() {
            return Progress::Done(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let sent = peer.incoming.send(bytes, due);
        if sent == 0 && !bytes.is_empty() {
            after.register(&mut end.writer.waiting, waker);
            return Progress::Wait(end.incoming.close_due());
        }
        after.wake(&mut peer.reader.waiting);
        Progress::Done(Ok(sent))
    }

    /// Says at one end that nothing more will be written.
    pub(super) fn finish(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        let due = self.due_from(side, links, now);
        let (end, peer) = self.both(side);
        if !end.finished {
            end.finished = true;
            peer.incoming.send_end(due);
            after.wake(&mut peer.reader.waiting);
        }
    }

    /// Gives up the reading half of one end.
    pub(super) fn drop_reader(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        self.end_mut(side).reader.close(after);
        self.announce_close(side, links, now, after);
    }

    /// Gives up the writing half of one end.
    pub(super) fn drop_writer(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        self.finish(side, links, now, after);
        self.end_mut(side).writer.close(after);
        self.announce_close(side, links, now, after);
    }

    /// Breaks the connection at one end, whose holders learn it at once; the other end learns it when nothing is in
    /// the way.
    pub(super) fn reset(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        let (end, peer) = self.both(side);
        end.reset = Reset::Here;
        if peer.reset == Reset::No {
            peer.reset = Reset::Coming;
        }
        self.refresh(links, now, after);
    }

    /// Breaks every end that is on `host`.
    pub(super) fn reset_host(&mut self, host: Ipv4Addr, links: &Links, now: Instant, after: &mut After) {
        for side in Side::BOTH {
            if self.host(side) == host {
                self.reset(side, links, now, after);
            }
        }
    }

    /// Gives up an end that was never accepted: it breaks, and nobody holds it.
    pub(super) fn abandon(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        self.reset(side, links, now, after);
        let end = self.end_mut(side);
        end.reader.close(after);
        end.writer.close(after);
    }

    /// Applies what the links do now to what is under way, and lets everyone who waits look again.
    pub(super) fn refresh(&mut self, links: &Links, now: Instant, after: &mut After) {
        for side in Side::BOTH {
            let due = self.due_from(side.other(), links, now);
            let end = self.end_mut(side);
            match due {
                None => end.incoming.hold(now),
                Some(due) => {
                    end.incoming.release(due);
                    if end.reset == Reset::Coming {
                        end.reset = Reset::Here;
                    }
                }
            }
            after.wake(&mut end.reader.waiting);
            after.wake(&mut end.writer.waiting);
        }
    }

    fn announce_close(&mut self, side: Side, links: &Links, now: Instant, after: &mut After) {
        let due = self.due_from(side, links, now);
        let (end, peer) = self.both(side);
        if end.is_gone() {
            peer.incoming.send_close(due);
            // Its reader already waits for the end; a writer that waits for room must now wait for this too.
            after.wake(&mut peer.writer.waiting);
        }
    }

    fn due_from(&self, side: Side, links: &Links, now: Instant) -> Option<Instant> {
        links.due(self.host(side), self.host(side.other()), now)
    }

    fn host(&self, side: Side) -> Ipv4Addr {
        *self.end(side).address.ip()
    }

    fn end(&self, side: Side) -> &End {
        match side {
            Side::Dialer => &self.dialer,
            Side::Acceptor => &self.acceptor,
        }
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        self.both(side).0
    }

    /// The end itself, then its peer.
    fn both(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Dialer => (&mut self.dialer, &mut self.acceptor),
            Side::Acceptor => (&mut self.acceptor, &mut self.dialer),
        }
    }
}

impl End {
    fn new(address: SocketAddrV4, capacity: usize) -> Self {
        let half = || Half { open: true, waiting: None };
        Self {
            address,
            incoming: Pipe::new(capacity),
            reader: half(),
            writer: half(),
            finished: false,
            reset: Reset::No,
        }
    }

    fn is_gone(&self) -> bool {
        !self.reader.open && !self.writer.open
    }
}

impl Half {
    fn close(&mut self, after: &mut After) {
        self.open = false;
        after.discard(&mut self.waiting);
    }
}
