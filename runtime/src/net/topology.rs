//! Whom a node is configured to connect with, and with whom it is not to.
//!
//! Invariant: plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::id::NodeId;

/// What is configured. The peers' task makes it so, and does so anew whenever it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The addresses that are dialled as long as they stand here, each with the node that is said to be there.
    pub(crate) seeds: BTreeMap<Arc<str>, Option<NodeId>>,
    /// Those of the seeds that nobody has configured, but a discovery provider has found.
    pub(crate) found: BTreeSet<Arc<str>>,
    /// The nodes that are neither dialled nor let in.
    pub(crate) off: BTreeSet<NodeId>,
}

impl Topology {
    /// Adds the address of a peer.
    pub(crate) fn seed(&mut self, address: &str, node: Option<NodeId>) {
        let known = self.seeds.entry(address.into()).or_default();
        *known = known.take().or(node);
    }

    /// Adds an address that a discovery provider has found. One that is configured stays what it is.
    pub(crate) fn find(&mut self, address: &str) {
        if !self.seeds.contains_key(address) {
            let address: Arc<str> = address.into();
            self.found.insert(Arc::clone(&address));
            self.seeds.insert(address, None);
        }
    }

    /// Whether an address was found and not configured, and if so, whether it is one of an interface and no name.
    pub(crate) fn found(&self, address: &str) -> Option<bool> {
        self.found.contains(address).then(|| address.parse::<SocketAddr>().is_ok())
    }

    pub(crate) fn is_off(&self, node: &NodeId) -> bool {
        self.off.contains(node)
    }
}
