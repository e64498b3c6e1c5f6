//! What has gone between this node and each of its peers: sums over connections, of which each counts from its own beginning.
//!
//! Invariant: a sum never goes down while its peer is told by itself. What a connection carried between the last look and its end is not in it.

use std::collections::{BTreeSet, HashMap};

use crate::id::{Incarnation, NodeId};
use crate::node::manager::ConnectionReport;

use super::places::{Places, REST};

/// The bytes and frames of a connection, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) frames_received: u64,
    pub(super) frames_sent: u64,
}

/// The books of all peers.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    peers: Places<Sums>,
    rest: Sums,
    last: HashMap<NodeId, Last>,
}

/// What was seen last of the connections to a peer, by their numbers.
#[derive(Debug, Default)]
struct Last {
    began: Option<Began>,
    connections: HashMap<usize, Sums>,
}

/// Which connections to a peer these are: the peer's life, and how many to it were lost before. They all end together, and later ones have a
/// greater one.
type Began = (Incarnation, u32);

impl Traffic {
    /// Takes in what all connections tell now.
    pub(super) fn look(&mut self, reports: &[ConnectionReport]) {
        let there: BTreeSet<_> = reports.iter().map(|report| report.peer.as_str()).collect();
        self.peers.seat(&there);
        self.last.retain(|peer, _| there.contains(peer.as_str()));
        for report in reports.iter().filter(|report| report.number == 0) {
            let began = Some((report.incarnation, report.reconnects));
            let last = self.last.entry(report.peer.clone()).or_default();
            if last.began < began {
                *last = Last { began, connections: HashMap::new() };
            }
        }
        for report in reports {
            self.add(report);
        }
    }

    /// Adds what has come since the last look. Of two looks that overlap the older one may come later, and adds nothing.
    fn add(&mut self, report: &ConnectionReport) {
        let Some(last) = self.last.get_mut(&report.peer) else { return };
        let now = Sums::of(report);
        let before = last.connections.entry(report.number).or_default();
        let sums = self.peers.get_mut(report.peer.as_str()).unwrap_or(&mut self.rest);
        for (sum, before, now) in [
            (&mut sums.bytes_received, &mut before.bytes_received, now.bytes_received),
            (&mut sums.bytes_sent, &mut before.bytes_sent, now.bytes_sent),
            (&mut sums.frames_received, &mut before.frames_received, now.frames_received),
            (&mut sums.frames_sent, &mut before.frames_sent, now.frames_sent),
        ] {
            *sum += now.saturating_sub(*before);
            *before = now.max(*before);
        }
    }

    /// What a peer is told as.
    pub(super) fn label<'n>(&self, peer: &'n str) -> &'n str {
        self.peers.label(peer)
    }

    /// The sums, by what their peers are told as; those of the rest if there was any.
    pub(super) fn sums(&self) -> impl Iterator<Item = (&str, Sums)> {
        let has_rest = self.rest != Sums::default();
        // A peer may have the name of the rest.
        let namesake = self.peers.iter().any(|(name, _)| name == REST);
        let rest = (has_rest && !namesake).then_some((REST, self.rest));
        let of_peers = self.peers.iter().map(move |(name, sums)| match name {
            REST => (name, sums.plus(self.rest)),
            _ => (name, *sums),
        });
        of_peers.chain(rest)
    }
}

impl Sums {
    fn of(report: &ConnectionReport) -> Self {
        Self {
            bytes_received: report.bytes_received,
            bytes_sent: report.bytes_sent,
            frames_received: report.frames_received,
            frames_sent: report.frames_sent,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            bytes_received: self.bytes_received + other.bytes_received,
            bytes_sent: self.bytes_sent + other.bytes_sent,
            frames_received: self.frames_received + other.frames_received,
            frames_sent: self.frames_sent + other.frames_sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::manager::QueueReport;

    /// A connection of that number, which began after so many others, and has read so many bytes.
    fn report(peer: &str, reconnects: u32, number: usize, bytes_received: u64) -> ConnectionReport {
        ConnectionReport {
            peer: NodeId::new(peer).unwrap(),
            incarnation: Incarnation(1),
            number,
            age: Duration::ZERO,
            reconnects: if number == 0 { reconnects } else { 0 },
            bytes_received,
            frames_received: 0,
            bytes_sent: 0,
            frames_sent: 0,
            queue: QueueReport::default(),
            calls: 0,
            served: 0,
            without_credit: 0,
            waiting: Vec::new(),
            round_trip: None,
        }
    }

    fn sum(traffic: &Traffic, peer: &str) -> u64 {
        let found: Vec<_> = traffic.sums().filter(|(name, _)| *name == peer).collect();
        let [(_, sums)] = found[..] else { panic!("{peer} is there {} times", found.len()) };
        sums.bytes_received
    }

    #[test]
    fn connections_are_added_one_after_the_other_and_at_one_time() {
        let mut traffic = Traffic::default();
        for (looks, expected) in [
            (vec![report("b", 0, 0, 10), report("b", 0, 1, 5)], 15),
            (vec![report("b", 0, 0, 12), report("b", 0, 1, 5)], 17),
            (vec![], 17),                                              // away
            (vec![report("b", 1, 0, 3)], 20),                          // back, with one connection
            (vec![report("b", 1, 0, 3), report("b", 1, 1, 100)], 120), // and the other one
            (vec![report("b", 2, 0, 50), report("b", 2, 1, 1)], 171),  // all others, between two looks
        ] {
            traffic.look(&looks);
            assert_eq!(sum(&traffic, "b"), expected, "{looks:?}");
        }
    }

    #[test]
    fn of_two_looks_that_overlap_the_older_one_adds_nothing() {
        let mut traffic = Traffic::default();
        traffic.look(&[report("b", 0, 0, 10)]);
        traffic.look(&[report("b", 0, 0, 7)]);
        traffic.look(&[report("b", 0, 0, 11)]);
        assert_eq!(sum(&traffic, "b"), 11);
    }

    #[test]
    fn peers_beyond_the_bound_are_summed_up_with_one_that_is_named_as_they_are() {
        for has_namesake in [false, true] {
            let mut traffic = Traffic::default();
            let namesake = has_namesake.then(|| report(REST, 0, 0, 1000));
            traffic.look(namesake.as_slice()); // it has a place
            let mut looks: Vec<_> =
                (0..300).map(|number| report(&format!("n{number:03}"), 0, 0, 1)).collect();
            looks.extend(namesake);
            traffic.look(&looks);
            let (rest, names) = if has_namesake { (1000 + 300 - 255, 256) } else { (300 - 256, 257) };
            assert_eq!((sum(&traffic, REST), traffic.sums().count()), (rest, names));
            // One goes, and one that was among the rest has a place from then on: what it had sent stays with the rest.
            looks.remove(0);
            traffic.look(&looks);
            assert_eq!((sum(&traffic, REST), traffic.sums().count()), (rest, names));
        }
    }
}
