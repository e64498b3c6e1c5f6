//! The link as its driver uses it: what goes out, what has come, and the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use crate::error::CallError;
use crate::id::{InstanceId, RequestId};
use crate::proto::flow::Amount;
use crate::proto::frame::{Frame, Window};
use crate::proto::in_flight::InFlight;
use crate::proto::inbound::{CancelOutcome, Insert};
use crate::proto::lanes::{Calls, Ticket};
use crate::proto::outgoing::Outgoing;

use super::accounts::{Accounts, Woken};
use super::{Link, State, Waiter};

/// What the driver does for the peer's requests that have left.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// The instances, and the bytes of the arguments.
    pub(crate) requests: Vec<(InstanceId, usize)>,
    pub(crate) gone: Vec<InstanceId>,
}

/// What goes out.
impl Link {
    /// Moves what is to be written next to `out`, and what has left to `released`, which must be empty. If nothing is to be
    /// written, what comes next wakes [`Link::outgoing`].
    pub(crate) fn take_outgoing(&self, out: &mut Outgoing, released: &mut Released, now: Instant) {
        let mut state = self.state();
        let State { lanes, in_flight, accounts, .. } = &mut *state;
        let mut owners = Owners { in_flight, accounts, woken: Vec::new() };
        let any = lanes.take(out, now, &mut owners);
        let mut woken = owners.woken;
        std::mem::swap(&mut state.released, &mut released.requests);
        std::mem::swap(&mut state.gone, &mut released.gone);
        state.is_idle = !any;
        // Not at the first byte of room: who waits comes, and most would find none.
        let calls = state.is_room_awaited.calls && state.lanes.calls_len() <= self.limits.send_buffer / 2;
        let bulk = state.is_room_awaited.bulk && state.lanes.bulk_len() <= self.limits.long_send_buffer / 2;
        if calls || bulk {
            state.is_room_awaited.calls &= !calls;
            state.is_room_awaited.bulk &= !bulk;
            woken.push(state.accounts.wake_all());
        }
        let makers = if calls || bulk { state.streams.room() } else { Vec::new() };
        drop(state);
        if !any {
            self.was_written();
        }
        woken.into_iter().for_each(Woken::wake);
        makers.into_iter().for_each(Waker::wake);
    }

    /// Whether nothing waits to be written, on this connection and on the others to the peer.
    pub(crate) fn is_drained(&self) -> bool {
        let is_written = |link: &Arc<Self>| {
            let state = link.state();
            state.is_idle && state.lanes.is_empty()
        };
        self.family().iter().all(is_written)
    }

    /// Whether so much waits to be written that the peer must be cut off.
    pub(crate) fn is_overrun(&self) -> bool {
        self.state().lanes.len() > self.limits.unread
    }

    /// Ends when something may wait to be written. Cancel safe.
    pub(crate) async fn outgoing(&self) {
        self.data.notified().await;
    }

    /// Appends a frame of the nodes' own, whatever waits already.
    pub(crate) fn put(&self, frame: &Frame) {
        let mut state = self.state();
        state.lanes.put_control(frame);
        self.added(state);
    }

    /// Appends a frame that leaves after all that waits now on this connection.
    pub(super) fn put_behind(&self, frame: &Frame) {
        let mut state = self.state();
        state.lanes.put_behind(frame);
        self.added(state);
    }
}

/// What has come.
impl Link {
    /// A request of this side has its answer. An answer that nobody waits for is dropped.
    pub(crate) fn answered(&self, id: RequestId, answer: Result<Bytes, CallError>) {
        let mut state = self.state();
        let was_full = state.in_flight.is_full();
        let waiter = state.in_flight.remove(id);
        let woken = if was_full { state.accounts.wake_all() } else { Woken::default() };
        drop(state);
        woken.wake();
        if let Some(waiter) = waiter {
            drop(waiter.slot.send(answer)); // the caller gave up at this very moment
        }
    }

    /// Notes a request of the peer that wants a reply.
    pub(crate) fn begin_inbound(&self, id: RequestId, instance: InstanceId) -> Insert {
        self.state().inbound.insert(id, instance)
    }

    /// The peer cancels one of its requests.
    pub(crate) fn cancel_inbound(&self, id: RequestId) {
        self.any_cancel.store(true, Ordering::Release);
        let mut state = self.state();
        let outcome = state.inbound.cancel(id);
        match outcome {
            CancelOutcome::Cancelled(Some(waker)) => {
                drop(state);
                waker.wake();
            }
            CancelOutcome::Unknown => state.lanes.drop_reply(id),
            CancelOutcome::Cancelled(None) | CancelOutcome::Already => {}
        }
    }

    /// The peer says what it takes ahead.
    pub(crate) fn set_window(&self, window: Window) {
        let mut state = self.state();
        let woken = state.accounts.set_window(window.instance);
        state.lanes.set_bulk_window(window.pieces);
        self.added(state);
        woken.wake();
    }

