//! What a node holds at this moment, so that a test can tell that nothing was left behind.

use crate::node::node::Node;

/// How much of each kind of thing a node holds. Got from [`usage`].
///
/// ```
/// use skyhold::prelude::*;
/// use skyhold::testing::usage;
/// # #[derive(Default)] struct Counter;
/// # #[service] impl Counter { pub fn get(&self) -> u8 { 0 } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").start().await?;
/// let before = usage(&node);
/// let counter = node.spawn(Counter);
/// assert_eq!(usage(&node).instances, before.instances + 1);
/// node.stop(&counter).await?;
/// # tokio::task::yield_now().await;
/// assert_eq!(usage(&node), before);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Instances that have not ended for good.
    pub instances: usize,
    /// Names of services that are taken on this node.
    pub names: usize,
    /// Supervisors that no other supervises, and that have not ended.
    pub supervisors: usize,
    /// Tasks of the node, its own and those of its services. One that has done its work is counted until its runtime has
    /// taken it away.
    pub tasks: usize,
}

/// What the node holds now.
pub fn usage(node: &Node) -> Usage {
    let inner = node.inner();
    Usage {
        instances: inner.host.all_residents().len(),
        names: inner.groups().len(),
        supervisors: inner.supervisors().iter().filter(|control| !control.is_gone()).count(),
        tasks: inner.host.tasks.len(),
    }
}
