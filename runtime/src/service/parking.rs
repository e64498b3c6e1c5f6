//! Where requests of peers wait for room in a mailbox, or for somebody to read their arguments.
//!
//! A peer's requests wait here one behind the other, at most as many as its credit allows. A task takes them to the
//! mailbox, where it waits like any caller of this node. It is made for the first and ends with the last.
//!
//! What is left of a connection that has ended is run before what comes over the next one of the same peer, so that the
//! order is kept, and is given up if it takes the place of that: then the end of what the ended connection brought is
//! lost, and nothing in its middle.
//!
//! Invariant: whoever sent a request is told when it has left, and what leaves does so in the order in which it came.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::event::DeadLetterReason;
use crate::id::{Incarnation, NodeId};
use crate::port::Peer;
use crate::service::deliver::{Arrival, Reachable};
use crate::service::mailbox::Refused;
use crate::service::message::{Envelope, Item, WireMessage};
use crate::service::payload::KEPT;

/// The requests that wait for one instance.
pub(super) struct Parking<M> {
    /// Guards who waits, by the peer's life. There is a task for each.
    peers: Mutex<Peers<M>>,
    /// How many peers: most instances never have any, and then nobody locks.
    count: AtomicUsize,
}

type Peers<M> = BTreeMap<(NodeId, Incarnation), VecDeque<Parked<M>>>;

/// A request that waits.
pub(super) struct Parked<M> {
    arrival: Arrival,
    /// Its message, if that was read already.
    envelope: Option<Envelope<M>>,
}

/// How many requests of ended connections of a peer may wait before those of its present one.
const LEFTOVERS: usize = 1024;

impl<M> Default for Parking<M> {
    fn default() -> Self {
        Self { peers: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl<M> Parking<M> {
    /// Whether requests of a peer wait, so that others must wait behind them.
    #[inline]
    pub(super) fn has(&self, peer: &Peer) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.peers().contains_key(&key(peer))
    }

    fn peers(&self) -> MutexGuard<'_, Peers<M>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    pub(super) fn with<M>(self, envelope: Envelope<M>) -> Parked<M> {
        Parked { arrival: self, envelope: Some(envelope) }
    }
}

impl<M> From<Arrival> for Parked<M> {
    fn from(mut arrival: Arrival) -> Self {
        let payload = &mut arrival.request.payload;
        if payload.len() < KEPT {
            *payload = Bytes::copy_from_slice(payload);
        }
        Self { arrival, envelope: None }
    }
}

impl<M: WireMessage> Reachable<M> {
    /// Lets a request wait behind those of its peer.
    pub(super) fn park(self: Arc<Self>, parked: Parked<M>) {
        let key = key(parked.arrival.link.peer());
        let mut peers = self.parked.peers();
        let waiting = peers.entry(key.clone()).or_insert_with(|| {
            self.parked.count.fetch_add(1, Ordering::AcqRel);
            self.local.parked_begins();
            let pump = Pump { reachable: Arc::clone(&self), key };
            self.local.host().tasks.spawn(pump.run());
            VecDeque::new()
        });
        let leftover = waiting.len() >= LEFTOVERS && !waiting[LEFTOVERS - 1].arrival.link.is_open();
        let lost = if leftover { waiting.drain(..LEFTOVERS).collect() } else { Vec::new() };
        waiting.push_back(parked);
        drop(peers);
        for parked in lost {
            self.give_up(parked);
        }
    }

    fn give_up(&self, parked: Parked<M>) {
        let arrival = &parked.arrival;
        let (handler, call) = (arrival.handler::<M>(), arrival.request.head.wants_reply);
        // The arguments are the user's, and their `Drop` may panic.
        if catch_unwind(AssertUnwindSafe(|| drop(parked))).is_err() {
            self.local.host().count_panic();
        }
        self.local.host().dead_letter(handler, call, DeadLetterReason::Overloaded);
    }
}

/// Takes what waits of one peer to the mailbox. Dropped half-way, as the node is cut off, it leaves the rest.
struct Pump<M: WireMessage> {
    reachable: Arc<Reachable<M>>,
    key: (NodeId, Incarnation),
}

impl<M: WireMessage> Pump<M> {
    async fn run(self) {
        while let Some(parked) = self.next() {
            let (link, bytes) = (Arc::clone(&parked.arrival.link), parked.arrival.request.payload.len());
            self.take_in(parked).await;
            link.release(self.instance(), bytes);
        }
    }

    /// The next request; `None` after the last, and then others need not wait any more.
    fn next(&self) -> Option<Parked<M>> {
        let parking = &self.reachable.parked;
        let mut peers = parking.peers();
        let next = peers.get_mut(&self.key).and_then(VecDeque::pop_front);
        if next.is_none() {
            peers.remove(&self.key);
            parking.count.fetch_sub(1, Ordering::AcqRel);
            drop(peers);
            self.reachable.local.parked_ends();
        }
        next
    }

    async fn take_in(&self, parked: Parked<M>) {
        let Parked { arrival, envelope } = parked;
        let (reachable, local) = (&self.reachable, &self.reachable.local);
        let Some(envelope) = envelope.or_else(|| reachable.read(&arrival)) else { return };
        let sent = if local.waits_for_room() && !arrival.request.head.is_impatient {
            local.send(envelope).await.map_err(Refused::Closed)
        } else {
            local.try_send(envelope)
        };
        // The messages are the user's, and their `Drop` may panic.
        let settled = catch_unwind(AssertUnwindSafe(|| match sent {
            Ok(()) => {}
            Err(Refused::Closed(envelope)) => {
                // Who waits for credit is to go elsewhere; what is here already, when a drain begins, is run by it.
                arrival.link.instance_gone(self.instance());
                if let Err(item) = local.push_late(Box::new(Item::Envelope(envelope))) {
                    reachable.refuse_stopped(&arrival);
                    drop(item);
                }
            }
            Err(full) => reachable.refuse(&arrival, full),
        }));
        if settled.is_err() {
            local.host().count_panic();
        }
    }

    fn instance(&self) -> crate::id::InstanceId {
        self.reachable.local.address().instance
    }
}

fn key(peer: &Peer) -> (NodeId, Incarnation) {
    (peer.node.clone(), peer.incarnation)
}