    /// The peer grants credit.
    pub(crate) fn grant(&self, instance: InstanceId, totals: Amount) {
        let woken = self.state().accounts.grant(instance, totals);
        woken.wake();
    }

    /// The peer says that an instance has ended.
    pub(crate) fn gone(&self, instance: InstanceId) {
        let woken = self.state().accounts.gone(instance);
        woken.wake();
    }

    /// The peer has taken so many bytes of pieces.
    pub(crate) fn pieces_taken(&self, total: u64, now: Instant) {
        let mut state = self.state();
        state.lanes.pieces_taken(total, now);
        self.added(state);
    }

    /// Whether more than one request is under way.
    pub(crate) fn is_shared(&self) -> bool {
        let (own, peers) = self.open_requests();
        own + peers > 1
    }

    /// Whether nothing goes on over any connection to the peer, and nothing waits to.
    pub(crate) fn is_family_unused(&self) -> bool {
        self.family().iter().all(|link| link.is_unused())
    }

    /// Whether nothing goes on over it, and nothing waits to.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.state();
        let is_still = state.in_flight.len() == 0 && state.inbound.len() == 0 && state.lanes.is_empty();
        is_still && state.streams.is_empty() && !state.watches.any()
    }

    /// How many requests wait for an answer: of this side, and of the peer.
    pub(crate) fn open_requests(&self) -> (usize, usize) {
        let state = self.state();
        (state.in_flight.len(), state.inbound.len())
    }
}

/// The end.
impl Link {
    /// Ends the link: whoever waits is answered, whoever works for the peer is cancelled. Whoever watches is told by the
    /// driver, when all that arrived is dealt with: [`Link::end_watches`].
    ///
    /// Calls that have not left certainly did not run: those that wait here, and those that are in `unsent`.
    pub(crate) fn close(&self, reason: &str, unsent: Option<&Outgoing>) {
        let mut state = self.state();
        // Under the lock: a request either is found below or sees the end.
        if !self.open.swap(false, Ordering::AcqRel) {
            return;
        }
        let unsent: HashSet<RequestId> =
            state.lanes.unsent_calls().chain(unsent.into_iter().flat_map(Outgoing::unsent_calls)).collect();
        let waiters: Vec<_> = state.in_flight.drain().collect();
        let wakers = state.inbound.cancel_all();
        let woken = state.accounts.close();
        let streams = state.streams.close();
        state.pings.end();
        drop(state);
        woken.wake();
        streams.tell(|| {
            let detail =
                format!("the connection to {} ended before the stream did: {reason}", self.peer.node);
            CallError::Disconnected(detail.into())
        });
        for (id, Waiter { slot, is_queued }) in waiters {
            let node = &self.peer.node;
            let error = if is_queued || unsent.contains(&id) {
                let detail = format!("the connection to {node} ended before the request was sent: {reason}");
                CallError::NoRoute(detail.into())
            } else {
                let detail = format!("the connection to {node} ended before the reply came: {reason}");
                CallError::Disconnected(detail.into())
            };
            drop(slot.send(Err(error)));
        }
        wakers.into_iter().for_each(Waker::wake);
        self.data.notify_one();
    }
}

/// The requests of this side, for the lanes.
struct Owners<'a> {
    in_flight: &'a mut InFlight<Waiter>,
    accounts: &'a mut Accounts,
    woken: Vec<Woken>,
}

impl Calls for Owners<'_> {
    fn wants(&mut self, call: RequestId) -> bool {
        self.in_flight.get_mut(call).is_some()
    }

    fn leaves(&mut self, call: RequestId) {
        if let Some(waiter) = self.in_flight.get_mut(call) {
            waiter.is_queued = false;
        }
    }

    fn is_dropped(&mut self, ticket: &Ticket) {
        if let Some(bytes) = ticket.spent {
            self.woken.push(self.accounts.refund(ticket.instance, bytes));
        }
    }
}

#[cfg(test)]
impl Link {
    /// The end of a connection to a node of that name, which makes no tasks.
    pub(crate) fn to(peer: &str) -> Arc<Self> {
        let peer = crate::proto::settings::PeerIdentity::of(peer);
        Self::new(&peer, crate::config::Limits::default(), Arc::new(|_| {}))
    }

    pub(crate) fn has_watches(&self) -> bool {
        self.state().watches.any()
    }

    /// All that is to be written next.
    pub(crate) fn taken(&self) -> bytes::BytesMut {
        use bytes::Buf;
        let mut out = Outgoing::default();
        self.take_outgoing(&mut out, &mut Released::default(), crate::proto::tests::start());
        bytes::BytesMut::from(out.copy_to_bytes(out.remaining()))
    }
}
