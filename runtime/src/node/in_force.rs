//! What of a node's settings may change while it runs, each where those who need it read it.
//!
//! Invariant: a change is an exchange of values: nothing here waits.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::{Access, Settings};
use crate::id::NodeId;
use crate::net::security::Security;
use crate::net::topology::Topology;
use crate::proto::group;
use crate::proto::settings::{ConnectionConfig, Identity};
use crate::time::AtomicDuration;

/// What surrounds the arguments of a message in its frame, at most.
const AROUND_A_MESSAGE: usize = 64 * 1024;

/// What is in force. The timeout of calls is in the host.
pub(crate) struct InForce {
    pub(crate) security: Arc<Security>,
    pub(crate) access: Arc<ArcSwap<Access>>,
    /// For connections to come.
    pub(crate) connections: Arc<ArcSwap<ConnectionConfig>>,
    pub(crate) shutdown_timeout: AtomicDuration,
    topology: watch::Sender<Topology>,
    /// Those that code has given, and no file changes.
    seeds: Vec<String>,
}

impl InForce {
    pub(crate) fn new(
        identity: Identity,
        features: u64,
        settings: &Settings,
        seeds: Vec<String>,
    ) -> (Self, watch::Receiver<Topology>) {
        let me = identity.node.clone();
        let (topology, hears) = watch::channel(topology(&me, settings, &seeds));
        let mut config = ConnectionConfig { features, ..ConnectionConfig::new(identity, None) };
        configure(&mut config, settings);
        let in_force = Self {
            security: Arc::default(),
            access: Arc::new(ArcSwap::from_pointee(settings.access.clone())),
            connections: Arc::new(ArcSwap::from_pointee(config)),
            shutdown_timeout: AtomicDuration::new(settings.shutdown_timeout),
            topology,
            seeds,
        };
        (in_force, hears)
    }

    /// Whether code has given seeds.
    pub(crate) fn has_seeds(&self) -> bool {
        !self.seeds.is_empty()
    }

    /// Puts other settings in the place of those in force, but for what needs a restart, for security and access.
    pub(crate) fn set(&self, settings: &Settings) {
        self.shutdown_timeout.set(settings.shutdown_timeout);
        let mut config = (**self.connections.load()).clone();
        configure(&mut config, settings);
        let me = config.identity.node.clone();
        self.connections.store(Arc::new(config));
        let topology = topology(&me, settings, &self.seeds);
        self.topology.send_if_modified(|current| {
            let is_other = *current != topology;
            *current = topology;
            is_other
        });
    }
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
