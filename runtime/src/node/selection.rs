//! Steering several nodes at once: all members, or those with certain labels.
//!
//! Invariant: each node is asked through its manager, and answers for itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;

use crate::cluster::membership::Members;
use crate::id::NodeId;
use crate::node::cluster::Cluster;
use crate::node::manager::{ManageError, ManagerHandle, NodeReport};
use crate::service::call::Call;
use crate::service::message::Message;
use crate::supervision::Pace;

/// Some members of the cluster, which are steered together. Got from [`Cluster::select`].
///
/// Each method asks the nodes that are members at that moment and have the labels, and gives what each of them answered, by name. A member that cannot be asked for its labels is among
/// them, with [`ManageError::Unreachable`]: nobody can say that it does not belong.
///
/// ```no_run
/// # use skyhold::prelude::*;
/// # async fn example(node: Node) {
/// let europe = node.cluster().select().with("zone", "eu");
/// for (node, answer) in europe.restart("accounts", skyhold::Pace::Rolling).await {
///     println!("{node}: {answer:?}");
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a selection does nothing by itself"]
pub struct Selection {
    cluster: Cluster,
    labels: Vec<(String, String)>,
    only: Option<NodeId>,
    timeout: Option<Duration>,
}

/// What each node answered.
type Answers<T> = BTreeMap<NodeId, Result<T, ManageError>>;

impl Cluster {
    /// All members, to be steered together. [`Selection::with`] chooses among them.
    pub fn select(&self) -> Selection {
        Selection { cluster: self.clone(), labels: Vec::new(), only: None, timeout: None }
    }
}

impl Selection {
    /// Only nodes with this label, among others. See [`NodeBuilder::label`](crate::NodeBuilder::label).
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Only this node.
    pub fn on(mut self, node: NodeId) -> Self {
        self.only = Some(node);
        self
    }

    /// How long each node may take for what it is asked to do. What takes longer goes on there, and its answer is lost. Default: the node's
    /// `call_timeout`, 30 s; a rolling restart or a drain may need more.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The nodes, and what each tells about itself.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn nodes(&self) -> Answers<NodeReport> {
        let members = self.members().await.into_iter();
        let reports = join_all(members.map(|node| async {
            let report = match self.manager(&node).await {
                Ok(manager) => manager.node().await.map_err(ManageError::from),
                Err(error) => Err(error),
            };
            (node, report)
        }));
        let is_meant = |report: &NodeReport| self.labels.iter().all(|label| report.labels.contains(label));
        let reports = reports.await.into_iter();
        reports.filter(|(_, report)| report.as_ref().map_or(true, is_meant)).collect()
    }

    /// Starts a service of a kind on each node, as [`ManagerHandle::start`] does.
    ///
    /// # Cancel safety
    /// Not cancel safe: some nodes may have done it.
    pub async fn start(&self, kind: &str, name: &str, instances: usize, config: &str) -> Answers<()> {
        self.each(|manager| async move {
            let start = manager.start(kind.to_owned(), name.to_owned(), instances, config.to_owned());
            self.limited(start).await?
        })
        .await
    }

    /// Restarts a service, as [`Node::restart_service`](crate::Node::restart_service). By [`Pace::Rolling`] node after node, by name, until one fails: those after it are not asked, and not in
    /// the answer. `false`: a node has no such service.
    ///
    /// # Cancel safety
    /// Not cancel safe: some nodes may have done it.
    pub async fn restart(&self, service: &str, pace: Pace) -> Answers<bool> {
        let restart = |manager: ManagerHandle| async move {
            self.limited(manager.restart(service.to_owned(), pace)).await?
        };
        if pace == Pace::AtOnce {
            return self.each(restart).await;
        }
        let mut answers = BTreeMap::new();
        for (node, report) in self.nodes().await {
            let answer = self.ask(&node, report, &restart).await;
            let is_over = answer.is_err();
            answers.insert(node, answer);
            if is_over {
                break;
            }
        }
        answers
    }

    /// Has so many instances of a service on each node that has it, as [`Node::scale_service`](crate::Node::scale_service).
    ///
    /// # Cancel safety
    /// Not cancel safe: some nodes may have done it.
    pub async fn scale(&self, service: &str, instances: usize) -> Answers<bool> {
        self.each(|manager| async move { self.limited(manager.scale(service.to_owned(), instances)).await? })
            .await
    }

    /// Drains a service, as [`Node::drain_service`](crate::Node::drain_service). Gives where there was one.
    ///
    /// # Cancel safety
    /// Not cancel safe: some nodes may have done it.
    pub async fn drain(&self, service: &str) -> Answers<bool> {
        self.each(|manager| async move { Ok(self.limited(manager.drain(service.to_owned())).await?) }).await
    }

    /// Stops a service, as [`Node::stop_service`](crate::Node::stop_service). Gives where there was one.
    ///
    /// # Cancel safety
    /// Not cancel safe: some nodes may have done it.
    pub async fn stop(&self, service: &str) -> Answers<bool> {
        self.each(|manager| async move { Ok(self.limited(manager.stop(service.to_owned())).await?) }).await
    }

    fn limited<R: Send, M: Message>(&self, call: Call<R, M>) -> Call<R, M> {
        match self.timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        }
    }

    /// The members; those that a peer sees, if this node is a client and none itself.
    async fn members(&self) -> Vec<NodeId> {
        if let Some(only) = &self.only {
            return vec![only.clone()];
        }
        let names = |members: Members| members.members.into_iter().map(|member| member.node).collect();
        let node = self.cluster.node();
        if !node.inner().is_client {
            return names(self.cluster.members());
        }
        for peer in node.peers() {
            if let Ok(manager) = self.manager(&peer).await
                && let Ok(seen) = manager.members().await
            {
                return names(seen);
            }
        }
        Vec::new()
    }

    /// Asks all nodes at once.
    async fn each<T, F, A>(&self, ask: F) -> Answers<T>
    where
        F: Fn(ManagerHandle) -> A,
        A: Future<Output = Result<T, ManageError>>,
    {
        let ask = &ask;
        let answers = self.nodes().await.into_iter().map(|(node, report)| async move {
            let answer = self.ask(&node, report, ask).await;
            (node, answer)
        });
        join_all(answers).await.into_iter().collect()
    }

    async fn ask<T, F, A>(
        &self,
        node: &NodeId,
        report: Result<NodeReport, ManageError>,
        ask: &F,
    ) -> Result<T, ManageError>
    where
        F: Fn(ManagerHandle) -> A,
        A: Future<Output = Result<T, ManageError>>,
    {
        report?;
        ask(self.manager(node).await?).await
    }

    async fn manager(&self, node: &NodeId) -> Result<ManagerHandle, ManageError> {
        let manager = ManagerHandle::on(self.cluster.node(), node.as_str()).await;
        manager.map_err(|error| ManageError::Unreachable(error.to_string()))
    }
}
