//! The lane of long messages: they go in pieces, one of each in turn.
//!
//! How many bytes of pieces are under way is bounded by a window, which the peer moves on as it takes them. So what
//! comes after them, and is short, waits for no more than that on the wire.
//!
//! Invariant: a message's bytes are shared and never copied; pieces of a message go in order, and so does what is
//! behind it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use super::lane::{Lane, send};
use super::pace::Pace;
use super::{Calls, Item, Order, Queued, Ticket};
use crate::proto::frame::PIECE;
use crate::proto::outgoing::Outgoing;
use crate::proto::pieces::{self, MAX_OPEN, PIECE_BYTES, PieceHead};

/// How many bytes of pieces may be under way before the peer has said its window.
const FIRST_WINDOW: u64 = PIECE as u64;

/// The longest piece while something short is sent beside it.
pub(super) const FINE: usize = PIECE / 4;

#[derive(Debug)]
pub(super) struct Bulk {
    flows: BTreeMap<Order, VecDeque<Entry>>,
    turns: VecDeque<Order>,
    /// How many bytes wait here.
    queued: usize,
    /// The messages of which pieces were sent and others not, and how long these are together.
    open: (usize, usize),
    max_open: usize,
    last_message: u32,
    /// How many pieces were sent.
    pieces: u64,
    sent: u64,
    taken: u64,
    window: u64,
    pace: Pace,
}

#[derive(Debug)]
enum Entry {
    Whole(Item),
    Long(Long),
}

#[derive(Debug)]
struct Long {
    number: u64,
    /// Its number on the wire, once a piece was sent.
    message: Option<u32>,
    /// Not before this one of that key in the calls lane has left.
    after: Option<(u64, u64)>,
    left: VecDeque<Bytes>,
    total: usize,
    length_left: usize,
    ticket: Option<Ticket>,
    is_unwanted: bool,
}

/// What came of a turn.
enum Turn {
    /// So many bytes were sent, or something was given up.
    Sent(usize),
    /// Nothing may go now.
    Blocked,
}

impl Bulk {
    pub(super) fn new(max_open: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            turns: VecDeque::new(),
            queued: 0,
            open: (0, 0),
            max_open,
            last_message: 0,
            pieces: 0,
            sent: 0,
            taken: 0,
            window: FIRST_WINDOW,
            pace: Pace::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.queued
    }

    /// How many pieces were sent.
    pub(super) fn pieces(&self) -> u64 {
        self.pieces
    }

    #[inline]
    pub(super) fn has(&self, order: Order) -> bool {
        !self.turns.is_empty() && self.flows.contains_key(&order)
    }

    fn has_window(&mut self, now: Instant) -> bool {
        self.sent - self.taken < self.pace.window(now, self.window)
    }

    /// Something short is sent beside what is here.
    pub(super) fn short(&mut self, now: Instant) {
        self.pace.short(now);
    }

    pub(super) fn set_window(&mut self, bytes: u64) {
        self.window = bytes.max(FIRST_WINDOW);
    }

    /// The peer has taken so many bytes. One that says more than was sent says all.
    pub(super) fn taken(&mut self, total: u64, now: Instant) {
        self.taken = self.taken.max(total.min(self.sent));
        self.pace.taken(now, self.taken, self.sent);
    }

    pub(super) fn push_whole(&mut self, order: Order, item: Item) {
        self.queued += item.frame.len();
        self.flow(order).push_back(Entry::Whole(item));
    }

    /// Says what the frame is that was queued last.
    pub(super) fn note(&mut self, order: Order, ticket: Ticket) {
        if let Some(Entry::Whole(last)) = self.flows.get_mut(&order).and_then(|flow| flow.back_mut()) {
            last.ticket = Some(ticket);
        }
    }

    pub(super) fn push_long(
        &mut self,
        order: Order,
        number: u64,
        key: u64,
        after: Option<u64>,
        message: Vec<Bytes>,
        ticket: Option<Ticket>,
    ) {
        let total = message.iter().map(Bytes::len).sum();
        self.queued += total;
        let after = after.map(|after| (key, after));
        let (left, message) = (message.into(), None);
        let is_unwanted = false;
        self.flow(order).push_back(Entry::Long(Long {
            number,
            message,
            after,
            left,
            total,
            length_left: total,
            ticket,
            is_unwanted,
        }));
    }

    /// Nobody wants any more what is under way in that order.
    pub(super) fn drop_order(&mut self, order: Order) {
        for entry in self.flows.get_mut(&order).into_iter().flatten() {
            if let Entry::Long(long) = entry {
                long.is_unwanted = true;
            }
        }
    }

