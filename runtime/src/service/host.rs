//! What a node lends to its instances and to their callers: its name, its clock of deadlines, its counters, its tasks.
//!
//! Invariant: knows no service, no peer and no name of a service.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::config::Monitoring;
use crate::event::{Counters, DeadLetter, DeadLetterReason, EndedConnections, Event, Expired, Phase};
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::service::core::Core;
use crate::service::deadlines::Deadlines;
use crate::service::deliver::Deliver;
use crate::service::monitor::Monitor;
use crate::service::tasks::Tasks;
use crate::service::watchdog::Watchdog;
use crate::time::{self, AtomicDuration, Seldom};
use crate::trace::Propagator;

/// The number of the node's own instance, on every node: see `node::manager`. Others are numbered from 1.
pub(crate) const OWN: InstanceId = InstanceId(0);

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    call_timeout: AtomicDuration,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) tasks: Tasks,
    pub(crate) watchdog: Arc<Watchdog>,
    pub(crate) monitor: Monitor,
    /// Takes traces along.
    propagator: Option<Arc<dyn Propagator>>,
    /// Set when the node begins to shut down.
    pub(crate) shutting_down: AtomicBool,
    /// Guards the instances that run here. Held for a look or a change, never across a wait.
    residents: Mutex<HashMap<InstanceId, Resident>>,
    events: broadcast::Sender<Event>,
    counts: Counts,
    /// Guards when a refused connection was last told of in the log.
    refusals: Mutex<Seldom>,
    next_instance: AtomicU64,
    next_watch: AtomicU64,
    next_order: AtomicU64,
    /// How many seeds for jitter were given out.
    seeds: AtomicU64,
    /// The node, for `Context::node`: a layer above this one.
    owner: OnceLock<Weak<dyn Any + Send + Sync>>,
}

/// An instance that runs here.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) core: Arc<Core>,
    /// How it is reached over the network, if it may be: named instances may, and others whose handle was sent.
    pub(crate) deliver: Option<Arc<dyn Deliver>>,
    /// Whether it has a name, which is its service's.
    pub(crate) is_named: bool,
}

#[derive(Debug, Default)]
struct Counts {
    dead_letters: AtomicU64,
    displaced: AtomicU64,
    shed: AtomicU64,
    /// By [`Phase`].
    expired: [AtomicU64; Phase::COUNT],
    panics: AtomicU64,
    instances_started: AtomicU64,
    instances_ended: AtomicU64,
    restarts: AtomicU64,
    gave_up: AtomicU64,
    slow_handlers: AtomicU64,
    stuck_handlers: AtomicU64,
    high_waters: AtomicU64,
    refused_connections: AtomicU64,
}

