//! The manager: a service of every node, by which the node is looked at and steered, from itself and from others.
//!
//! It has a number that every node knows, and is made when somebody first asks for it. What it tells it reads from what instances share with
//! everybody; it never waits for a service that it is asked about.

mod figures;
mod process;
mod report;
mod traffic;

use std::sync::{Arc, PoisonError};

use crate::config::{Labels, ServiceEntry};
use crate::error::LookupError;
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::node::cluster;
use crate::node::configured::Configured;
use crate::node::kinds::KindProblem;
use crate::node::node::{Inner, Node};
use crate::node::reload::Reload;
use crate::node::travel;
use crate::port::Links as _;
use crate::service::context::Context;
use crate::service::deliver;
use crate::service::handle::ServiceHandle as _;
use crate::service::host::{Host, OWN};
use crate::service::instance;
use crate::supervision::Pace;
use crate::time;

pub use figures::{Figures, HandlerReport, Latency, MethodReport, Outcomes, ServiceReport, WaitReport};
pub use process::ProcessReport;
pub use report::{InstanceReport, ManageError, NodeReport, Prepared};
pub use traffic::{ConnectionReport, QueueReport};

/// Looks at a node and steers it. Got by [`Node::manager`] for the node itself, by [`ManagerHandle::on`] for another one.
///
/// Whoever is a peer may call it, as far as the [rules of access](crate::Access) for the service `skyhold/manager` say.
#[derive(Debug)]
pub struct Manager(());

#[skyhold_macros::service(crate = crate, name = "skyhold/manager")]
impl Manager {
    /// The node, and what it was told about itself.
    pub fn node(&self, context: &Context) -> NodeReport {
        NodeReport::of(context.node().inner())
    }

    /// Every instance that runs on the node, by service and number, whether or not it has a name.
    pub fn instances(&self, context: &Context) -> Vec<InstanceReport> {
        InstanceReport::all(&context.node().inner().host)
    }

    /// A service of the node, by its name, with its methods: what its instances have done and do. `None` if there is none, and never was. Instances without a
    /// name are found by the name of their type.
    pub fn stats(&self, context: &Context, service: String) -> Option<ServiceReport> {
        ServiceReport::of(&context.node().inner().host, service)
    }

    /// Every connection of the node, by peer. Each peer is asked for an answer first, which may take a second.
    pub async fn connections(&self, context: &Context) -> Vec<ConnectionReport> {
        ConnectionReport::all(context.node().inner()).await
    }

    /// Starts a service of a [kind](Node::kind) under a name, with so many instances. `config` is a text of TOML, what stands under
    /// `[service.config]` in a file.
    pub async fn start(
        &self,
        context: &Context,
        kind: String,
        name: String,
        instances: usize,
        config: String,
    ) -> Result<(), ManageError> {
        let node = context.node();
        let config =
            config.parse().map_err(|error: toml::de::Error| ManageError::Start(error.to_string()))?;
        let (is_unique, labels, place) = (false, Labels::default(), None);
        let entry = ServiceEntry { name, kind, instances, is_unique, labels, config, place };
        let service = node.inner().kinds.prepare(&entry);
        let service = service
            .map_err(|KindProblem { key, problem }| ManageError::Start(format!("`{key}` {problem}")))?;
        Ok(service(node).await?)
    }

    /// As [`Node::restart_service`]. Gives whether there is such a service.
    pub async fn restart(&self, context: &Context, service: String, pace: Pace) -> Result<bool, ManageError> {
        Ok(context.node().restart_service(&service, pace).await?)
    }

    /// As [`Node::restart_instance`]. Gives whether there is such an instance.
    pub async fn restart_instance(
        &self,
        context: &Context,
        instance: InstanceId,
    ) -> Result<bool, ManageError> {
        Ok(context.node().restart_instance(instance).await?)
    }

    /// As [`Node::scale_service`]. Gives whether there is such a service.
    pub async fn scale(
        &self,
        context: &Context,
        service: String,
        instances: usize,
    ) -> Result<bool, ManageError> {
        Ok(context.node().scale_service(&service, instances).await?)
    }

    /// As [`Node::stop_service`]. Gives whether there was such a service.
    pub async fn stop(&self, context: &Context, service: String) -> bool {
        context.node().stop_service(&service).await
    }