    fn flow(&mut self, order: Order) -> &mut VecDeque<Entry> {
        self.flows.entry(order).or_insert_with(|| {
            self.turns.push_back(order);
            VecDeque::new()
        })
    }

    /// Moves about `most` bytes to `out`, whole pieces.
    pub(super) fn take(
        &mut self,
        out: &mut Outgoing,
        (now, most): (Instant, usize),
        queued: &mut Queued,
        before: &Lane,
        calls: &mut impl Calls,
    ) {
        let (mut taken, mut blocked) = (0, 0);
        while taken < most
            && blocked < self.turns.len()
            && let Some(order) = self.turns.pop_front()
        {
            let Some(mut flow) = self.flows.remove(&order) else { continue };
            match self.turn(&mut flow, out, now, queued, before, calls) {
                Turn::Sent(bytes) => {
                    taken += bytes;
                    blocked = 0;
                }
                Turn::Blocked => blocked += 1,
            }
            if !flow.is_empty() {
                self.flows.insert(order, flow);
                self.turns.push_back(order);
            }
        }
    }

    /// One piece of the first message of a flow, or as many whole frames as fit in one.
    fn turn(
        &mut self,
        flow: &mut VecDeque<Entry>,
        out: &mut Outgoing,
        now: Instant,
        queued: &mut Queued,
        before: &Lane,
        calls: &mut impl Calls,
    ) -> Turn {
        let mut sent = 0;
        let mut any = false;
        while sent < PIECE
            && let Some(Entry::Whole(_)) = flow.front()
            && let Some(Entry::Whole(item)) = flow.pop_front()
        {
            let length = item.frame.len();
            self.queued -= length;
            queued.leaves(item.number);
            any = true;
            if send(item, out, calls) {
                sent += length;
            }
        }
        if any {
            return Turn::Sent(sent);
        }
        let Some(Entry::Long(long)) = flow.front_mut() else { return Turn::Blocked };
        let is_wanted = !long.is_unwanted && long.call().is_none_or(|call| calls.wants(call));
        if !is_wanted {
            let sent = self.give_up(long, out, calls);
            queued.leaves(long.number);
            flow.pop_front();
            return Turn::Sent(sent);
        }
        if long.after.is_some_and(|(key, number)| before.has_up_to(key, number))
            || !self.has_window(now)
            || (long.message.is_none() && !self.may_open(long.total))
        {
            return Turn::Blocked;
        }
        let sent = self.send_piece(long, out, now);
        if long.length_left == 0 {
            if let Some(call) = long.call() {
                calls.leaves(call);
                out.mark(call);
            }
            self.close(long.total);
            queued.leaves(long.number);
            flow.pop_front();
        }
        Turn::Sent(sent)
    }

    fn may_open(&self, total: usize) -> bool {
        let (count, length) = self.open;
        count == 0 || (count < MAX_OPEN && length + total <= self.max_open)
    }

    fn close(&mut self, total: usize) {
        self.open = (self.open.0 - 1, self.open.1 - total);
    }

    fn send_piece(&mut self, long: &mut Long, out: &mut Outgoing, now: Instant) -> usize {
        let most = if self.pace.is_shared(now) { FINE } else { PIECE_BYTES };
        let length = long.length_left.min(most);
        let (message, total) = if let Some(message) = long.message {
            (message, None)
        } else {
            self.last_message = self.last_message.wrapping_add(1);
            long.message = Some(self.last_message);
            self.open = (self.open.0 + 1, self.open.1 + long.total);
            (self.last_message, Some(long.total))
        };
        out.append(|last| pieces::put_head(last, PieceHead { message, total, is_given_up: false }, length));
        let mut missing = length;
        while missing > 0
            && let Some(chunk) = long.left.front_mut()
        {
            let part = chunk.split_to(chunk.len().min(missing));
            missing -= part.len();
            out.push_shared(part);
            if chunk.is_empty() {
                long.left.pop_front();
            }
        }
        long.length_left -= length;
        self.queued -= length;
        self.sent += length as u64;
        self.pieces += 1;
        self.pace.sent(now, length as u64, self.sent, self.taken);
        length
    }

    /// Takes back a message that nobody wants; the peer is told if it has pieces of it.
    fn give_up(&mut self, long: &mut Long, out: &mut Outgoing, calls: &mut impl Calls) -> usize {
        self.queued -= long.length_left;
        if let Some(ticket) = &long.ticket {
            calls.is_dropped(ticket);
        }
        let Some(message) = long.message else { return 0 };
        self.close(long.total);
        out.append(|last| {
            pieces::put_head(last, PieceHead { message, total: None, is_given_up: true }, 0);
        });
        1
    }
}

impl Long {
    fn call(&self) -> Option<crate::id::RequestId> {
        self.ticket.and_then(|ticket| ticket.call)
    }
}