impl Host {
    /// `events` is how far a slow reader of events may lag behind.
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, call_timeout: Duration, events: usize) -> Self {
        let deadlines = Arc::new(Deadlines::new());
        Self {
            node,
            incarnation,
            call_timeout: AtomicDuration::new(call_timeout),
            watchdog: Arc::new(Watchdog::new(Arc::clone(&deadlines))),
            monitor: Monitor::new(Monitoring::default()),
            propagator: None,
            deadlines,
            tasks: Tasks::default(),
            shutting_down: AtomicBool::new(false),
            residents: Mutex::default(),
            events: broadcast::Sender::new(events),
            counts: Counts::default(),
            refusals: Mutex::default(),
            next_instance: AtomicU64::new(1),
            next_watch: AtomicU64::new(1),
            next_order: AtomicU64::new(1),
            seeds: AtomicU64::new(0),
            owner: OnceLock::new(),
        }
    }

    /// Sets how much is measured.
    pub(crate) fn with_monitoring(self, mode: Monitoring) -> Self {
        Self { monitor: Monitor::new(mode), ..self }
    }

    /// Sets what takes traces along.
    pub(crate) fn with_propagator(self, propagator: Option<Arc<dyn Propagator>>) -> Self {
        Self { propagator, ..self }
    }

    /// What takes traces along.
    #[inline]
    pub(crate) fn propagator(&self) -> Option<&Arc<dyn Propagator>> {
        self.propagator.as_ref()
    }

    /// How long a call may take that says nothing else.
    #[inline]
    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout.get()
    }

    /// For calls to come.
    pub(crate) fn set_call_timeout(&self, timeout: Duration) {
        self.call_timeout.set(timeout);
    }

    /// The address of the next instance.
    pub(crate) fn next_address(&self) -> Address {
        Address {
            instance: InstanceId(self.next_instance.fetch_add(1, Ordering::Relaxed)),
            ..self.own_address()
        }
    }

    /// The address of [`OWN`].
    pub(crate) fn own_address(&self) -> Address {
        Address { node: self.node.clone(), incarnation: self.incarnation, instance: OWN }
    }

    /// The first of `count` numbers for watches of instances. Never used twice, so that the watches of an earlier life
    /// are not taken for those of a later one.
    pub(crate) fn next_watches(&self, count: usize) -> u64 {
        self.next_watch.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed)
    }

    /// Numbers what keeps an order of its own on connections: a handle with its clones, a topic.
    pub(crate) fn next_order(&self) -> u64 {
        self.next_order.fetch_add(1, Ordering::Relaxed)
    }

    /// A seed for jitter, another one each time.
    pub(crate) fn next_seed(&self) -> u64 {
        self.incarnation.0 ^ self.seeds.fetch_add(1, Ordering::Relaxed).rotate_left(32)
    }

    /// Notes an instance that starts.
    pub(crate) fn add_resident(&self, resident: Resident) {
        self.counts.instances_started.fetch_add(1, Ordering::Relaxed);
        self.residents().insert(resident.core.address().instance, resident);
    }

    /// Lets peers reach an instance from now on, unless it has ended: a handle to it is about to be sent.
    pub(crate) fn export(&self, instance: InstanceId, deliver: impl FnOnce() -> Arc<dyn Deliver>) {
        if let Some(resident) = self.residents().get_mut(&instance)
            && resident.deliver.is_none()
        {
            resident.deliver = Some(deliver());
        }
    }

    /// Forgets an instance that has ended.
    pub(crate) fn remove_resident(&self, instance: InstanceId) {
        let gone = self.residents().remove(&instance);
        drop(gone); // outside the lock
    }

    /// The instance of that number.
    pub(crate) fn resident(&self, instance: InstanceId) -> Option<Resident> {
        self.residents().get(&instance).cloned()
    }

    /// Every instance that runs here.
    pub(crate) fn all_residents(&self) -> Vec<Arc<Core>> {
        self.residents().values().map(|resident| Arc::clone(&resident.core)).collect()
    }

    /// The instances that run here under a name. An anonymous one has none, whatever it is called in logs.
    pub(crate) fn instances_of(&self, name: &str) -> Vec<Arc<Core>> {
        let residents = self.residents();
        let named = residents.values().filter(|resident| resident.is_named);
        named.map(|resident| &resident.core).filter(|core| **core.service() == *name).cloned().collect()
    }

    fn residents(&self) -> MutexGuard<'_, HashMap<InstanceId, Resident>> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_owner(&self, owner: Weak<dyn Any + Send + Sync>) {
        // The node is built once, and sets this once.
        drop(self.owner.set(owner));
    }

    pub(crate) fn owner(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.owner.get()?.upgrade()
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    /// Publishes an event, and counts it.
    pub(crate) fn publish(&self, event: Event) {
        match &event {
            Event::DeadLetter(letter) => {
                self.counts.dead_letters.fetch_add(letter.count, Ordering::Relaxed);
                if letter.reason == DeadLetterReason::Displaced {
                    self.counts.displaced.fetch_add(letter.count, Ordering::Relaxed);
                }
                let DeadLetter { handler, reason, count, .. } = letter;
                tracing::debug!(handler, ?reason, count, "dead letter");
            }
            Event::InstanceEnded { address, service, reason } => {
                self.counts.instances_ended.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%address, service, %reason, "instance ended");
            }
            Event::Restarted { supervisor, child, .. } => {
                self.counts.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::info!(node = %self.node, supervisor, child, "restarted");
            }
            Event::GaveUp { supervisor, child, reason } => {
                self.counts.gave_up.fetch_add(1, Ordering::Relaxed);
                tracing::error!(node = %self.node, supervisor, child, reason, "gave up");
            }
            Event::SlowHandler { address, handler, age, .. } => {
                self.counts.slow_handlers.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%address, handler, ?age, "slow handler");
            }
            Event::StuckHandler { address, handler, age, .. } => {
                self.counts.stuck_handlers.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%address, handler, ?age, "stuck handler");
            }
            Event::HighWater { address, service, waiting, capacity } => {
                self.counts.high_waters.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%address, service, waiting, capacity, "the mailbox fills");
            }
            Event::PeerRefused { address, reason } => {
                self.counts.refused_connections.fetch_add(1, Ordering::Relaxed);
                let speaks = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).speaks(time::now());
                if let Some(left_out) = speaks {
                    tracing::warn!(node = %self.node, address, reason, left_out, "connection refused");
                }
            }
            Event::NameLost { name, owner } => {
                tracing::error!(node = %self.node, name, %owner, "another node has the name, and its service here is stopped");
            }
            Event::ConfigRefused { key, version, field, reason } => {
                tracing::error!(node = %self.node, key, version, field, reason, "a central setting cannot be used, and the last good value counts on");
            }
            Event::ConfigWentBack { holder, from, to } => {
                tracing::error!(node = %self.node, %holder, from, to, "the central configuration has gone back");
            }
            Event::QuorumReached { alive, expected } => {
                tracing::info!(here = %self.node, alive, expected, "quorum reached");
            }
            Event::QuorumLost { alive, expected } => {
                tracing::warn!(here = %self.node, alive, expected, "quorum lost");
            }
            Event::MemberJoined { node, incarnation } => {
                tracing::info!(here = %self.node, %node, %incarnation, "member joined");
            }
            Event::MemberSuspected { node, incarnation } => {
                tracing::warn!(here = %self.node, %node, %incarnation, "member suspected");
            }
            Event::MemberRefuted { node, incarnation } => {
                tracing::info!(here = %self.node, %node, %incarnation, "member refuted");
            }
            Event::MemberLeft { node, incarnation } => {
                tracing::info!(here = %self.node, %node, %incarnation, "member left");
            }
            Event::MemberDied { node, incarnation, reason } => {
                tracing::warn!(here = %self.node, %node, %incarnation, ?reason, "member died");
            }
            Event::PeerUp { peer, incarnation } => {
                tracing::info!(node = %self.node, %peer, %incarnation, "peer up");
            }
            Event::PeerDown { peer, reason } => {
                tracing::info!(node = %self.node, %peer, reason, "peer down");
            }
        }
        drop(self.events.send(event)); // nobody listens: fine
    }

    /// Publishes that a message reached nobody.
    pub(crate) fn dead_letter(&self, handler: String, call: bool, reason: DeadLetterReason) {
        self.dead_letters(handler, call, reason, 1);
    }

    /// Publishes that messages of one kind reached nobody.
    pub(crate) fn dead_letters(&self, handler: String, call: bool, reason: DeadLetterReason, count: u64) {
        self.publish(Event::DeadLetter(DeadLetter { handler, call, reason, count }));
    }

    /// Counts a message that was too late.
    pub(crate) fn count_expired(&self, phase: Phase) {
        self.counts.expired[phase as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that was refused because its deadline could not be met.
    pub(crate) fn count_shed(&self) {
        self.counts.shed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_panic(&self) {
        self.counts.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn counters(&self) -> Counters {
        let counts = &self.counts;
        Counters {
            dead_letters: counts.dead_letters.load(Ordering::Relaxed),
            displaced: counts.displaced.load(Ordering::Relaxed),
            shed: counts.shed.load(Ordering::Relaxed),
            expired: self.expired(),
            panics: counts.panics.load(Ordering::Relaxed),
            instances_started: counts.instances_started.load(Ordering::Relaxed),
            instances_ended: counts.instances_ended.load(Ordering::Relaxed),
            restarts: counts.restarts.load(Ordering::Relaxed),
            gave_up: counts.gave_up.load(Ordering::Relaxed),
            slow_handlers: counts.slow_handlers.load(Ordering::Relaxed),
            stuck_handlers: counts.stuck_handlers.load(Ordering::Relaxed),
            high_waters: counts.high_waters.load(Ordering::Relaxed),
            refused_connections: counts.refused_connections.load(Ordering::Relaxed),
            ended_connections: EndedConnections::default(), // the node knows them
        }
    }

    fn expired(&self) -> Expired {
        let count = |phase: Phase| self.counts.expired[phase as usize].load(Ordering::Relaxed);
        Expired {
            send: count(Phase::Send),
            receive: count(Phase::Receive),
            dispatch: count(Phase::Dispatch),
            invoke: count(Phase::Invoke),
            reply: count(Phase::Reply),
        }
    }
}
