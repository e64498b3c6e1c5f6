//! The faults between hosts: which pairs are cut, who is paused, how long bytes take.
//!
//! It must never touch a stream: it answers what a link does at this moment, and whoever changes it tells the streams.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// What every link between two hosts does at this moment. A host's way to itself is no link: it has neither delay
/// nor partition.
#[derive(Default)]
pub(super) struct Links {
    cut: BTreeSet<Pair>,
    paused: BTreeSet<Ipv4Addr>,
    delay: Duration,
    delays: BTreeMap<Pair, Duration>,
}

/// Two hosts, the lower address first, since a link is the same from both sides.
type Pair = (Ipv4Addr, Ipv4Addr);

impl Links {
    /// When something that leaves `from` now reaches `to`; nothing if it is held on the way.
    pub(super) fn due(&self, from: Ipv4Addr, to: Ipv4Addr, now: Instant) -> Option<Instant> {
        let held = self.is_cut(from, to) || self.is_paused(from) || self.is_paused(to);
        (!held).then(|| now + self.delay(from, to))
    }

    /// How long bytes take on the link, in either direction.
    pub(super) fn delay(&self, from: Ipv4Addr, to: Ipv4Addr) -> Duration {
        if from == to {
            return Duration::ZERO;
        }
        self.delays.get(&pair(from, to)).copied().unwrap_or(self.delay)
    }

    /// Whether nothing passes between the two.
    pub(super) fn is_cut(&self, a: Ipv4Addr, b: Ipv4Addr) -> bool {
        self.cut.contains(&pair(a, b))
    }

    /// Whether the host stands still.
    pub(super) fn is_paused(&self, host: Ipv4Addr) -> bool {
        self.paused.contains(&host)
    }

    /// Cuts the link between the two; a host is never cut from itself.
    pub(super) fn cut(&mut self, a: Ipv4Addr, b: Ipv4Addr) {
        if a != b {
            self.cut.insert(pair(a, b));
        }
    }

    /// Restores every link that was cut.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Makes the host stand still, or move again.
    pub(super) fn set_paused(&mut self, host: Ipv4Addr, paused: bool) {
        if paused {
            self.paused.insert(host);
        } else {
            self.paused.remove(&host);
        }
    }

    /// Sets the delay of all links, those included that had one of their own.
    pub(super) fn set_delay(&mut self, delay: Duration) {
        self.delays.clear();
        self.delay = delay;
    }

    /// Sets the delay of one link.
    pub(super) fn set_delay_between(&mut self, a: Ipv4Addr, b: Ipv4Addr, delay: Duration) {
        self.delays.insert(pair(a, b), delay);
    }
}

fn pair(a: Ipv4Addr, b: Ipv4Addr) -> Pair {
    (a.min(b), a.max(b))
}
