//! Services described, and called by name: here, or by the manager of a node that has them.
//!
//! Invariant: whoever may call the manager may call no service that it may not call itself.

use std::sync::Arc;

use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use crate::config::Asked;
use crate::error::CallError;
use crate::id::{InstanceId, NodeId};
use crate::node::manager::{ManagerHandle, ensure};
use crate::node::node::Node;
use crate::random;
use crate::service::by_name::ByName;
use crate::service::core::Core;
use crate::service::host::{OWN, Resident};
use crate::service::message::Method;
use crate::service::tap::{self, TraceEvent, TraceItem};

/// The interface of a service. Got from [`ManagerHandle::describe`](crate::ManagerHandle::describe).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InterfaceReport {
    /// The service's name; of an instance without a name that of its type.
    pub service: String,
    /// The node that described it.
    pub node: NodeId,
    /// The interface's name.
    pub interface: String,
    /// The types for which a generic service's parameters stand, in order.
    pub type_arguments: Vec<String>,
    /// The methods, in their order.
    pub methods: Vec<InterfaceMethod>,
}

/// A method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InterfaceMethod {
    /// Its name.
    pub name: String,
    /// Its documentation.
    pub docs: String,
    /// Whether it takes `&mut self`, and so runs alone.
    pub is_exclusive: bool,
    /// Its arguments: names and types, as they are written.
    pub arguments: Vec<(String, String)>,
    /// The type of its reply, as it is written.
    pub reply: String,
    /// Whether it gives a stream, so that it cannot be called with JSON.
    pub has_stream: bool,
}

impl InterfaceMethod {
    fn of(method: &Method) -> Self {
        let lines = method.docs().iter().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
        let arguments = method.arguments().iter().map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned()));
        Self {
            name: method.name().to_owned(),
            docs: lines.collect::<Vec<_>>().join("\n"),
            is_exclusive: method.is_exclusive(),
            arguments: arguments.collect(),
            reply: method.reply().to_owned(),
            has_stream: method.has_stream(),
        }
    }
}

/// Where a service is.
pub(super) enum Place {
    Here(Resident),
    On(NodeId),
}

/// Describes a service of this node.
pub(super) fn describe(node: &Node, caller: &NodeId, place: &Resident) -> Result<InterfaceReport, CallError> {
    let core = &place.core;
    check(node, caller, core.service(), Asked::Any)?;
    let deliver = place.deliver.as_ref();
    Ok(InterfaceReport {
        service: core.service().to_string(),
        node: node.id().clone(),
        interface: core.interface().to_owned(),
        type_arguments: deliver.map(|deliver| deliver.type_arguments()).unwrap_or_default(),
        methods: core.methods().iter().map(InterfaceMethod::of).collect(),
    })
}

/// Calls an instance of this node.
pub(super) async fn call(
    node: &Node,
    caller: &NodeId,
    place: Resident,
    call: ByName,
) -> Result<String, CallError> {
    let core = &place.core;
    let method = core.methods().iter().find(|method| method.name() == call.method);
    let asked = method.map_or(Asked::Unknown, |method| Asked::Method(method.name()));
    check(node, caller, core.service(), asked)?;
    let Some(deliver) = place.deliver else {
        let detail = format!(
            "{} has no name, and no handle to it was sent: it is called from here alone",
            core.address()
        );
        return Err(CallError::NoRoute(detail.into()));
    };
    deliver.by_name(call).await
}

/// Whether the rules of this node allow that to whoever asks its manager for it.
pub(super) fn check(node: &Node, caller: &NodeId, service: &str, asked: Asked<'_>) -> Result<(), CallError> {
    let access = node.inner().in_force.access.load();
    if caller == node.id() || access.is_unlimited() || access.allows(caller.as_str(), service, asked) {
        return Ok(());
    }
    let detail = format!("node {} does not allow {service:?} to node {caller}", node.id());
    Err(CallError::Denied(detail.into()))
}

/// Where a service is that is called by its name, or an instance by its address: `a#7`. Here, if there is one here.
pub(super) fn place(node: &Node, service: &str) -> Result<Place, CallError> {
    let inner = node.inner();
    let host = &inner.host;
    if let Some((on, number)) = service.rsplit_once('#')
        && let Ok(number) = number.parse()
    {
        return if on.is_empty() || on == node.id().as_str() {
            let resident = host.resident(InstanceId(number));
            resident.map(Place::Here).ok_or_else(|| {
                CallError::NoRoute(format!("node {} runs no instance {number}", node.id()).into())
            })
        } else {
            let on = NodeId::new(on).map_err(|error| CallError::NoRoute(error.to_string().into()))?;
            Ok(Place::On(on))
        };
    }
    if service == MANAGER {
        ensure(host);
        if let Some(own) = host.resident(OWN) {
            return Ok(Place::Here(own));
        }
    }
    let waiting = |core: &Arc<Core>| core.mailbox().map_or(usize::MAX, |mailbox| mailbox.waiting());
    let least = host.instances_of(service).into_iter().min_by_key(waiting);
    if let Some(here) = least.and_then(|core| host.resident(core.address().instance)) {
        return Ok(Place::Here(here));
    }
    elsewhere(node, service)
}

/// Another node that has the service: any, so that they take turns by chance.
fn elsewhere(node: &Node, service: &str) -> Result<Place, CallError> {
    let names = node.inner().names.current();
    let nodes: Vec<NodeId> = names
        .candidates(service)
        .iter()
        .filter(|known| !known.is_away)
        .map(|known| known.address.node.clone())
        .filter(|other| other != node.id())
        .collect();
    let chosen = random::seeded(node.inner().host.next_seed()).choice(nodes);
    chosen.map(Place::On).ok_or_else(|| {
        CallError::NoRoute(format!("no instance of {service:?} is known to node {}", node.id()).into())
    })
}

/// Shows what goes through an instance that was named by its address, or through all of a name.
pub(super) fn trace(
    node: &Node,
    service: &str,
    place: Resident,
) -> impl Stream<Item = TraceItem> + Send + use<> {
    let host = &node.inner().host;
    let named = host.instances_of(service);
    let numbers = named.iter().map(|core| core.address().instance);
    let mut shown: Vec<Resident> = numbers.filter_map(|number| host.resident(number)).collect();
    if shown.is_empty() {
        shown.push(place);
    }
    let instances = shown
        .iter()
        .map(|resident| (&*resident.core, resident.deliver.as_ref().map(|deliver| deliver.show())));
    let (items, instance) = (tap::open(instances), shown[0].core.address().clone());
    stream::unfold((items, instance), |(mut items, instance)| async {
        let item = match items.recv().await {
            Ok(item) => item,
            Err(RecvError::Lagged(items)) => {
                let event = TraceEvent::Missed { items };
                TraceItem { instance: instance.clone(), turn: 0, method: String::new(), event }
            }
            Err(RecvError::Closed) => return None,
        };
        Some((item, (items, instance)))
    })
}

/// The manager of another node.
pub(super) async fn manager(node: &Node, other: &NodeId) -> Result<ManagerHandle, CallError> {
    let manager = ManagerHandle::on(node, other.as_str()).await;
    manager.map_err(|error| CallError::NoRoute(error.to_string().into()))
}

/// The name of the manager's own service.
const MANAGER: &str = "skyhold/manager";
