//! A lane of whole frames: one buffer as long as it is short, and then a queue for each instance.
//!
//! The queues take turns by deficit round robin (Shreedhar and Varghese, "Efficient Fair Queuing using Deficit Round
//! Robin", 1995): in each turn a queue may send so many bytes more, and what it does not use it keeps while it has
//! frames.
//!
//! Invariant: what is in the buffer goes before what is in the queues, and a queue never changes its order.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use crate::id::RequestId;

use super::{Calls, Item, Queued, Ticket};
use crate::proto::frame::PIECE;
use crate::proto::outgoing::Outgoing;

/// How many bytes may stand in the buffer before frames are queued.
const FRONT: usize = PIECE;

/// How many bytes a queue may send more in each turn.
const QUANTUM: usize = 8 * 1024;

#[derive(Debug, Default)]
pub(super) struct Lane {
    front: BytesMut,
    /// The calls in `front`, and where each ends.
    marks: Vec<(RequestId, usize)>,
    /// Ordered, because its keys may be the peer's to choose.
    flows: BTreeMap<u64, Flow>,
    /// The flows in the order of their turns.
    turns: VecDeque<u64>,
    /// How many bytes are in the flows.
    queued: usize,
}

#[derive(Debug, Default)]
struct Flow {
    items: VecDeque<Item>,
    deficit: usize,
}

impl Lane {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.turns.is_empty()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.queued
    }

    /// The buffer, if a frame of anybody may be appended to it.
    #[inline]
    pub(super) fn direct(&mut self) -> Option<&mut BytesMut> {
        (self.turns.is_empty() && self.front.len() < FRONT).then_some(&mut self.front)
    }

    /// The buffer, for what is small and behind nothing that is queued.
    pub(super) fn front(&mut self) -> &mut BytesMut {
        &mut self.front
    }

    /// Notes that a call ends where the buffer ends.
    #[inline]
    pub(super) fn mark(&mut self, call: RequestId) {
        self.marks.push((call, self.front.len()));
    }

    pub(super) fn marks(&self) -> &[(RequestId, usize)] {
        &self.marks
    }

    /// Queues a frame.
    pub(super) fn push(&mut self, key: u64, item: Item) {
        self.queued += item.frame.len();
        let flow = self.flows.entry(key).or_insert_with(|| {
            self.turns.push_back(key);
            Flow::default()
        });
        flow.items.push_back(item);
    }

    /// Says what the frame is that was queued last.
    pub(super) fn note(&mut self, key: u64, ticket: Ticket) {
        if let Some(last) = self.flows.get_mut(&key).and_then(|flow| flow.items.back_mut()) {
            last.ticket = Some(ticket);
        }
    }

    /// The number of what was queued last under a key, if that is still here.
    pub(super) fn last_of(&self, key: u64) -> Option<u64> {
        Some(self.flows.get(&key)?.items.back()?.number)
    }

    /// Whether something up to that number is queued under a key.
    pub(super) fn has_up_to(&self, key: u64, number: u64) -> bool {
        let first = self.flows.get(&key).and_then(|flow| flow.items.front());
        first.is_some_and(|first| first.number <= number)
    }

    /// Moves the buffer, and up to `most` bytes with it, to `out`.
    pub(super) fn take(
        &mut self,
        out: &mut Outgoing,
        most: usize,
        queued: &mut Queued,
        calls: &mut impl Calls,
    ) {
        let mut taken = self.front.len();
        if taken > 0 {
            let front = std::mem::replace(&mut self.front, out.spare());
            out.push(front, &mut self.marks);
        }
        while taken < most
            && let Some(key) = self.turns.pop_front()
            && let Some(flow) = self.flows.get_mut(&key)
        {
            flow.deficit += QUANTUM;
            while flow.items.front().is_some_and(|item| item.frame.len() <= flow.deficit)
                && let Some(item) = flow.items.pop_front()
            {
                let length = item.frame.len();
                self.queued -= length;
                queued.leaves(item.number);
                if send(item, out, calls) {
                    flow.deficit -= length;
                    taken += length;
                }
            }
            if flow.items.is_empty() {
                self.flows.remove(&key);
            } else {
                self.turns.push_back(key);
            }
        }
    }
}

/// Appends a frame to `out`, unless nobody wants it any more.
pub(super) fn send(item: Item, out: &mut Outgoing, calls: &mut impl Calls) -> bool {
    let Item { frame, ticket, .. } = item;
    let call = ticket.and_then(|ticket| ticket.call);
    if let (Some(ticket), Some(call)) = (&ticket, call)
        && !calls.wants(call)
    {
        calls.is_dropped(ticket);
        return false;
    }
    out.append(|last| last.extend_from_slice(&frame));
    if let Some(call) = call {
        calls.leaves(call);
        out.mark(call);
    }
    true
}
