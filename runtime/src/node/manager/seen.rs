//! What a manager tells of the cluster as its node sees it, of what happens, and of who supervises whom.
//!
//! Invariant: it waits for no service. A supervisor is asked, and not for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use crate::config::Labels;
use crate::event::Event;
use crate::id::{Address, NodeId};
use crate::node::node::Inner;
use crate::service::supervisor::control::{Command, Control};
use crate::supervision::{ChildInfo, ChildState, Strategy};
use crate::time;

/// A named service as a node knows it: its instances in the whole cluster. Got from [`ManagerHandle::services`](crate::ManagerHandle::services).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct KnownService {
    /// Its name.
    pub name: String,
    /// The name of its interface.
    pub interface: String,
    /// Whether one node claims the name for itself.
    pub is_unique: bool,
    /// Its instances, by node and number.
    pub instances: Vec<ServiceInstance>,
}

/// An instance of a named service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceInstance {
    /// Where it is.
    pub address: Address,
    /// Its labels, and those of its node.
    pub labels: Labels,
    /// Whether the connection to its node was lost and is being made again.
    pub is_away: bool,
    /// How many messages it has to do for all its callers, as its node said last, about once a second: the power of two below that
    /// number, and 0 for fewer than 4.
    pub load: u32,
}

/// What happened on a node. Got from [`ManagerHandle::events`](crate::ManagerHandle::events).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EventReport {
    /// Something happened.
    Happened {
        /// The node.
        node: NodeId,
        /// When, by that node's clock, in milliseconds since the beginning of 1970.
        at: u64,
        /// What.
        event: Event,
    },
    /// So many events were not seen, since they were read too slowly.
    Missed {
        /// How many.
        events: u64,
    },
}

/// A supervisor and what it supervises, or an instance. Got from [`ManagerHandle::tree`](crate::ManagerHandle::tree).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TreeReport {
    /// The service's or the supervisor's name.
    pub name: String,
    /// The strategy of a supervisor; `None` for an instance.
    pub strategy: Option<Strategy>,
    /// An instance's address; `None` for a supervisor, and for what was never started.
    pub address: Option<Address>,
    /// What it does.
    pub state: ChildState,
    /// How many lives were begun after the first.
    pub restarts: u64,
    /// What it supervises, in order.
    pub children: Vec<TreeReport>,
}

/// How long a supervisor may take to answer: it may be waiting for a name to be told.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// How deep a tree is looked into.
const DEEPEST: usize = 32;

/// The named services that the node knows.
pub(super) fn services(inner: &Inner) -> Vec<KnownService> {
    let names = inner.names.current();
    let mut services = BTreeMap::new();
    for (name, candidates) in names.all() {
        let Some(first) = candidates.first() else { continue };
        let instances = candidates.iter().map(|known| ServiceInstance {
            address: known.address.clone(),
            labels: (*known.labels).clone(),
            is_away: known.is_away,
            load: known.load.get(),
        });
        let service = KnownService {
            name: name.to_string(),
            interface: first.interface.to_string(),
            is_unique: first.is_unique,
            instances: instances.collect(),
        };
        services.insert(name.to_string(), service);
    }
    services.into_values().collect()
}

/// What happens from now on.
pub(super) fn events(inner: &Inner) -> impl Stream<Item = EventReport> + Send + use<> {
    let (node, events) = (inner.host.node.clone(), inner.host.subscribe());
    stream::unfold((node, events), |(node, mut events)| async {
        let report = match events.recv().await {
            Ok(event) => EventReport::Happened { node: node.clone(), at: time::unix_millis(), event },
            Err(RecvError::Lagged(events)) => EventReport::Missed { events },
            Err(RecvError::Closed) => return None,
        };
        Some((report, (node, events)))
    })
}

/// The supervisors that no other supervises, in the order of their start, with all below them.
pub(super) async fn tree(inner: &Inner) -> Vec<TreeReport> {
    let supervisors = inner.supervisors();
    let living = supervisors.iter().filter(|control| !control.is_gone());
    let trees = living.map(|control| async {
        let children = children(inner, Arc::clone(control), 0).await;
        TreeReport {
            name: control.name.to_string(),
            strategy: Some(control.strategy),
            address: None,
            state: if control.halt().is_some() { ChildState::Stopping } else { ChildState::Up },
            restarts: 0,
            children,
        }
    });
    join_all(trees).await
}

fn children(inner: &Inner, control: Arc<Control>, depth: usize) -> BoxFuture<'_, Vec<TreeReport>> {
    async move {
        if depth >= DEEPEST {
            return Vec::new();
        }
        let (reply, hears) = oneshot::channel();
        let asked = async {
            control.ask(Command::Children(reply)).await;
            hears.await
        };
        let Some(Ok(infos)) = time::timeout(ANSWERS_WITHIN, asked).await else { return Vec::new() };
        let reports = infos.into_iter().map(|(info, below)| async move {
            let ChildInfo { name, instance, state, restarts } = info;
            let strategy = below.as_ref().map(|below| below.strategy);
            let children = match below {
                Some(below) => children(inner, below, depth + 1).await,
                None => Vec::new(),
            };
            let address = instance.map(|instance| Address { instance, ..inner.host.own_address() });
            TreeReport { name, strategy, address, state, restarts, children }
        });
        join_all(reports).await
    }
    .boxed()
}
