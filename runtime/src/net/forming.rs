//! Peers whose first connection stands, and whose further ones are being made.
//!
//! Invariant: values and decisions only; the peers' task begins a group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// How long calls to a peer wait for its further connections. After that the first one takes all, for as long as it stands.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Forming {
    nodes: BTreeMap<NodeId, Waits>,
}

#[derive(Debug)]
struct Waits {
    until: Instant,
    /// Whether nobody outside knows yet that the peer is there.
    is_new: bool,
}

impl Forming {
    pub(super) fn add(&mut self, node: NodeId, is_new: bool, now: Instant) {
        self.nodes.insert(node, Waits { until: now + PATIENCE, is_new });
    }

    /// Gives whether the peer was new, if it was here.
    pub(super) fn remove(&mut self, node: &NodeId) -> Option<bool> {
        self.nodes.remove(node).map(|waits| waits.is_new)
    }

    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// When the patience with one of them ends next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.nodes.values().map(|waits| waits.until).min()
    }

    /// Those with whom it has ended.
    pub(super) fn overdue(&self, now: Instant) -> Vec<NodeId> {
        let overdue = self.nodes.iter().filter(|(_, waits)| waits.until <= now);
        overdue.map(|(node, _)| node.clone()).collect()
    }
}
