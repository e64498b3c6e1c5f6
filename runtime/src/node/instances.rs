//! The instances of a name, as this node knows them, and each change of them.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::coordinator::Names;
use crate::config::Labels;
use crate::id::{Address, NodeId};

/// The instances of one name at one moment, as one node knows them. Got from [`InstancesWatch::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instances {
    /// Only goes up in a node's life: of two values the one with the higher version is the later.
    pub version: u64,
    /// The instances, by node and number.
    pub instances: Vec<KnownInstance>,
}

/// An instance that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownInstance {
    /// Where it is.
    pub address: Address,
    /// Its labels, and those of its node.
    pub labels: Arc<Labels>,
    /// Whether the connection to its node was lost and is being made again. Calls through the name go to others as long as there are any.
    pub is_away: bool,
}

/// The instances of a name, each time that they have changed. Got from [`Lookup::watch_instances`](crate::Lookup::watch_instances).
///
/// ```
/// # use skyhold::prelude::*;
/// # #[derive(Default)]
/// # struct Counter;
/// # #[service]
/// # impl Counter { pub fn total(&self) -> u64 { 0 } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").label("zone", "eu").start().await?;
/// node.service("counter", Counter::default).instances(2).start().await?;
/// let counter = CounterHandle::lookup(&node, "counter").await?;
/// let mut watch = counter.watch_instances()?;
/// let known = watch.next().await.expect("the node lives");
/// assert_eq!(known.instances.len(), 2);
/// assert_eq!(known.instances[0].labels.get("zone"), Some("eu"));
/// # Ok(())
/// # }
/// ```
pub struct InstancesWatch {
    name: Arc<str>,
    interface: &'static str,
    only_on: Option<NodeId>,
    names: Arc<Names>,
    changes: watch::Receiver<()>,
    last: Option<Vec<KnownInstance>>,
}

impl InstancesWatch {
    pub(super) fn new(
        name: Arc<str>,
        interface: &'static str,
        only_on: Option<NodeId>,
        names: Arc<Names>,
    ) -> Self {
        let mut changes = names.changes();
        changes.mark_changed();
        Self { name, interface, only_on, names, changes, last: None }
    }

    /// The instances: at once for the first time, also if there are none, then when they have changed. Whoever reads slowly misses what
    /// lies between. `None` when the node has ended.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Instances> {
        loop {
            self.changes.changed().await.ok()?;
            // Read before the names: what changes meanwhile is another change.
            let version = self.names.version();
            let instances = self.known();
            if self.last.as_ref() != Some(&instances) {
                self.last = Some(instances.clone());
                return Some(Instances { version, instances });
            }
        }
    }

    fn known(&self) -> Vec<KnownInstance> {
        let names = self.names.current();
        let known = names.candidates(&self.name).iter().filter(|candidate| {
            let is_on = self.only_on.as_ref().is_none_or(|node| *node == candidate.address.node);
            is_on && *candidate.interface == *self.interface
        });
        known
            .map(|candidate| KnownInstance {
                address: candidate.address.clone(),
                labels: Arc::clone(&candidate.labels),
                is_away: candidate.is_away,
            })
            .collect()
    }
}

impl fmt::Debug for InstancesWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstancesWatch").field("name", &self.name).finish_non_exhaustive()
    }
}