    /// As [`Node::drain_service`]. Gives whether there was such a service.
    pub async fn drain(&self, context: &Context, service: String) -> bool {
        context.node().drain_service(&service).await
    }

    /// As [`Cluster::plan`](crate::Cluster::plan).
    pub async fn plan(&self, context: &Context) -> Result<Reload, ManageError> {
        Ok(context.node().cluster().plan().await?)
    }

    /// As [`Cluster::reload`](crate::Cluster::reload).
    pub async fn reload(&self, context: &Context) -> Result<Reload, ManageError> {
        Ok(context.node().cluster().reload().await?)
    }

    /// Reads the node's configuration file again and checks it, and keeps what it says until [`ManagerHandle::commit_reload`] puts it in force. What is
    /// prepared takes the place of what was prepared before.
    pub async fn prepare_reload(&self, context: &Context) -> Result<Prepared, ManageError> {
        let prepare = |configured: &Configured, inner: &Inner| configured.prepare(inner);
        let (number, reload) = cluster::with_file(context.node().inner(), prepare).await?;
        Ok(Prepared { number, reload })
    }

    /// Puts in force what was prepared under this number.
    pub async fn commit_reload(&self, context: &Context, number: u64) -> Result<Reload, ManageError> {
        let commit =
            move |configured: &Configured, inner: &Inner| configured.commit(inner, number).transpose();
        let committed = cluster::with_file(context.node().inner(), commit).await?;
        committed.ok_or(ManageError::NotPrepared { number })
    }

    /// Forgets what was prepared under this number, if that is still there.
    pub fn discard_reload(&self, context: &Context, number: u64) {
        if let Some(configured) = &context.node().inner().configured {
            drop(configured.take_prepared(number));
        }
    }
}

impl Node {
    /// The manager of this node.
    pub fn manager(&self) -> ManagerHandle {
        ensure(&self.inner().host);
        lead(self.inner(), self.inner().host.own_address())
    }
}

impl ManagerHandle {
    /// The manager of another node. Waits until that node is connected, at most the `call_timeout` of `node`. When the other one begins another life its
    /// manager is another one: this handle's calls are answered [`CallError::Stale`](crate::CallError::Stale) then.
    ///
    /// # Errors
    /// [`LookupError::NotFound`] if it is not connected in time, [`LookupError::NodeStopped`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn on(node: &Node, other: &str) -> Result<Self, LookupError> {
        if node.id().as_str() == other {
            return Ok(node.manager());
        }
        let inner = node.inner();
        let limit = inner.host.call_timeout();
        let not_found = |waited| LookupError::NotFound {
            name: "skyhold/manager".to_owned(),
            place: format!(" on node {other:?}"),
            node: node.id().clone(),
            waited,
        };
        let Ok(other) = NodeId::new(other) else { return Err(not_found(String::new())) };
        let search = connected(inner, &other);
        match time::timeout(limit, search).await {
            Some(Some(incarnation)) => {
                Ok(lead(inner, Address { node: other.clone(), incarnation, instance: OWN }))
            }
            Some(None) => Err(LookupError::NodeStopped(node.id().clone())),
            None => Err(not_found(format!(" after waiting {limit:?}"))),
        }
    }
}

/// Waits until a node is connected, and gives its life; `None` when this node has ended.
async fn connected(inner: &Inner, other: &NodeId) -> Option<Incarnation> {
    loop {
        let changed = inner.table.changed();
        if let Some(link) = inner.table.link(other) {
            return Some(link.peer().incarnation);
        }
        tokio::select! {
            () = inner.host.tasks.aborted() => return None,
            () = changed => {}
        }
    }
}

fn lead(inner: &Inner, address: Address) -> ManagerHandle {
    ManagerHandle::from_inner(travel::lead_to(inner, address, None, None))
}

/// Makes a node's manager, unless it is there or the node goes.
pub(super) fn ensure(host: &Arc<Host>) {
    let Some(inner) = Inner::of(host) else { return };
    // Under the lock: of two that ask at one moment one makes it.
    let _making = inner.managing.lock().unwrap_or_else(PoisonError::into_inner);
    if host.resident(OWN).is_none() && !host.is_shutting_down() {
        instance::start_own(host, Manager(()), deliver::reachable);
    }
}
