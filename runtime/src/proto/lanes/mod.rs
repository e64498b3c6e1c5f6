//! Lanes: in which order what one side of a connection has to say goes out.
//!
//! | lane | what is in it | order in it |
//! |---|---|---|
//! | control | what the nodes themselves say: credit, names, members | as it came |
//! | replies | answers of up to one piece | fair among the answering instances |
//! | calls | requests of up to one piece, watches, cancels | fair among the instances called |
//! | bulk | what is longer, in pieces, and what must not overtake it | fair among the messages |
//!
//! A lane goes before those below it, but bulk always gets one piece in a turn, so that it comes to an end however
//! much else there is. How much of it may be under way says the peer, and [`pace`] as long as something short moves. What
//! is fair is by deficit round robin ([`lane`]): as long as a lane has no backlog its frames are written one behind the
//! other into one buffer, and that costs nothing.
//!
//! # Order
//!
//! What one handle says to one instance stays in its order: a frame goes behind those of its instance in the calls
//! lane, and as long as a long message of the same handle is under way it goes behind that in the bulk lane. What says
//! that all before it has been said (`Down`, `NamesSynced`) waits until everything has left that was there when it came.
//!
//! Invariant: bytes and their order only. Whether a call is still wanted is asked of [`Calls`].

mod bulk;
mod lane;
mod pace;

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use crate::id::{InstanceId, RequestId, StreamId};

use super::frame::{Frame, PIECE};
use super::outgoing::Outgoing;
use bulk::Bulk;
use lane::Lane;

/// Whose order a message keeps: all that is said through one handle, or one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// That of a handle and its clones, by its number.
    Handle(u64),
    /// An answer: in no order with others.
    Reply(RequestId),
    /// The items of a stream that this side makes, by its number.
    Stream(StreamId),
}

/// What is known of a request that waits here: whom to ask whether it is still wanted, and what it has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// If somebody waits for its reply.
    pub(crate) call: Option<RequestId>,
    pub(crate) instance: InstanceId,
    /// The credit that was spent for it, in bytes, if any was.
    pub(crate) spent: Option<usize>,
}

/// The requests of this side, as the lanes see them.
pub(crate) trait Calls {
    /// Whether somebody still waits for it.
    fn wants(&mut self, call: RequestId) -> bool;
    /// Its last byte is handed to the socket now.
    fn leaves(&mut self, call: RequestId);
    /// It never leaves: nobody waits any more.
    fn is_dropped(&mut self, ticket: &Ticket);
}

/// What waits in the lanes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LaneBytes {
    pub(crate) control: usize,
    pub(crate) replies: usize,
    pub(crate) calls: usize,
    pub(crate) bulk: usize,
}

/// What waits to be written.
#[derive(Debug)]
pub(crate) struct Lanes {
    control: BytesMut,
    replies: Lane,
    calls: Lane,
    bulk: Bulk,
    /// What waits until all that was there before has left.
    behind: VecDeque<(u64, BytesMut)>,
    queued: Queued,
    /// How many whole frames were put here since the beginning.
    frames: u64,
}

/// Numbers what is not in a lane's first buffer, in the order in which it came.
#[derive(Debug, Default)]
struct Queued {
    last: u64,
    /// What has not left.
    waiting: BTreeSet<u64>,
}

impl Queued {
    fn add(&mut self) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last);
        self.last
    }

    fn leaves(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// Whether all up to that number have left.
    fn have_left(&self, number: u64) -> bool {
        self.waiting.first().is_none_or(|first| *first > number)
    }
}

/// A whole frame that waits.
#[derive(Debug)]
struct Item {
    number: u64,
    frame: BytesMut,
    ticket: Option<Ticket>,
}

impl Lanes {
    /// Nothing waits. `max_open` bytes of messages may be under way in pieces at a time, which is the longest message
    /// that the peer takes.
    pub(crate) fn new(max_open: usize) -> Self {
        Self {
            control: BytesMut::new(),
            replies: Lane::default(),
            calls: Lane::default(),
            bulk: Bulk::new(max_open),
            behind: VecDeque::new(),
            queued: Queued::default(),
            frames: 0,
        }
    }

