//! Reloading the configuration of a whole cluster from one node: all nodes read and check, and only then all put in force.
//!
//! That is two phases without a vote: a node that goes between them keeps its old configuration, and is named.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;

use crate::error::CallError;
use crate::id::NodeId;
use crate::node::cluster::Cluster;
use crate::node::manager::{ManageError, ManagerHandle, Prepared};
use crate::node::reload::Reload;

/// How long a node may take to bring its services into line with its file: they are restarted one instance after the other.
const COMMIT_WITHIN: Duration = Duration::from_secs(600);

/// What came of a reload of the whole cluster. Got from [`Cluster::reload_all`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClusterReload {
    /// What each member did, by name.
    pub nodes: BTreeMap<NodeId, NodeReload>,
}

/// What one node did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NodeReload {
    /// Its new configuration is in force.
    Done(Reload),
    /// Its new configuration can be used, and was discarded because of others: the old one is in force.
    Discarded(Reload),
    /// It was not started from a file, and has nothing to reload.
    NoFile,
    /// It refused: the old configuration is in force.
    Refused(ManageError),
    /// It did not answer: before anything was in force anywhere its old one is; else either may be.
    Unreachable(String),
}

impl ClusterReload {
    /// Whether the new configurations are in force, on every node that has one. Services that refused to start are in [`Reload::failed`].
    pub fn is_done(&self) -> bool {
        self.nodes.values().all(|node| matches!(node, NodeReload::Done(_) | NodeReload::NoFile))
    }

    /// The nodes that have refused or did not answer.
    pub fn failures(&self) -> impl Iterator<Item = (&NodeId, &NodeReload)> {
        let is_failure =
            |node: &NodeReload| matches!(node, NodeReload::Refused(_) | NodeReload::Unreachable(_));
        self.nodes.iter().filter(move |(_, node)| is_failure(node))
    }
}

impl Cluster {
    /// Reloads the configuration of all members from here: each reads its own file and checks it, and only when all of them can be used
    /// each puts it in force. If one refuses or does not answer, nothing has changed anywhere.
    ///
    /// A node that ends or is cut off between the two has its old configuration, or does not say: then it is
    /// [`Unreachable`](NodeReload::Unreachable), and the others have their new ones.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, some nodes may have their new configurations and others their old ones.
    pub async fn reload_all(&self) -> ClusterReload {
        let members = self.members().members.into_iter().map(|member| member.node);
        let prepared = join_all(members.map(|node| async {
            let prepared = self.prepare_on(&node).await;
            (node, prepared)
        }));
        let prepared = prepared.await;
        let is_usable = prepared.iter().all(|(_, prepared)| prepared.is_ok());
        let nodes = join_all(prepared.into_iter().map(|(node, prepared)| async {
            let outcome = match prepared {
                Err(failure) => failure,
                Ok(None) => NodeReload::NoFile,
                Ok(Some((manager, prepared))) if is_usable => commit(&manager, prepared).await,
                Ok(Some((manager, Prepared { number, reload, .. }))) => {
                    drop(manager.discard_reload(number).send().await); // the next one takes its place
                    NodeReload::Discarded(reload)
                }
            };
            (node, outcome)
        }));
        ClusterReload { nodes: nodes.await.into_iter().collect() }
    }

    /// Lets one node prepare; `None` if it has no file.
    async fn prepare_on(&self, node: &NodeId) -> Result<Option<(ManagerHandle, Prepared)>, NodeReload> {
        let manager = ManagerHandle::on(self.node(), node.as_str()).await;
        let manager = manager.map_err(|error| NodeReload::Unreachable(error.to_string()))?;
        match manager.prepare_reload().await {
            Ok(Ok(prepared)) => Ok(Some((manager, prepared))),
            Ok(Err(ManageError::NoFile(_))) => Ok(None),
            Ok(Err(error)) => Err(NodeReload::Refused(error)),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

async fn commit(manager: &ManagerHandle, prepared: Prepared) -> NodeReload {
    match manager.commit_reload(prepared.number).timeout(COMMIT_WITHIN).await {
        Ok(Ok(reload)) => NodeReload::Done(reload),
        Ok(Err(error)) => NodeReload::Refused(error),
        Err(error) => unreachable(&error),
    }
}

fn unreachable(error: &CallError) -> NodeReload {
    NodeReload::Unreachable(error.to_string())
}

impl fmt::Display for NodeReload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(reload) => {
                write!(f, "version {} with {} changes", reload.version, reload.changes.len())?;
                reload.failed.iter().try_for_each(|failed| {
                    write!(f, "; {} is not as the file says: {}", failed.service, failed.problem)
                })
            }
            Self::Discarded(_) => f.write_str("could have, and keeps the old one"),
            Self::NoFile => f.write_str("has no file"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Unreachable(why) => write!(f, "did not answer: {why}"),
        }
    }
}
