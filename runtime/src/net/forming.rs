//! Peers whose first connection stands, and whose further ones are being made.
//!
//! Invariant: values and decisions only; the peers' task begins a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::port::Link;

/// How long calls to a peer wait for its further connections. After that the first one takes all, for as long as it stands.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Forming {
    nodes: BTreeMap<NodeId, Waits>,
}

#[derive(Debug)]
pub(super) struct Waits {
    until: Instant,
    /// Whether nobody outside knows yet that the peer is there.
    pub(super) is_new: bool,
    /// What calls go over until then: the connection whose place the new one takes, if there was one.
    pub(super) standing: Option<Arc<Link>>,
}

impl Forming {
    pub(super) fn add(&mut self, node: NodeId, is_new: bool, standing: Option<Arc<Link>>, now: Instant) {
        self.nodes.insert(node, Waits { until: now + PATIENCE, is_new, standing });
    }

    pub(super) fn remove(&mut self, node: &NodeId) -> Option<Waits> {
        self.nodes.remove(node)
    }

    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    /// Those to which calls go over what stands meanwhile.
    pub(super) fn standing(&self) -> impl Iterator<Item = (&NodeId, &Arc<Link>)> {
        self.nodes.iter().filter_map(|(node, waits)| Some((node, waits.standing.as_ref()?)))
    }

    /// Those for which calls wait.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter().filter(|(_, waits)| waits.standing.is_none()).map(|(node, _)| node)
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
