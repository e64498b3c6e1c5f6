//! The link as callers use it: requests, and that their replies are not wanted any more.

use std::sync::MutexGuard;

use crate::id::{InstanceId, RequestId};
use crate::proto::frame::{self, PutError, RequestHead};
use crate::proto::lanes::{self, Order, Ticket};

use super::accounts::Woken;
use super::streams::{self, Given};
use super::{Awaited, Encode, Handed, Head, Link, Place, Refused, ReplySlot, State, Waiter, unsendable};

impl Link {
    /// Hands a request over. With a `waiter` it is a call, and the waiter is always answered. Who has waited for it says
    /// so by its `place`, whose turn it is.
    ///
    /// # Errors
    /// [`Refused`]; the waiter is not told then.
    pub(crate) fn request(
        &self,
        head: Head,
        waiter: Option<ReplySlot>,
        payload: Encode<'_>,
        place: Option<&Place>,
    ) -> Result<Handed, Refused> {
        if place.is_some_and(Place::is_gone) {
            return Err(Refused::Gone);
        }
        // Who asks again and again is not to take the lock from the callers of other instances.
        if place.is_none() && !head.is_ahead && self.exhausted.has(head.instance) {
            return Err(Refused::NoCredit);
        }
        let mut state = self.state();
        let (order, ticket) = (Order::Handle(head.order), place.map(|place| place.ticket));
        let waits_behind_long = state.lanes.is_in_bulk(order);
        let is_long = self.has_flow && head.is_likely_long;
        self.check_room(&mut state, head.instance, head.is_ahead, ticket, waits_behind_long || is_long)?;
        let id = state.in_flight.number();
        let head = RequestHead {
            id,
            instance: head.instance,
            method: head.method,
            remaining: head.remaining,
            wants_reply: waiter.is_some(),
            is_ahead: head.is_ahead && self.has_flow,
            is_impatient: head.is_impatient && self.has_flow,
            chain: head.chain,
            trace: head.trace.filter(|_| self.has_trace()),
        };
        if is_long {
            drop(state);
            return self.request_long(&head, order, waiter, payload, ticket);
        }
        // The user's `Serialize` may refuse or panic: the waiter is noted only after it.
        let (put, given) = self.writing(|| {
            let put = |out: &mut _| frame::put_request(out, &head, self.whole(), payload);
            state.lanes.put_call(head.instance, order, put)
        });
        match put {
            Ok((place, bytes)) => {
                state.streams.add(&given);
                let ticket = state.spend(&head, bytes);
                state.lanes.note(place, order, ticket);
                if let Some(slot) = waiter {
                    state.in_flight.hold(id, Waiter { slot, is_queued: place == lanes::Place::Queued });
                }
                self.added(state);
                self.begin_streams(given);
                Ok(Handed { id, is_long: false })
            }
            // Not under the lock: it takes as long as it is.
            Err(PutError::TooLarge { .. }) if self.has_flow => {
                drop(state);
                self.request_long(&head, order, waiter, payload, ticket)
            }
            Err(error) => Err(Refused::Unsendable(unsendable(error))),
        }
    }

    /// As [`Link::request`], for what does not fit in one frame, or probably does not.
    #[cold]
    fn request_long(
        &self,
        head: &RequestHead,
        order: Order,
        waiter: Option<ReplySlot>,
        payload: Encode<'_>,
        ticket: Option<u64>,
    ) -> Result<Handed, Refused> {
        let (long, given) = self.writing(|| frame::long_request(head, self.limit, payload));
        let (message, bytes) = long.map_err(|error| Refused::Unsendable(unsendable(error)))?;
        let mut state = self.state();
        // Others may have come meanwhile.
        self.check_room(&mut state, head.instance, head.is_ahead, ticket, true)?;
        state.streams.add(&given);
        let ticket = state.spend(head, bytes);
        let is_long = message.iter().map(bytes::Bytes::len).sum::<usize>() > self.whole();
        if let Some(slot) = waiter {
            state.in_flight.hold(head.id, Waiter { slot, is_queued: true });
        }
        state.lanes.put_long(order, head.instance, message, Some(ticket));
        self.added(state);
        self.begin_streams(given);
        Ok(Handed { id: head.id, is_long })
    }

    /// Runs `f`, which writes a message; gives the streams in it. Without the feature a stream cannot be written.
    #[inline]
    pub(super) fn writing<T>(&self, f: impl FnOnce() -> T) -> (T, Vec<Given>) {
        if self.has_streams() { streams::writing(&self.stream_numbers, f) } else { (f(), Vec::new()) }
    }

    #[inline]
    fn check_room(
        &self,
        state: &mut MutexGuard<'_, State>,
        instance: InstanceId,
        is_ahead: bool,
        ticket: Option<u64>,
        is_bulk: bool,
    ) -> Result<(), Refused> {
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        let is_full = if is_bulk { state.is_bulk_full(&self.limits) } else { state.is_full(&self.limits) };
        let Awaited { calls, bulk } = &mut state.is_room_awaited;
        let is_awaited = if is_bulk { bulk } else { calls };
        if is_full || (*is_awaited && ticket.is_none()) {
            *is_awaited = true;
            state.accounts.hold(instance, ticket);
            return Err(Refused::Full);
        }
        if !is_ahead && !state.accounts.may_send(instance, ticket) {
            return Err(Refused::NoCredit);
        }
        Ok(())
    }

    /// The caller of `id` gave up: its reply is not wanted, and the peer is told if it has seen the request.
    pub(crate) fn cancel(&self, id: RequestId) {
        let mut state = self.state();
        let was_full = state.in_flight.is_full();
        let Some(waiter) = state.in_flight.remove(id) else { return };
        let woken = if was_full { state.accounts.wake_all() } else { Woken::default() };
        // What stands in a queue is passed over when its turn comes.
        if !waiter.is_queued && self.is_open() {
            state.lanes.put_cancel(id);
            self.added(state);
        } else {
            drop(state);
        }
        woken.wake();
        drop(waiter); // outside the lock
    }
}

impl State {
    /// Notes what a request costs.
    #[inline]
    fn spend(&mut self, head: &RequestHead, bytes: usize) -> Ticket {
        let spent = (!head.is_ahead).then_some(bytes);
        if let Some(bytes) = spent {
            self.accounts.spend(head.instance, bytes);
        }
        Ticket { call: head.wants_reply.then_some(head.id), instance: head.instance, spent }
    }
}
