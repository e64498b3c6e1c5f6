//! Where requests of peers wait for room in a mailbox, or for somebody to read their arguments.
//!
//! A peer's requests wait here one behind the other, at most as many as its credit allows. A task takes them to the
//! mailbox, where it waits like any caller of this node. It is made for the first and ends with the last.
//!
//! What is left of a connection that has ended is run before what comes over the next one of the same peer, so that the
//! order is kept, and is given up if it takes the place of that: then the end of what the ended connection brought is
//! lost, and nothing in its middle.
//!
//! The end of an instance of that peer which this one watches waits behind them too, since it comes after what was said before it.
//!
//! Invariant: whoever sent a request is told when it has left, and what leaves does so in the order in which it came. No end is lost.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::event::{DeadLetterReason, Down};
use crate::id::{Incarnation, NodeId};
use crate::port::{Link, Peer, WatchId};
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

/// What waits.
pub(super) enum Parked<M> {
    Request(Waiting<M>),
    /// Something that the instance watches has ended. There are at most as many as it watches.
    End(WatchId, Down),
}

/// A request that waits.
pub(super) struct Waiting<M> {
    arrival: Arrival,
    /// Its message, if that was read already.
    envelope: Option<Envelope<M>>,
}

impl<M> Parked<M> {
    /// The connection that brought a request.
    fn link(&self) -> Option<&Link> {
        match self {
            Self::Request(waiting) => Some(&waiting.arrival.link),
            Self::End(..) => None,
        }
    }
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
    pub(super) fn with<M>(self, envelope: Envelope<M>) -> Waiting<M> {
        Waiting { arrival: self, envelope: Some(envelope) }
    }
}

impl<M> From<Arrival> for Waiting<M> {
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
    pub(super) fn park(self: Arc<Self>, waiting: Waiting<M>) {
        let key = key(waiting.arrival.link.peer());
        let mut peers = self.parked.peers();
        let queue = peers.entry(key.clone()).or_insert_with(|| {
            self.parked.count.fetch_add(1, Ordering::AcqRel);
            self.local.parked_begins();
            let pump = Pump { reachable: Arc::clone(&self), key };
            self.local.host().tasks.spawn(pump.run());
            VecDeque::new()
        });
        let mut oldest = queue.iter().take(LEFTOVERS);
        let is_leftover = queue.len() >= LEFTOVERS
            && oldest
                .rfind(|parked| parked.link().is_some())
                .and_then(Parked::link)
                .is_some_and(|link| !link.is_open());
        let lost = if is_leftover { queue.drain(..LEFTOVERS).collect() } else { Vec::new() };
        queue.push_back(Parked::Request(waiting));
        drop(peers);
        for parked in lost {
            match parked {
                Parked::Request(waiting) => self.give_up(waiting),
                Parked::End(watch, down) => self.local.push_down(watch, down),
            }
        }
    }

    /// Lets the end of an instance wait behind what its node has sent; gives it back if nothing of that waits.
    pub(super) fn park_end(&self, watch: WatchId, down: Down) -> Option<Down> {
        let key = (down.address.node.clone(), down.address.incarnation);
        match self.parked.peers().get_mut(&key) {
            Some(queue) => queue.push_back(Parked::End(watch, down)),
            None => return Some(down),
        }
        None
    }

    fn give_up(&self, waiting: Waiting<M>) {
        let arrival = &waiting.arrival;
        let (handler, call) = (arrival.handler::<M>(), arrival.request.head.wants_reply);
        // The arguments are the user's, and their `Drop` may panic.
        if catch_unwind(AssertUnwindSafe(|| drop(waiting))).is_err() {
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
            match parked {
                Parked::Request(waiting) => {
                    let (link, bytes) =
                        (Arc::clone(&waiting.arrival.link), waiting.arrival.request.payload.len());
                    self.take_in(waiting).await;
                    link.release(self.instance(), bytes);
                }
                Parked::End(watch, down) => self.reachable.local.push_down(watch, down),
            }
        }
    }

    /// What is next; `None` after the last, and then others need not wait any more.
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

    async fn take_in(&self, waiting: Waiting<M>) {
        let Waiting { arrival, envelope } = waiting;
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
