//! The manager: a service of every node, by which the node is looked at and steered, from itself and from others.
//!
//! It has a number that every node knows, and is made when somebody first asks for it. What it tells it reads from what instances share with
//! everybody; it never waits for a service that it is asked about.

mod by_name;
mod figures;
mod process;
mod report;
mod seen;
mod traffic;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::Semaphore;

use crate::cluster::membership::Members;
use crate::config::{Asked, Labels, ServiceEntry};
use crate::error::{CallError, LookupError};
use crate::event::Counters;
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::node::central::{CentralError, SettingVersion, Version};
use crate::node::cluster;
use crate::node::configured::Configured;
use crate::node::kinds::KindProblem;
use crate::node::node::{Inner, Node};
use crate::node::reload::Reload;
use crate::node::travel;
use crate::port::Links as _;
use crate::service::by_name::ByName;
use crate::service::context::Context;
use crate::service::deliver;
use crate::service::handle::ServiceHandle as _;
use crate::service::host::{Host, OWN};
use crate::service::instance;
use crate::service::tap::TraceItem;
use crate::supervision::Pace;
use crate::time;

use by_name::Place;

pub use by_name::{InterfaceMethod, InterfaceReport};
pub use figures::{Figures, HandlerReport, Latency, MethodReport, Outcomes, ServiceReport, WaitReport};
pub use process::ProcessReport;
pub use report::{InstanceReport, ManageError, NodeReport, Prepared};
pub use seen::{EventReport, KnownService, ServiceInstance, TreeReport};
pub use traffic::{ConnectionReport, QueueReport};

/// Looks at a node and steers it. Got by [`Node::manager`] for the node itself, by [`ManagerHandle::on`] for another one.
///
/// Whoever is a peer may call it, as far as the [rules of access](crate::Access) for the service `skyhold/manager` say.
#[derive(Debug)]
pub struct Manager {
    /// The places for calls by name.
    by_name: Semaphore,
}

/// How many calls by name may be under way: fewer than handlers may run, so that who asks for something else is heard.
const MOST_BY_NAME: usize = 128;

#[skyhold_macros::service(crate = crate, name = "skyhold/manager", concurrency = 256)]
impl Manager {
    /// The node, and what it was told about itself.
    pub fn node(&self, context: &Context) -> NodeReport {
        NodeReport::of(context.node().inner())
    }

    /// Every instance that runs on the node, by service and number, whether or not it has a name.
    pub fn instances(&self, context: &Context) -> Vec<InstanceReport> {
        InstanceReport::all(&context.node().inner().host)
    }

    /// The members of the cluster, as the node sees them.
    pub fn members(&self, context: &Context) -> Members {
        context.node().cluster().members()
    }

    /// The named services of the whole cluster, as the node knows them, by name.
    pub fn services(&self, context: &Context) -> Vec<KnownService> {
        seen::services(context.node().inner())
    }

    /// What happens on the node from now on. Who reads slowly misses the oldest, and is told how many.
    pub fn events(&self, context: &Context) -> impl Stream<Item = EventReport> + Send + use<> {
        seen::events(context.node().inner())
    }

    /// What has been counted since the node's start.
    pub fn counters(&self, context: &Context) -> Counters {
        context.node().counters()
    }

    /// Who supervises whom on the node: the supervisors that no other supervises, with all below them. A supervisor that does not answer within
    /// 2 s is shown without children.
    pub async fn tree(&self, context: &Context) -> Vec<TreeReport> {
        seen::tree(context.node().inner()).await
    }

