//! Addresses that never change.

use super::{AskingNode, Discovery, DiscoveryFuture};

/// Addresses that are given once and for all.
///
/// As [`NodeBuilder::seed`](crate::NodeBuilder::seed) for each, but that all nodes may have the same list: the node's own address,
/// by whatever name, is dialled once and then once a minute at most.
///
/// ```
/// # use skyhold::{FixedList, Node};
/// let node = Node::builder("a").discover(FixedList::new(["node-a:7001", "node-b:7001", "node-c:7001"]));
/// ```
#[derive(Debug, Clone)]
pub struct FixedList {
    addresses: Vec<String>,
}

impl FixedList {
    /// These addresses, each as `host:port`.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self { addresses: addresses.into_iter().map(Into::into).collect() }
    }
}

impl Discovery for FixedList {
    fn find<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        Box::pin(async { Ok(self.addresses.clone()) })
    }
}
