//! How many connections peers and strangers may hold open here, in all and from one address. A stranger is whoever has not
//! proven yet that it is a peer.
//!
//! Invariants: a stranger never takes a peer's place; what is counted is given back when its [`Place`] is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::config::Limits;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Guards who is inside.
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// For those who come.
    limits: Limits,
    /// Numbers those who come.
    next: u64,
    /// Those who have not proven anything yet, the longest there first.
    strangers: BTreeMap<u64, Stranger>,
    peers: usize,
    addresses: HashMap<IpAddr, Count>,
}

#[derive(Debug)]
struct Stranger {
    from: IpAddr,
    /// Dropped to make it leave.
    stays: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    /// Their numbers.
    strangers: BTreeSet<u64>,
}

/// As many connections stand from somebody's address as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { inside: Mutex::new(Inside { limits, ..Inside::default() }) })
    }

    /// Sets other limits, for those who come from now on: nobody inside has to leave.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.inside().limits = limits;
    }

    /// Lets a stranger in. If there are too many, from its address or in all, the one that has been there longest has to leave.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Place, Crowded> {
        let from = network(from);
        let mut inside = self.inside();
        if let Some(count) = inside.addresses.get(&from) {
            if count.strangers.len() >= inside.limits.strangers_per_address {
                let longest = count.strangers.first().copied();
                inside.leave(longest);
            } else if count.all >= inside.limits.connections_per_address {
                return Err(Crowded);
            }
        }
        if inside.strangers.len() >= inside.limits.strangers {
            let longest = inside.strangers.keys().next().copied();
            inside.leave(longest);
        }
        let number = inside.next;
        inside.next += 1;
        let count = inside.addresses.entry(from).or_default();
        count.all += 1;
        count.strangers.insert(number);
        let (stays, leaves) = oneshot::channel();
        inside.strangers.insert(number, Stranger { from, stays });
        Ok(Place { gate: Arc::clone(self), number, from, peer: None, leaves: Some(leaves) })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    /// A stranger leaves, or has to.
    fn leave(&mut self, number: Option<u64>) {
        let Some((number, Stranger { from, stays })) =
            number.and_then(|number| self.strangers.remove_entry(&number))
        else {
            return;
        };
        if let Some(count) = self.addresses.get_mut(&from) {
            count.strangers.remove(&number);
        }
        self.give_back(from);
        drop(stays);
    }

    fn give_back(&mut self, from: IpAddr) {
        let Some(count) = self.addresses.get_mut(&from) else { return };
        count.all -= 1;
        if count.all == 0 {
            self.addresses.remove(&from);
        }
    }
}

/// A connection's place, from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    number: u64,
    from: IpAddr,
    /// Kept once it is a peer, which never has to leave.
    peer: Option<oneshot::Sender<()>>,
    leaves: Option<oneshot::Receiver<()>>,
}

impl Place {
    /// Ends when the stranger has to leave. To be taken once.
    pub(crate) fn leaves(&mut self) -> impl Future<Output = ()> + use<> {
        let leaves = self.leaves.take();
        async {
            match leaves {
                Some(leaves) => drop(leaves.await),
                None => std::future::pending().await,
            }
        }
    }

    /// The stranger has proven to be a peer. `false`: there are as many peers as may be.
    pub(crate) fn prove(&mut self) -> bool {
        let mut inside = self.gate.inside();
        if inside.peers >= inside.limits.connections {
            return false;
        }
        let Some(stranger) = inside.strangers.remove(&self.number) else { return false }; // it has to leave
        inside.peers += 1;
        if let Some(count) = inside.addresses.get_mut(&self.from) {
            count.strangers.remove(&self.number);
        }
        self.peer = Some(stranger.stays);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        if self.peer.is_some() {
            inside.peers -= 1;
            inside.give_back(self.from);
        } else {
            inside.leave(Some(self.number));
        }
    }
}

/// What counts as one address: of IPv6 the network of 64 bits, all of which one host may have to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn gate(limits: Limits) -> Arc<Gate> {
        Gate::new(limits)
    }

    fn host(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn has_to_leave(leaves: impl Future<Output = ()>) -> bool {
        let mut leaves = std::pin::pin!(leaves);
        leaves.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn above_the_limit_of_strangers_the_one_that_was_there_longest_leaves() {
        let gate = gate(Limits::default().strangers(2));
        let [mut first, mut second] = [1, 2].map(|number| gate.enter(host(number)).unwrap());
        let (first_leaves, second_leaves) = (first.leaves(), second.leaves());
        let mut third = gate.enter(host(3)).unwrap();
        assert!(has_to_leave(first_leaves));
        assert!(!has_to_leave(second_leaves));
        assert!(!first.prove(), "too late");
        drop(first);
        assert!(second.prove() && third.prove());
    }

    #[test]
    fn a_peer_never_leaves_and_is_no_stranger_any_more() {
        let gate = gate(Limits::default().strangers(1));
        let mut peer = gate.enter(host(1)).unwrap();
        let leaves = peer.leaves();
        assert!(peer.prove());
        let _strangers = [2, 3].map(|number| gate.enter(host(number)).unwrap());
        assert!(!has_to_leave(leaves));
    }

    #[test]
    fn there_are_as_many_peers_as_may_be_and_a_place_is_given_back() {
        let gate = gate(Limits::default().connections(1));
        let [mut first, mut second] = [1, 2].map(|number| gate.enter(host(number)).unwrap());
        assert!(first.prove());
        assert!(!second.prove());
        drop(first);
        assert!(second.prove());
    }

    #[test]
    fn one_address_takes_only_its_share() {
        let limits = Limits::default().connections_per_address(3).strangers_per_address(2);
        let gate = gate(limits);
        let mut other = gate.enter(host(2)).unwrap();
        let [mut first, mut second] = [gate.enter(host(1)), gate.enter(host(1))].map(Result::unwrap);
        let (first_leaves, other_leaves) = (first.leaves(), other.leaves());
        let mut third = gate.enter(host(1)).unwrap();
        assert!(has_to_leave(first_leaves) && !has_to_leave(other_leaves));
        assert!(second.prove() && third.prove());
        let mut fourth = gate.enter(host(1)).unwrap();
        assert_eq!(gate.enter(host(1)).unwrap_err(), Crowded);
        assert!(fourth.prove());
        assert_eq!(gate.enter(host(1)).unwrap_err(), Crowded);
        drop((first, second, third, fourth));
        assert_eq!(gate.inside().addresses.len(), 1, "what nobody holds is forgotten");
        assert_eq!(gate.inside().strangers.len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_mapped_ipv4_is_ipv4() {
        let same = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2"].map(|text| network(text.parse().unwrap()));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], network("2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), host(1));
    }
}
