//! The cluster as a node's user sees it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::membership::Members;
use crate::node::node::{Inner, Node};

/// The cluster, as one node sees it. Got from [`Node::cluster`]; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

impl Node {
    /// The cluster that this node is a member of.
    pub fn cluster(&self) -> Cluster {
        Cluster { inner: Arc::clone(self.inner()) }
    }
}

impl Cluster {
    /// The members now: this node and all that are not known to have left or died. Peers of the wire's first revision are
    /// connected without being members.
    ///
    /// A node is found to be dead within 100 ms if its system says so, and within 5 s of silence; in between it is
    /// [`Suspected`](crate::MemberState::Suspected). A member may be one that this node itself is not connected with.
    pub fn members(&self) -> Members {
        self.inner.members.borrow().clone()
    }

    /// The members now, and then each time that they have changed. Whoever reads slowly misses what lies between.
    pub fn watch(&self) -> MembersWatch {
        let mut members = self.inner.members.clone();
        members.mark_changed();
        MembersWatch(members)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.inner.host.node).finish_non_exhaustive()
    }
}

/// The members of the cluster, each time that they have changed. Got from [`Cluster::watch`].
#[derive(Debug, Clone)]
pub struct MembersWatch(watch::Receiver<Members>);

impl MembersWatch {
    /// The members: at once for the first time, then when they have changed. `None` when the node has ended.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Members> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
