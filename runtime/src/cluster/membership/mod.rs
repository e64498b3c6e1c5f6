//! Who is in the cluster: SWIM (Das, Gupta and Motivala, 2002) with suspicion, by foca. Each node asks another one from time to time
//! whether it is there; who does not answer is asked by others, then suspected, and declared dead if it does not say
//! otherwise. What is known spreads with these messages. Every ten seconds a node exchanges all that it knows with one other, which
//! brings back what was lost on the way, and heals partitions.
//!
//! What is certain is faster: a node that leaves says so itself, and a refused connection and a later life are taken in at once. So is the
//! silence of a connection, where it agrees with a suspicion.
//!
//! Invariant: a core. It has no clock and no task: inputs `handle_*` and what the connections tell, outputs `poll_*`.

mod identity;
mod view;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{AccumulatingRuntime, Config, Foca, NoCustomBroadcast, PeriodicParams, Timer};
use rand_core::TryRng;

pub(crate) use identity::Identity;
use view::View;
pub use view::{Member, MemberState, Members};
use wire::{Told, Undoubted, Wire};

use crate::event::{Event, MemberEnd};
use crate::id::{Incarnation, NodeId};
use crate::proto::codec::CodecError;

/// How often a node tells another one all that it knows and asks for as much, and looks for one that was declared dead.
const EXCHANGE: Duration = Duration::from_secs(10);

/// How long a member that is suspected has to say that it lives.
const SUSPICION: Duration = Duration::from_secs(2);

/// What foca puts into one message at most, in bytes.
const MESSAGE: usize = 1400;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Tell a peer, if it is connected.
    Send { to: NodeId, bytes: Bytes },
    /// Tell everybody outside.
    Tell(Event),
    /// Somebody who was declared dead may be found again there.
    Dial(SocketAddr),
}

impl Output {
    /// The member of which something is told.
    fn member(&self) -> Option<&NodeId> {
        match self {
            Self::Tell(
                Event::MemberJoined { node, .. }
                | Event::MemberSuspected { node, .. }
                | Event::MemberRefuted { node, .. }
                | Event::MemberLeft { node, .. }
                | Event::MemberDied { node, .. },
            ) => Some(node),
            _ => None,
        }
    }
}

/// What one node knows of the members.
pub(crate) struct Membership {
    me: Identity,
    foca: Foca<Identity, Wire, Chance, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Identity>,
    /// In their order, also those of one moment.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    sequence: u64,
    view: View,
    /// Peers that are suspected since their connections fell silent, and until when; of each life at most one in that time.
    silent: VecDeque<(Instant, foca::Member<Identity>)>,
    /// The lives that this node is connected with.
    connected: BTreeMap<NodeId, Incarnation>,
    undoubted: Undoubted,
    /// Why who dies now does so.
    reason: MemberEnd,
    version: u64,
    /// How many nodes the cluster is said to have; 0 if nobody has said it.
    expected: usize,
    has_quorum: bool,
    exchange_at: Instant,
    chance: fastrand::Rng,
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A node that knows nobody. `chance` decides whom it asks.
    pub(crate) fn new(me: Identity, mut chance: fastrand::Rng, now: Instant) -> Self {
        let undoubted = Undoubted::default();
        let foca = Foca::new(me.clone(), config(), Chance(chance.fork()), Wire(undoubted.clone()));
        let exchange_at = now + EXCHANGE.mul_f64(0.9 + 0.2 * chance.f64());
        Self {
            me,
            foca,
            runtime: AccumulatingRuntime::default(),
            timers: BTreeMap::new(),
            sequence: 0,
            view: View::default(),
            silent: VecDeque::new(),
            connected: BTreeMap::new(),
            undoubted,
            reason: MemberEnd::NoAnswer,
            version: 1,
            expected: 0,
            has_quorum: false,
            exchange_at,
            chance,
            outputs: VecDeque::new(),
        }
    }

    /// A connection to a peer stands: it lives, and is to know all that this node knows.
    pub(crate) fn handle_connected(&mut self, peer: Identity, now: Instant) {
        let node = peer.node.clone();
        // Whoever was known has heard of the others already, or is about to.
        let is_known = self.view.is_member(&node, peer.incarnation);
        self.connected.insert(node.clone(), peer.incarnation);
        self.apply([foca::Member::alive(peer)], now);
        self.trust(&node);
        self.count();
        if !is_known {
            self.exchange_with(&node, true);
        }
    }

    /// The cluster is said to have so many nodes.
    pub(crate) fn handle_expected(&mut self, nodes: usize) {
        self.version += u64::from(nodes != self.expected);
        self.expected = nodes;
        self.count();
    }