    /// The routing rules that are in force on the node, in order, as they are written in its log.
    pub fn routes(&self, context: &Context) -> Vec<String> {
        context.node().inner().in_force.routing.rules()
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

    /// What a service understands: its methods, with their documentation, arguments and replies. By the name of a service, or by the
    /// address of an instance as it is written: `a#7`. If this node has no such service, another one that has it is asked.
    pub async fn describe(&self, context: &Context, service: String) -> Result<InterfaceReport, CallError> {
        let node = context.node();
        match by_name::place(&node, &service)? {
            Place::Here(place) => by_name::describe(&node, context.caller(), &place),
            Place::On(other) => {
                by_name::check(&node, context.caller(), &service, Asked::Any)?;
                by_name::manager(&node, &other).await?.describe(service).await?
            }
        }
    }

    /// Calls a method by its name, with JSON: an object of the arguments by name, or an array of them in order. Gives the reply as JSON. The
    /// service is named as for [`ManagerHandle::describe`]; the call takes the way through the mailbox that any other takes, and its errors are
    /// the same. The rules of access of this node, and of the one that has the service, are held against whoever calls the manager.
    ///
    /// JSON carries no streams, and numbers of up to 64 bits. At most 128 such calls are under way on a node.
    pub async fn call_json(
        &self,
        context: &Context,
        service: String,
        method: String,
        arguments: String,
        timeout: Option<Duration>,
    ) -> Result<String, CallError> {
        let call = ByName { method, arguments, timeout, is_send: false };
        self.by_name(context, service, call, true).await
    }

    /// As [`ManagerHandle::call_json`], without waiting for the reply.
    pub async fn send_json(
        &self,
        context: &Context,
        service: String,
        method: String,
        arguments: String,
    ) -> Result<(), CallError> {
        let call = ByName { method, arguments, timeout: None, is_send: true };
        self.by_name(context, service, call, true).await.map(drop)
    }

    /// As [`ManagerHandle::call_json`] and [`ManagerHandle::send_json`], for a service of this node alone: what one manager asks another one for.
    pub async fn by_name_here(
        &self,
        context: &Context,
        service: String,
        method: String,
        arguments: String,
        timeout: Option<Duration>,
        is_send: bool,
    ) -> Result<String, CallError> {
        self.by_name(context, service, ByName { method, arguments, timeout, is_send }, false).await
    }

    /// Shows each message of a service's instances on this node, as it begins and as it ends, from now on: the instances that there are, through
    /// all their lives. The service is named as for [`ManagerHandle::describe`]. Who reads slowly misses the oldest, and is told how
    /// many. Arguments may hold what is secret: who may call this sees it, as far as the rules of access let it call the service.
    pub fn trace(
        &self,
        context: &Context,
        service: String,
    ) -> Result<impl Stream<Item = TraceItem> + Send + use<>, CallError> {
        let (node, service) = (context.node(), service.into_boxed_str());
        let Place::Here(place) = by_name::place(&node, &service)? else {
            let detail = format!("node {} has no service {service:?}", node.id());
            return Err(CallError::NoRoute(detail.into()));
        };
        by_name::check(&node, context.caller(), place.core.service(), Asked::Any)?;
        Ok(by_name::trace(&node, &service, place))
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
        let (is_unique, is_unsure, labels, place) = (false, false, Labels::default(), None);
        let entry = ServiceEntry { name, kind, instances, is_unique, labels, config, place, is_unsure };
        let service = node.inner().kinds.prepare(&entry);
        let service = service
            .map_err(|KindProblem { key, problem }| ManageError::Start(format!("`{key}` {problem}")))?;
        Ok(service.start(node).await?)
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
        let committed = cluster::commit(context.node().inner(), number).await?;
        committed.ok_or(ManageError::NotPrepared { number })
    }

    /// As [`CentralConfig::get_text`](crate::CentralConfig::get_text).
    #[expect(clippy::needless_pass_by_value, reason = "messages own their arguments")]
    pub fn config_get(&self, context: &Context, key: String) -> Result<Option<SettingVersion>, CentralError> {
        context.node().config().get_text(&key)
    }

    /// As [`CentralConfig::set_text`](crate::CentralConfig::set_text); with a version that is expected, as
    /// [`CentralConfig::compare_and_set_text`](crate::CentralConfig::compare_and_set_text).
    pub async fn config_set(
        &self,
        context: &Context,
        key: String,
        text: String,
        expected: Option<Version>,
    ) -> Result<Version, CentralError> {
        context.node().config().write(&key, expected, Some(text)).await
    }

    /// As [`CentralConfig::delete`](crate::CentralConfig::delete); with a version that is expected, only if the key has it.
    pub async fn config_delete(
        &self,
        context: &Context,
        key: String,
        expected: Option<Version>,
    ) -> Result<Version, CentralError> {
        context.node().config().write(&key, expected, None).await
    }

    /// As [`CentralConfig::list`](crate::CentralConfig::list).
    #[expect(clippy::needless_pass_by_value, reason = "messages own their arguments")]
    pub fn config_list(
        &self,
        context: &Context,
        prefix: String,
    ) -> Result<Vec<SettingVersion>, CentralError> {
        context.node().config().list(&prefix)
    }

    /// As [`CentralConfig::history`](crate::CentralConfig::history).
    pub async fn config_history(
        &self,
        context: &Context,
        key: String,
    ) -> Result<Vec<SettingVersion>, CentralError> {
        context.node().config().history(&key).await
    }

    /// As [`CentralConfig::rollback`](crate::CentralConfig::rollback).
    pub async fn config_rollback(
        &self,
        context: &Context,
        key: String,
        version: Version,
    ) -> Result<Version, CentralError> {
        context.node().config().rollback(&key, version).await
    }

    /// Forgets what was prepared under this number, if that is still there.
    pub fn discard_reload(&self, context: &Context, number: u64) {
        if let Some(configured) = &context.node().inner().configured {
            drop(configured.take_prepared(number));
        }
    }
}

impl Manager {
    async fn by_name(
        &self,
        context: &Context,
        service: String,
        call: ByName,
        may_be_elsewhere: bool,
    ) -> Result<String, CallError> {
        let (node, caller) = (context.node(), context.caller());
        let Ok(_place) = self.by_name.try_acquire() else {
            let detail = format!("{MOST_BY_NAME} calls by name are under way on node {}", node.id());
            return Err(CallError::Overloaded(detail.into()));
        };
        let called = async {
            match by_name::place(&node, &service)? {
                Place::Here(place) => by_name::call(&node, caller, place, call).await,
                Place::On(other) if may_be_elsewhere => {
                    by_name::check(&node, caller, &service, Asked::Method(&call.method))?;
                    let ByName { method, arguments, timeout, is_send } = call;
                    let manager = by_name::manager(&node, &other).await?;
                    manager.by_name_here(service, method, arguments, timeout, is_send).await?
                }
                Place::On(_) => {
                    let detail = format!("node {} has no service {service:?} any more", node.id());
                    Err(CallError::NoRoute(detail.into()))
                }
            }
        };
        tokio::select! {
            answer = called => answer,
            // Whoever asked has given up: the request is taken back.
            () = context.cancelled() => Err(CallError::NoReply("nobody waits for the reply any more".into())),
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
pub(super) async fn connected(inner: &Inner, other: &NodeId) -> Option<Incarnation> {
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
        let manager = Manager { by_name: Semaphore::new(MOST_BY_NAME) };
        instance::start_own(host, OWN, manager, deliver::reachable);
    }
}