    /// Whether nothing waits, so that whoever adds something must wake the driver.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
            && self.replies.is_empty()
            && self.control.is_empty()
            && self.bulk.is_empty()
            && self.behind.is_empty()
    }

    /// How many bytes wait in the calls lane.
    #[inline]
    pub(crate) fn calls_len(&self) -> usize {
        self.calls.len()
    }

    /// How many bytes wait in the bulk lane.
    pub(crate) fn bulk_len(&self) -> usize {
        self.bulk.len()
    }

    /// How many bytes wait in all.
    pub(crate) fn len(&self) -> usize {
        let LaneBytes { control, replies, calls, bulk } = self.waiting();
        control + replies + calls + bulk
    }

    /// What waits in each lane, in bytes.
    pub(crate) fn waiting(&self) -> LaneBytes {
        let behind: usize = self.behind.iter().map(|(_, frame)| frame.len()).sum();
        LaneBytes {
            control: self.control.len(),
            replies: self.replies.len(),
            calls: self.calls.len() + behind,
            bulk: self.bulk.len(),
        }
    }

    /// How many frames have gone out or wait, since the beginning; of long messages the pieces that have gone.
    pub(crate) fn frames(&self) -> u64 {
        self.frames + self.bulk.pieces()
    }

    /// Appends to what the nodes themselves say.
    pub(crate) fn put_control(&mut self, frame: &Frame) {
        self.frames += 1;
        frame.encode(&mut self.control);
    }

    /// Appends a frame that leaves after all that waits now.
    pub(crate) fn put_behind(&mut self, frame: &Frame) {
        self.frames += 1;
        if self.queued.waiting.is_empty() {
            // All that waits is in the lanes' first buffers, and the one of the calls goes last.
            return frame.encode(self.calls.front());
        }
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.behind.push_back((self.queued.last, bytes));
    }

    /// Appends a frame that must reach its instance in the order of its handle.
    pub(crate) fn put_in_order(&mut self, instance: InstanceId, order: Order, frame: &Frame) {
        let put = |out: &mut BytesMut| -> Result<(), std::convert::Infallible> {
            frame.encode(out);
            Ok(())
        };
        let Ok(_) = self.put_call(instance, order, put);
    }

    /// Appends a word about a request that has left: it goes with the next bytes, behind that request.
    pub(crate) fn put_cancel(&mut self, request: RequestId) {
        self.frames += 1;
        Frame::Cancel { id: request }.encode(self.calls.front());
    }

    /// Whether a long message of that order is under way, so that what follows it goes in the bulk lane too.
    #[inline]
    pub(crate) fn is_in_bulk(&self, order: Order) -> bool {
        self.bulk.has(order)
    }

    /// Appends the frame of a request that `put` appends; gives where it went, for [`Self::note`], and what `put` gave.
    /// `put` leaves the buffer as it was if it fails.
    ///
    /// # Errors
    /// That of `put`.
    #[inline]
    pub(crate) fn put_call<T, E>(
        &mut self,
        instance: InstanceId,
        order: Order,
        put: impl FnOnce(&mut BytesMut) -> Result<T, E>,
    ) -> Result<(Place, T), E> {
        self.frames += 1; // one that could not be encoded counts, which happens seldom
        if self.bulk.has(order) {
            return self.queue_call(instance, Some(order), put);
        }
        match self.calls.direct() {
            Some(front) => put(front).map(|given| (Place::Direct, given)),
            None => self.queue_call(instance, None, put),
        }
    }

    #[cold]
    fn queue_call<T, E>(
        &mut self,
        instance: InstanceId,
        bulk: Option<Order>,
        put: impl FnOnce(&mut BytesMut) -> Result<T, E>,
    ) -> Result<(Place, T), E> {
        let mut frame = BytesMut::new();
        let given = put(&mut frame)?;
        let item = Item { number: self.queued.add(), frame, ticket: None };
        match bulk {
            Some(order) => self.bulk.push_whole(order, item),
            None => self.calls.push(instance.0, item),
        }
        Ok((Place::Queued, given))
    }

    /// Says what the request is that was put last.
    #[inline]
    pub(crate) fn note(&mut self, place: Place, order: Order, ticket: Ticket) {
        match place {
            Place::Direct => {
                if let Some(call) = ticket.call {
                    self.calls.mark(call);
                }
            }
            Place::Queued if self.bulk.has(order) => self.bulk.note(order, ticket),
            Place::Queued => self.calls.note(ticket.instance.0, ticket),
        }
    }

    /// Appends a long request, or a long answer, which goes in pieces.
    pub(crate) fn put_long(
        &mut self,
        order: Order,
        instance: InstanceId,
        message: Vec<Bytes>,
        ticket: Option<Ticket>,
    ) {
        let number = self.queued.add();
        // What its handle said to the instance before is on its way, or stands in that instance's queue.
        let after = (!matches!(order, Order::Reply(_))).then(|| self.calls.last_of(instance.0)).flatten();
        self.bulk.push_long(order, number, instance.0, after, message, ticket);
    }

    /// Appends the frame of an answer that `put` appends. `put` leaves the buffer as it was if it fails.
    ///
    /// # Errors
    /// That of `put`.
    #[inline]
    pub(crate) fn put_reply<E>(
        &mut self,
        instance: InstanceId,
        put: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.frames += 1;
        if let Some(front) = self.replies.direct() {
            return put(front);
        }
        let mut frame = BytesMut::new();
        put(&mut frame)?;
        self.replies.push(instance.0, Item { number: self.queued.add(), frame, ticket: None });
        Ok(())
    }

    /// Appends the frame of an item of a stream that `put` appends, behind the items before it. `put` leaves the buffer as
    /// it was if it fails.
    ///
    /// # Errors
    /// That of `put`.
    pub(crate) fn put_item<T, E>(
        &mut self,
        stream: StreamId,
        put: impl FnOnce(&mut BytesMut) -> Result<T, E>,
    ) -> Result<T, E> {
        self.put_call(flow_of(stream), Order::Stream(stream), put).map(|(_, given)| given)
    }

    /// Appends a frame behind the items of a stream.
    pub(crate) fn put_behind_items(&mut self, stream: StreamId, frame: &Frame) {
        self.put_in_order(flow_of(stream), Order::Stream(stream), frame);
    }

    /// Appends a long item of a stream.
    pub(crate) fn put_long_item(&mut self, stream: StreamId, message: Vec<Bytes>) {
        self.put_long(Order::Stream(stream), flow_of(stream), message, None);
    }

    /// Nobody reads a stream any more.
    pub(crate) fn drop_stream(&mut self, stream: StreamId) {
        self.bulk.drop_order(Order::Stream(stream));
    }

    /// Nobody waits for a long answer any more.
    pub(crate) fn drop_reply(&mut self, request: RequestId) {
        self.bulk.drop_order(Order::Reply(request));
    }

    /// The peer has taken so many bytes of pieces, and takes `window` more ahead of that.
    pub(crate) fn pieces_taken(&mut self, total: u64, now: Instant) {
        self.bulk.taken(total, now);
    }

    /// The peer says how many bytes of pieces may be under way to it.
    pub(crate) fn set_bulk_window(&mut self, bytes: u64) {
        self.bulk.set_window(bytes);
    }

    /// Moves what is to be written next to `out`, about [`TAKE`] bytes if there are so many. `false` if nothing was.
    pub(crate) fn take(&mut self, out: &mut Outgoing, now: Instant, calls: &mut impl Calls) -> bool {
        let before = out.remaining();
        if !(self.calls.is_empty() && self.replies.is_empty()) {
            self.bulk.short(now);
        }
        if !self.control.is_empty() {
            let control = std::mem::replace(&mut self.control, out.spare());
            out.push(control, &mut Vec::new());
        }
        self.replies.take(out, TAKE, &mut self.queued, calls);
        self.calls.take(out, TAKE, &mut self.queued, calls);
        let left = TAKE.saturating_sub(out.remaining() - before);
        self.bulk.take(out, (now, left.max(1)), &mut self.queued, &self.calls, calls);
        while let Some((number, _)) = self.behind.front()
            && self.queued.have_left(*number)
            && let Some((_, frame)) = self.behind.pop_front()
        {
            out.append(|last| last.extend_from_slice(&frame));
        }
        out.remaining() > before
    }

    /// The calls that wait in the lanes' first buffers.
    pub(crate) fn unsent_calls(&self) -> impl Iterator<Item = RequestId> {
        self.calls.marks().iter().map(|(call, _)| *call)
    }
}

/// Among the instances a stream takes its turn like another one: their numbers begin at the other end.
fn flow_of(stream: StreamId) -> InstanceId {
    InstanceId(!stream.0)
}

/// Where a frame was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It goes with the next bytes.
    Direct,
    /// It waits for its turn.
    Queued,
}

/// About how many bytes are handed to the socket at once: what comes later and goes before them waits for so many.
pub(crate) const TAKE: usize = 2 * PIECE;

#[cfg(test)]
mod tests;