    /// The connection to a peer has ended. That says nothing of whether it lives; but what others say of it counts again.
    pub(crate) fn handle_disconnected(&mut self, node: &NodeId) {
        self.connected.remove(node);
        self.trust(node);
        self.count();
    }

    /// This node leaves. Only it knows that: a connection may end for many reasons. Nothing may follow.
    pub(crate) fn handle_leave(&mut self) {
        let id = Identity { has_left: true, ..self.foca.identity().clone() };
        for bytes in wire::all(vec![foca::Member::down(id)], false) {
            let to = |member: Member| Output::Send { to: member.node, bytes: bytes.clone() };
            self.outputs.extend(self.view.members().map(to));
        }
    }

    /// A peer's process has gone.
    pub(crate) fn handle_gone(&mut self, node: &NodeId, incarnation: Incarnation, now: Instant) {
        self.reason = MemberEnd::ProcessGone;
        self.declare_dead(node, incarnation, now);
        self.reason = MemberEnd::NoAnswer;
    }

    fn declare_dead(&mut self, node: &NodeId, incarnation: Incarnation, now: Instant) {
        if let Some(known) = self.known(node, incarnation) {
            let down = foca::Member::new(known.id().clone(), known.incarnation(), foca::State::Down);
            self.apply([down], now);
        }
    }

    /// A peer's connection was given up, as nothing came over it. One that is suspected did not answer those either who were asked for a
    /// second opinion, so it is dead; any other one is suspected, and has the time to say that it lives. Else a node that is cut off from
    /// many would lose them one after the other, as it asks one at a time.
    pub(crate) fn handle_silent(&mut self, node: &NodeId, incarnation: Incarnation, now: Instant) {
        let Some(known) = self.known(node, incarnation) else { return };
        if known.state() != foca::State::Alive {
            return self.declare_dead(node, incarnation, now);
        }
        let suspect = foca::Member::new(known.id().clone(), known.incarnation(), foca::State::Suspect);
        // Foca has timers for its own suspicions alone.
        self.silent.push_back((now + SUSPICION, suspect.clone()));
        self.apply([suspect], now);
    }

