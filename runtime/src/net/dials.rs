//! The addresses that are dialled, and when each is next.
//!
//! A connection that was lost is made again at once, then after pauses that double (`policy::backoff`). A hint that the
//! peer may be there ends a pause.
//!
//! Invariant: values and decisions only; the peers' task dials.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::policy::backoff::Backoff;
use crate::proto::frame::{Refuse, RefuseReason};
use crate::proto::handshake::ITSELF;
use crate::random;

/// How often an address that only a peer told of is dialled in vain before it is forgotten.
const GIVE_UP_AFTER: u32 = 10;

/// The most addresses that are dialled at a time. What peers tell of beyond that is passed over.
const MAX_DIALS: usize = 4096;

/// How long hints leave an address alone after it was dialled.
const HINTS_APART: Duration = Duration::from_millis(100);

/// How soon an address is looked at again behind which a connected peer is.
const ANOTHER_LOOK: Duration = Duration::from_secs(1);

/// How long an address is left alone that was found and leads nowhere new.
const FOUND_IN_VAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Dials {
    addresses: BTreeMap<Arc<str>, Dial>,
    seed: u64,
    /// How often was dialled: of two dials to one node the later lives, on both sides.
    number: u64,
}

/// An address that is to be connected.
#[derive(Debug)]
struct Dial {
    state: State,
    backoff: Backoff,
    failures: u32,
    /// The node that was found there last.
    node: Option<NodeId>,
    /// When it was dialled last.
    tried: Option<Instant>,
    /// Configured, and so never forgotten.
    is_seed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be dialled at this time.
    Due(Instant),
    /// Being dialled.
    Dialling,
    /// Connected by a dial of this node.
    Connected,
    /// Not dialled as long as it is configured: it leads to this node itself.
    Own,
}

impl Dials {
    /// `seed` is for the jitter of pauses.
    pub(super) fn new(seed: u64) -> Self {
        Self { addresses: BTreeMap::new(), seed, number: 0 }
    }

    /// Adds an address, or takes it for a hint if it is known. `node` is who is expected there.
    pub(super) fn add(&mut self, address: Arc<str>, is_seed: bool, node: Option<NodeId>, now: Instant) {
        if let Some(dial) = self.addresses.get_mut(&address) {
            dial.is_seed |= is_seed;
            dial.node = dial.node.take().or(node);
            return dial.hint(now);
        }
        if !is_seed && self.addresses.len() >= MAX_DIALS {
            return;
        }
        let seed =
            address.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let backoff = Backoff::new(random::seeded(seed ^ self.seed));
        let state = State::Due(now);
        self.addresses.insert(address, Dial { state, backoff, failures: 0, node, tried: None, is_seed });
    }

    /// Dials these addresses as long as they stand here, and no other one that was configured.
    pub(super) fn configure(&mut self, seeds: &BTreeMap<Arc<str>, Option<NodeId>>, now: Instant) {
        self.addresses.retain(|address, dial| {
            let is_configured = seeds.contains_key(address);
            let stays = !dial.is_seed || is_configured || dial.state == State::Connected;
            dial.is_seed &= is_configured; // a lost connection is looked for as those that peers told of are
            stays
        });
        for (address, node) in seeds {
            if self.addresses.get(address).is_none_or(|dial| !dial.is_seed) {
                self.add(Arc::clone(address), true, node.clone(), now);
            }
        }
    }

    /// Somebody waits for a node. Gives whether an address of it is known.
    pub(super) fn hint(&mut self, node: &NodeId, now: Instant) {
        self.of(node).for_each(|dial| dial.hint(now));
    }

    /// Whether a node is being looked for at some address.
    pub(super) fn look_for(&self, node: &NodeId) -> bool {
        self.addresses.values().any(|dial| dial.node.as_ref() == Some(node))
    }

    /// Whether an address is being dialled.
    pub(super) fn is_dialling(&self, address: SocketAddr) -> bool {
        let dial = self.addresses.get(address.to_string().as_str());
        dial.is_some_and(|dial| dial.state == State::Dialling)
    }

    /// A dial of this address was admitted by that node.
    pub(super) fn connected(&mut self, address: &str, node: &NodeId) {
        if let Some(dial) = self.addresses.get_mut(address) {
            (dial.state, dial.failures, dial.node) = (State::Connected, 0, Some(node.clone()));
            dial.backoff.reset();
        }
    }

    /// The connection that a dial of this address made was lost: it is made again at once, or after a pause if it had
    /// hardly begun.
    pub(super) fn lost(&mut self, address: &str, now: Instant) {
        if let Some(dial) = self.addresses.get_mut(address) {
            let is_young = dial.tried.is_some_and(|tried| now < tried + ANOTHER_LOOK);
            dial.state = State::Due(if is_young { now + dial.backoff.next() } else { now });
        }
    }

