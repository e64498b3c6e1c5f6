//! What of a node's settings may change while it runs, each where those who need it read it.
//!
//! Invariant: a change is an exchange of values: nothing here waits.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::{Access, Router, Settings};
use crate::net::security::Security;
use crate::node::discovering::Discovering;
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
    /// Whom to connect with.
    pub(crate) discovering: Arc<Discovering>,
    expected_nodes: watch::Sender<usize>,
}

impl InForce {
    pub(crate) fn new(
        identity: Identity,
        features: u64,
        settings: &Settings,
        discovering: Arc<Discovering>,
        router: Option<Arc<dyn Router>>,
    ) -> Self {
        let mut config = ConnectionConfig { features, ..ConnectionConfig::new(identity, None) };
        configure(&mut config, settings);
        Self {
            security: Arc::default(),
            access: Arc::new(ArcSwap::from_pointee(settings.access.clone())),
            routing: Arc::new(RoutingTable::new(settings.routes.clone(), router, settings.labels.clone())),
            connections: Arc::new(ArcSwap::from_pointee(config)),
            shutdown_timeout: AtomicDuration::new(settings.shutdown_timeout),
            discovering,
            expected_nodes: watch::Sender::new(settings.expected_nodes),
        }
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
        self.connections.store(Arc::new(config));
        self.discovering.set(settings);
        let expected = settings.expected_nodes;
        self.expected_nodes.send_if_modified(|current| std::mem::replace(current, expected) != expected);
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

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InForce").finish_non_exhaustive()
    }
}