    /// The suspicions of silent peers whose time is over, and which they have not refuted, are deaths.
    fn end_suspicions(&mut self, now: Instant) {
        while self.silent.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, suspect)) = self.silent.pop_front() else { return };
            let Identity { node, incarnation, .. } = suspect.id();
            if self.known(node, *incarnation).is_some_and(|known| known == suspect) {
                self.declare_dead(node, *incarnation, now);
            }
        }
    }

    /// What foca knows of a life of a node.
    fn known(&self, node: &NodeId, incarnation: Incarnation) -> Option<foca::Member<Identity>> {
        let is_it = |id: &Identity| id.node == *node && id.incarnation == incarnation;
        self.foca.iter_membership_state().find(|member| is_it(member.id())).cloned()
    }

    /// A peer has told something.
    ///
    /// # Errors
    /// It cannot be read. Nothing has changed.
    pub(crate) fn handle_gossip(
        &mut self,
        from: &NodeId,
        bytes: &Bytes,
        now: Instant,
    ) -> Result<(), CodecError> {
        match wire::read(bytes)? {
            None => {}
            Some(Told::Datagram(data)) => {
                // What foca does not take it does not act on; it says so for its own tests alone.
                let taken = self.foca.handle_data(&data, &mut self.runtime);
                self.drain(now);
                if let Err(foca::Error::Decode(error)) = taken {
                    return Err(CodecError::Decode(error.to_string()));
                }
            }
            Some(Told::All { members, wants_answer }) => {
                let undoubted = self.undoubted.clone();
                self.apply(members.into_iter().map(|told| undoubted.believed(told)), now);
                if wants_answer {
                    self.exchange_with(from, false);
                }
            }
        }
        Ok(())
    }

    /// When to call [`Membership::handle_timeout`]. Never, if nobody else was ever known.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let silent = self.silent.front().map(|(at, _)| *at);
        let exchange = (!self.view.is_empty()).then_some(self.exchange_at);
        [timer, silent, exchange].into_iter().flatten().min()
    }

    /// Its time has come.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let timer = entry.remove();
            let handled = self.foca.handle_timer(timer, &mut self.runtime);
            debug_assert!(handled.is_ok(), "{handled:?}");
            self.drain(now);
        }
        self.end_suspicions(now);
        if self.exchange_at <= now {
            self.exchange_at = now + EXCHANGE.mul_f64(0.9 + 0.2 * self.chance.f64());
            self.exchange();
        }
    }

    /// The next thing to do.
    #[must_use]
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Counts the changes.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The members now.
    pub(crate) fn members(&self) -> Members {
        let me = Member {
            node: self.me.node.clone(),
            incarnation: self.me.incarnation,
            address: self.me.address,
            state: MemberState::Alive,
        };
        let mut members: Vec<_> = self.view.members().collect();
        let place = members.partition_point(|member| member.node < me.node);
        members.insert(place, me);
        let (has_quorum, expected) = (self.has_quorum, self.expected);
        Members { version: self.version, members, has_quorum, expected }
    }

    /// Exchanges all with somebody, and looks for somebody who is lost.
    fn exchange(&mut self) {
        // Who was declared dead and is connected hears of it, and comes back. Foca is silent where it knows nobody alive.
        let is_lost = |(node, life): &(&NodeId, &Incarnation)| self.view.is_lost(node, **life);
        let unheard: Vec<_> = self.connected.iter().filter(is_lost).map(|(node, _)| node.clone()).collect();
        for node in unheard {
            self.exchange_with(&node, true);
        }
        let lost: Vec<_> = self.view.lost().collect();
        if let Some(address) = self.chance.choice(lost) {
            self.outputs.push_back(Output::Dial(address));
        }
        let others: Vec<_> = self.view.members().map(|member| member.node).collect();
        if let Some(node) = self.chance.choice(others) {
            self.exchange_with(&node, true);
        }
    }

    fn exchange_with(&mut self, node: &NodeId, wants_answer: bool) {
        let me = foca::Member::new(self.foca.identity().clone(), 0, foca::State::Alive);
        let all = self.foca.iter_membership_state().cloned().chain([me]).collect();
        for bytes in wire::all(all, wants_answer) {
            self.outputs.push_back(Output::Send { to: node.clone(), bytes });
        }
    }

    fn apply(&mut self, members: impl IntoIterator<Item = foca::Member<Identity>>, now: Instant) {
        let applied = self.foca.apply_many(members.into_iter(), true, &mut self.runtime);
        debug_assert!(applied.is_ok(), "{applied:?}");
        self.drain(now);
    }

    /// Takes what foca has to say, and sees what has changed.
    fn drain(&mut self, now: Instant) {
        while let Some((to, data)) = self.runtime.to_send() {
            self.outputs.push_back(Output::Send { to: to.node, bytes: wire::datagram(&data) });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers.insert((now + after, self.sequence), timer);
            self.sequence += 1;
        }
        while self.runtime.to_notify().is_some() {} // the view sees more
        let before = self.outputs.len();
        let outputs = &mut self.outputs;
        let foca = &self.foca;
        let tell = |event| outputs.push_back(Output::Tell(event));
        self.view.update(|| foca.iter_membership_state(), self.reason, tell);
        let changed: Vec<_> = self.outputs.range(before..).filter_map(Output::member).cloned().collect();
        if !changed.is_empty() {
            self.version += 1;
            for node in &changed {
                self.trust(node);
            }
            self.count();
        }
    }

    /// Sees whether enough are there.
    fn count(&mut self) {
        let expected = self.expected;
        let alive = self.undoubted.count() + 1;
        let has_quorum = expected > 0 && alive > expected / 2;
        if std::mem::replace(&mut self.has_quorum, has_quorum) == has_quorum {
            return;
        }
        self.version += 1;
        let (reached, lost) =
            (Event::QuorumReached { alive, expected }, Event::QuorumLost { alive, expected });
        self.outputs.push_back(Output::Tell(if has_quorum { reached } else { lost }));
    }

    /// Something of a node has changed. The death of whom this node is connected with, and nobody suspects, is not believed if others
    /// tell of it.
    fn trust(&self, node: &NodeId) {
        let life = self.connected.get(node).copied();
        self.undoubted.set(node, life.filter(|life| self.view.is_alive(node, *life)));
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("me", &self.me)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A death is seen within 4.4 s of its silence, as measured; a node that stands still for 2 s says otherwise in time.
fn config() -> Config {
    let often = |frequency, num_members| {
        let num_members = NonZeroUsize::new(num_members).expect("it is not zero");
        Some(PeriodicParams { frequency, num_members })
    };
    Config {
        probe_period: Duration::from_millis(500),
        probe_rtt: Duration::from_millis(200),
        num_indirect_probes: NonZeroUsize::new(3).expect("it is not zero"),
        max_transmissions: NonZeroU8::new(10).expect("it is not zero"),
        suspect_to_down_after: SUSPICION,
        remove_down_after: Some(Duration::from_secs(24 * 60 * 60)),
        max_packet_size: NonZeroUsize::new(MESSAGE).expect("it is not zero"),
        notify_down_members: true,
        periodic_announce: often(Duration::from_secs(5), 1),
        periodic_announce_to_down_members: often(Duration::from_secs(10), 2),
        periodic_gossip: often(Duration::from_millis(200), 3),
    }
}

/// The facade's generator, as foca wants it.
struct Chance(fastrand::Rng);

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.u32(..))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.u64(..))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