    /// An address did not answer, or whoever did was not taken. Gives the node that was expected there, if the address
    /// is forgotten.
    pub(super) fn failed(&mut self, address: &str, now: Instant) -> Option<NodeId> {
        let dial = self.addresses.get_mut(address)?;
        dial.failures += 1;
        if !dial.is_seed && dial.failures > GIVE_UP_AFTER {
            return self.addresses.remove(address).and_then(|dial| dial.node);
        }
        dial.state = State::Due(now + dial.backoff.next());
        None
    }

    /// The peer has refused the dial of an address that a discovery provider has found. If it leads nowhere new it is not dialled on
    /// and on, as what is configured is. This node itself stays where it is, but a name may lead to another node the next time;
    /// `is_literal` tells which the address is.
    pub(super) fn refused(&mut self, address: &str, refuse: &Refuse, is_literal: bool, now: Instant) {
        let Some(dial) = self.addresses.get_mut(address) else { return };
        match refuse.reason {
            RefuseReason::NameTaken if refuse.detail == ITSELF && is_literal => dial.state = State::Own,
            RefuseReason::NameTaken if refuse.detail == ITSELF => {
                dial.state = State::Due(now + FOUND_IN_VAIN);
            }
            // The node there has made a connection of its own, and will make it again.
            RefuseReason::Duplicate => dial.state = State::Due(now + FOUND_IN_VAIN),
            _ => {}
        }
    }

    /// The node that is expected at an address.
    pub(super) fn expected_at(&self, address: &str) -> Option<&NodeId> {
        self.addresses.get(address)?.node.as_ref()
    }

    /// The addresses whose time has come, each with the number of its dial, but for those behind which a connected peer
    /// is: `is_there` tells, by the node that was found there last and the address.
    pub(super) fn due(
        &mut self,
        now: Instant,
        is_there: impl Fn(Option<&NodeId>, &str) -> bool,
    ) -> Vec<(Arc<str>, u64)> {
        let mut due = Vec::new();
        for (address, dial) in &mut self.addresses {
            if !matches!(dial.state, State::Due(at) if at <= now) {
                continue;
            }
            if is_there(dial.node.as_ref(), address) {
                dial.state = State::Due(now + ANOTHER_LOOK);
            } else {
                (dial.state, dial.tried) = (State::Dialling, Some(now));
                self.number += 1;
                due.push((Arc::clone(address), self.number));
            }
        }
        due
    }

    /// When an address is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.addresses.values().filter_map(|dial| match dial.state {
            State::Due(at) => Some(at),
            State::Dialling | State::Connected | State::Own => None,
        });
        due.min()
    }

    /// Nothing is dialled any more.
    pub(super) fn clear(&mut self) {
        self.addresses.clear();
    }

    fn of<'a>(&'a mut self, node: &'a NodeId) -> impl Iterator<Item = &'a mut Dial> {
        self.addresses.values_mut().filter(move |dial| dial.node.as_ref() == Some(node))
    }
}

