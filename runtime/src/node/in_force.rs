//! What of a node's settings may change while it runs, each where those who need it read it.
//!
//! Invariant: a change is an exchange of values: nothing here waits.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::{Access, Router, Settings};
use crate::id::NodeId;
use crate::net::security::Security;
use crate::net::topology::Topology;
use crate::node::routing::RoutingTable;
use crate::proto::group;
use crate::proto::settings::{ConnectionConfig, Identity};
use crate::time::AtomicDuration;

/// What surrounds the arguments of a message in its frame, at most.
const AROUND_A_MESSAGE: usize = 64 * 1024;

/// What is in force. The timeout of calls is in the host.
pub(crate) struct InForce {
    pub(crate) security: Arc<Security>,
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) routing: Arc<RoutingTable>,
    /// For connections to come.
    pub(crate) connections: Arc<ArcSwap<ConnectionConfig>>,
    pub(crate) shutdown_timeout: AtomicDuration,
    topology: watch::Sender<Topology>,
    expected_nodes: watch::Sender<usize>,
    /// Those that code has given, and no file changes.
    seeds: Vec<String>,
}

impl InForce {
    pub(crate) fn new(
        identity: Identity,
        features: u64,
        settings: &Settings,
        seeds: Vec<String>,
        router: Option<Arc<dyn Router>>,
    ) -> (Self, watch::Receiver<Topology>) {
        let me = identity.node.clone();
        let (topology, hears) = watch::channel(topology(&me, settings, &seeds));
        let mut config = ConnectionConfig { features, ..ConnectionConfig::new(identity, None) };
        configure(&mut config, settings);
        let in_force = Self {
            security: Arc::default(),
            access: Arc::new(ArcSwap::from_pointee(settings.access.clone())),
            routing: Arc::new(RoutingTable::new(settings.routes.clone(), router, settings.labels.clone())),
            connections: Arc::new(ArcSwap::from_pointee(config)),
            shutdown_timeout: AtomicDuration::new(settings.shutdown_timeout),
            topology,
            expected_nodes: watch::Sender::new(settings.expected_nodes),
            seeds,
        };
        (in_force, hears)
    }

    /// Whether code has given seeds.
    pub(crate) fn has_seeds(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// How many nodes the cluster is said to have, and each change of that.
    pub(crate) fn expected_nodes(&self) -> watch::Receiver<usize> {
        self.expected_nodes.subscribe()
    }

    /// Puts other settings in the place of those in force, but for what needs a restart, for security and access.
    pub(crate) fn set(&self, settings: &Settings) {
        self.shutdown_timeout.set(settings.shutdown_timeout);
        let mut config = (**self.connections.load()).clone();
        configure(&mut config, settings);
        let me = config.identity.node.clone();
        self.connections.store(Arc::new(config));
        put(&self.topology, topology(&me, settings, &self.seeds));
        put(&self.expected_nodes, settings.expected_nodes);
    }
}

/// Publishes a value, if it is another one.
fn put<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let is_other = *current != value;
        *current = value;
        is_other
    });
}

fn configure(config: &mut ConnectionConfig, settings: &Settings) {
    config.handshake_timeout = settings.handshake_timeout;
    config.heartbeat = settings.heartbeat;
    config.silence = settings.silence;
    config.limits = settings.limits;
    config.max_frame = settings.max_message + AROUND_A_MESSAGE;
    config.features = group::wish(config.features, settings.connections_per_peer);
}

/// Whom to connect with. What is said of the node itself is for the others: they may have the same file.
fn topology(me: &NodeId, settings: &Settings, seeds: &[String]) -> Topology {
    let mut topology = Topology::default();
    for address in settings.seeds.iter().chain(seeds) {
        topology.seed(address, None);
    }
    for (name, address) in &settings.nodes {
        let Ok(node) = NodeId::new(name) else { continue }; // checked when it was read
        match address {
            _ if node == *me => {}
            Some(address) => topology.seed(address, Some(node)),
            None => drop(topology.off.insert(node)),
        }
    }
    topology
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").finish_non_exhaustive()
    }
}
