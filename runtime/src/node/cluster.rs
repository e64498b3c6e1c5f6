//! The node as a part of its cluster: who is there, and what is in force.

use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::membership::Members;
use crate::config::ConfigError;
use crate::node::configured::Configured;
use crate::node::node::{Inner, Node};
use crate::node::reload::{Reload, ReloadError};

/// A node as a part of its cluster. Got from [`Node::cluster`]. The node does not end while there is one, as with [`Node`]
/// itself.
#[derive(Debug, Clone)]
pub struct Cluster {
    node: Node,
}

impl Node {
    /// This node as a part of its cluster.
    pub fn cluster(&self) -> Cluster {
        Cluster { node: self.clone() }
    }
}

impl Cluster {
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The members now: this node and all that are not known to have left or died. Peers of the wire's first revision are
    /// connected without being members.
    ///
    /// A node is found to be dead within 100 ms if its system says so, and within 5 s of silence; in between it is
    /// [`Suspected`](crate::MemberState::Suspected). A member may be one that this node itself is not connected with.
    pub fn members(&self) -> Members {
        self.node.inner().members.borrow().clone()
    }

    /// Whether more than half of the nodes that are [expected](crate::NodeBuilder::expected_nodes) answer, this node included, as it
    /// sees it: they are connected with it and not suspected. If nobody has said how many nodes there are, there is none.
    ///
    /// Of the sides of a partition one at most has a quorum, once all have seen it, which takes [`silence`](crate::NodeBuilder::silence),
    /// 5 s, at the longest. So who takes over what one side alone may do waits so long after it has seen the others go, and who hears
    /// [`QuorumLost`](crate::Event::QuorumLost) stops at once.
    pub fn has_quorum(&self) -> bool {
        self.node.inner().members.borrow().has_quorum
    }

    /// The members now, and then each time that they have changed. Whoever reads slowly misses what lies between.
    pub fn watch(&self) -> MembersWatch {
        let mut members = self.node.inner().members.clone();
        members.mark_changed();
        MembersWatch(members)
    }

    /// Leaves the cluster: takes this node's names back, waits until the peers know that (at most 2 s), tells the members, and closes the
    /// connections. The node goes on by itself, with its own services, and connects with nobody any more; to be a member again it is
    /// started anew. What peers have under way here is answered if it ends within the time that the closing takes (2 s); what comes of what is under way
    /// there is [`CallError::Disconnected`](crate::CallError::Disconnected). [`Node::shutdown`] leaves by itself.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way the names may be taken back and the connections stand. It may be called again.
    pub async fn leave(&self) {
        self.node.retreat().await;
        self.node.disconnect().await;
    }

    /// Reads the configuration file again, checks it as a whole, and puts in force what has changed and needs no restart. Each
    /// [`Change`](crate::Change) says what was done about it. No connection ends but those with nodes that are turned off by
    /// `name = false`.
    ///
    /// Connections that are to be made or to end follow at once, but are not waited for. Services are: those that are new in the file are started, those that
    /// are gone are drained, and those that are configured otherwise are restarted, one instance after the other, without a failed call; another kind, `unique`
    /// or label is a drain and a start. One that refuses to start is named by [`Reload::failed`], and what was before goes on or is started again. Each has 10 min.
    ///
    /// # Errors
    /// [`ReloadError`] says why nothing has changed: the file cannot be used, or there is none.
    ///
    /// # Cancel safety
    /// Once polled it is put in force all the same. Services are then as far as they have come; the next reload goes on.
    pub async fn reload(&self) -> Result<Reload, ReloadError> {
        reload(self.node.inner()).await
    }

    /// What [`Cluster::reload`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Cluster::reload`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn plan(&self) -> Result<Reload, ReloadError> {
        with_file(self.node.inner(), Configured::plan).await
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

/// As [`Cluster::reload`].
pub(crate) async fn reload(inner: &Arc<Inner>) -> Result<Reload, ReloadError> {
    let reload = |configured: &Configured, inner: &Inner| configured.reload(inner).map(Some);
    let reload = put_in_force(inner, reload).await?;
    reload.ok_or_else(|| ReloadError::NoFile(inner.host.node.clone())) // a file that is read is there
}

/// Puts in force what was prepared under a number; `None` if that is not there any more.
pub(super) async fn commit(inner: &Arc<Inner>, number: u64) -> Result<Option<Reload>, ReloadError> {
    put_in_force(inner, move |configured, inner| configured.commit(inner, number).transpose()).await
}

/// Puts something in force, and then brings the services into line with it.
async fn put_in_force<F>(inner: &Arc<Inner>, run: F) -> Result<Option<Reload>, ReloadError>
where
    F: FnOnce(&Configured, &Inner) -> Result<Option<Reload>, ConfigError> + Send + 'static,
{
    let Some(mut reload) = with_file(inner, run).await? else { return Ok(None) };
    if let Some(configured) = &inner.configured {
        reload.failed = configured.staff(&Node::without_owner_of(Arc::clone(inner))).await;
    }
    Ok(Some(reload))
}

/// Does something with a node's configuration file, on a thread that may be blocked.
pub(super) async fn with_file<T, F>(inner: &Arc<Inner>, run: F) -> Result<T, ReloadError>
where
    T: Send + 'static,
    F: FnOnce(&Configured, &Inner) -> Result<T, ConfigError> + Send + 'static,
{
    let stopped = || ReloadError::NodeStopped(inner.host.node.clone());
    if inner.host.tasks.is_aborted() {
        return Err(stopped());
    }
    let inner = Arc::clone(inner);
    let run = move || match &inner.configured {
        Some(configured) => Ok(run(configured, &inner)?),
        None => Err(ReloadError::NoFile(inner.host.node.clone())),
    };
    // It fails when the runtime ends.
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|_| Err(stopped()))
}