impl Dial {
    /// The peer may be there now.
    fn hint(&mut self, now: Instant) {
        if let State::Due(at) = &mut self.state {
            let soonest = self.tried.map_or(now, |tried| tried + HINTS_APART).max(now);
            *at = soonest.min(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.0.0.1:7000";

    fn node() -> NodeId {
        NodeId::new("b").unwrap()
    }

    fn dials(is_seed: bool) -> (Dials, Instant) {
        let (mut dials, now) = (Dials::new(7), crate::time::now());
        dials.add(ADDRESS.into(), is_seed, None, now);
        (dials, now)
    }

    fn due(dials: &mut Dials, now: Instant) -> usize {
        dials.due(now, |_, _| false).len()
    }

    #[test]
    fn a_lost_connection_is_made_again_at_once_and_then_after_growing_pauses() {
        let (mut dials, start) = dials(true);
        assert_eq!(due(&mut dials, start), 1);
        assert!(dials.is_dialling(ADDRESS.parse().unwrap()));
        dials.connected(ADDRESS, &node());
        let mut now = start + Duration::from_secs(10);
        dials.lost(ADDRESS, now);
        let mut pauses = vec![];
        for _ in 0..12 {
            assert_eq!(due(&mut dials, now), 1);
            assert_eq!(dials.failed(ADDRESS, now), None, "a seed is never forgotten");
            let next = dials.next().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(
            pauses[0] <= Duration::from_millis(100) && pauses[0] >= Duration::from_millis(50),
            "{pauses:?}"
        );
        assert!(pauses[11] >= Duration::from_millis(2500) && pauses[11] <= Duration::from_secs(5));
    }

    #[test]
    fn a_connection_that_breaks_as_soon_as_it_stands_is_not_made_again_at_once() {
        let (mut dials, now) = dials(true);
        assert_eq!(due(&mut dials, now), 1);
        dials.connected(ADDRESS, &node());
        dials.lost(ADDRESS, now + Duration::from_millis(10));
        assert_eq!(due(&mut dials, now + Duration::from_millis(10)), 0);
    }

    #[test]
    fn a_hint_ends_a_pause_but_not_more_often_than_it_may() {
        let (mut dials, mut now) = dials(true);
        for _ in 0..10 {
            due(&mut dials, now);
            dials.failed(ADDRESS, now);
            now = dials.next().unwrap();
        }
        assert_eq!(due(&mut dials, now), 1);
        dials.connected(ADDRESS, &node());
        dials.lost(ADDRESS, now + Duration::from_secs(10));
        now += Duration::from_secs(10);
        for _ in 0..5 {
            due(&mut dials, now);
            dials.failed(ADDRESS, now);
            now = dials.next().unwrap();
        }
        due(&mut dials, now);
        dials.failed(ADDRESS, now);
        dials.hint(&node(), now);
        assert_eq!(dials.next(), Some(now + HINTS_APART));
        dials.add(ADDRESS.into(), false, None, now + Duration::from_millis(200));
        assert_eq!(dials.next(), Some(now + HINTS_APART), "what is sooner stays");
    }

    #[test]
    fn an_address_that_only_a_peer_told_of_is_forgotten_in_the_end() {
        let (mut dials, now) = dials(false);
        dials.add(ADDRESS.into(), false, Some(node()), now);
        assert!(dials.look_for(&node()));
        let failures = (0..100).take_while(|_| dials.failed(ADDRESS, now).is_none()).count();
        assert_eq!(failures, 10);
        assert!(!dials.look_for(&node()));
        assert_eq!(dials.next(), None);
    }

    #[test]
    fn what_is_not_configured_any_more_is_not_dialled_and_what_did_not_change_is_left_alone() {
        let (mut dials, now) = dials(true);
        let seeds = |addresses: &[&str]| addresses.iter().map(|at| (Arc::from(*at), None)).collect();
        dials.add("10.0.0.9:7000".into(), false, None, now);
        assert_eq!(due(&mut dials, now), 2);
        dials.failed(ADDRESS, now);
        let pause = dials.next();
        dials.configure(&seeds(&[ADDRESS]), now);
        assert_eq!(dials.next(), pause, "it is not dialled sooner for it");
        dials.configure(&seeds(&["10.0.0.2:7000"]), now);
        assert_eq!(dials.due(now, |_, _| false), [("10.0.0.2:7000".into(), 3)]);
        assert!(dials.is_dialling("10.0.0.9:7000".parse().unwrap()), "what a peer told of stays");
        dials.lost(ADDRESS, now);
        dials.failed(ADDRESS, now);
        assert_eq!(dials.next(), None, "what comes of an earlier dial changes nothing");
    }

    #[test]
    fn what_was_found_and_leads_nowhere_new_is_left_alone() {
        let (mut dials, now) = dials(true);
        let seeds = |addresses: &[&str]| addresses.iter().map(|at| (Arc::from(*at), None)).collect();
        let itself = Refuse::new(RefuseReason::NameTaken, ITSELF);
        let duplicate = Refuse::new(RefuseReason::Duplicate, "");
        let namesake = Refuse::new(RefuseReason::NameTaken, "another one");
        for (refuse, is_literal, pause) in [
            (&itself, false, Some(FOUND_IN_VAIN)),
            (&duplicate, true, Some(FOUND_IN_VAIN)),
            (&namesake, true, None),
        ] {
            due(&mut dials, now);
            dials.failed(ADDRESS, now);
            let usual = dials.next();
            dials.refused(ADDRESS, refuse, is_literal, now);
            assert_eq!(dials.next(), pause.map_or(usual, |pause| Some(now + pause)), "{refuse:?}");
        }
        dials.refused(ADDRESS, &itself, true, now);
        dials.configure(&seeds(&[ADDRESS]), now);
        dials.hint(&node(), now);
        assert_eq!(dials.next(), None, "an address of this node itself");
        dials.configure(&seeds(&[]), now);
        dials.configure(&seeds(&[ADDRESS]), now);
        assert_eq!(due(&mut dials, now), 1, "it comes anew");
    }

    #[test]
    fn nobody_is_dialled_who_is_there() {
        let (mut dials, now) = dials(true);
        assert_eq!(dials.due(now, |_, address| address == ADDRESS), []);
        assert_eq!(dials.next(), Some(now + ANOTHER_LOOK));
    }
}
