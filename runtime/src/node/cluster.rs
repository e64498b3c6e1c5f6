//! The node as a part of its cluster: what is in force there.

use std::sync::Arc;

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
    /// Reads the configuration file again, checks it as a whole, and puts in force what has changed and needs no restart. Each
    /// [`Change`](crate::Change) says what was done about it. No connection ends but those with nodes that are turned off by
    /// `name = false`.
    ///
    /// Connections that are to be made or to end follow at once, but are not waited for.
    ///
    /// # Errors
    /// [`ReloadError`] says why nothing has changed: the file cannot be used, or there is none.
    ///
    /// # Cancel safety
    /// Once polled it is done all the same; only the waiting is cut short.
    pub async fn reload(&self) -> Result<Reload, ReloadError> {
        blocking(self.node.inner(), |inner| match &inner.configured {
            Some(configured) => Ok(configured.reload(inner)?),
            None => Err(ReloadError::NoFile(inner.host.node.clone())),
        })
        .await
    }

    /// What [`Cluster::reload`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Cluster::reload`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn plan(&self) -> Result<Reload, ReloadError> {
        blocking(self.node.inner(), |inner| match &inner.configured {
            Some(configured) => Ok(configured.plan(inner)?),
            None => Err(ReloadError::NoFile(inner.host.node.clone())),
        })
        .await
    }
}

/// Runs what reads files on a thread that may be blocked.
async fn blocking<F>(inner: &Arc<Inner>, run: F) -> Result<Reload, ReloadError>
where
    F: FnOnce(&Inner) -> Result<Reload, ReloadError> + Send + 'static,
{
    let stopped = || ReloadError::NodeStopped(inner.host.node.clone());
    if inner.host.tasks.is_aborted() {
        return Err(stopped());
    }
    let inner = Arc::clone(inner);
    // It fails when the runtime ends.
    tokio::task::spawn_blocking(move || run(&inner)).await.unwrap_or_else(|_| Err(stopped()))
}
