//! What a manager tells.
//!
//! Invariant: plain values, which travel.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{CallError, StartError};
use crate::id::{Address, Incarnation, NodeId};
use crate::node::manager::figures::{Figures, HandlerReport, WaitReport};
use crate::node::manager::process::ProcessReport;
use crate::node::node::Inner;
use crate::node::reload::{Chain, Reload, ReloadError};
use crate::service::core::Core;
use crate::service::host::Host;
use crate::service::turns::name_of;

/// A node, and what it was told about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// Its name.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    /// Its labels, each a key and a value.
    pub labels: Vec<(String, String)>,
    /// The nodes that are connected with it, by name.
    pub peers: Vec<NodeId>,
    /// The names of the services that it runs, by name.
    pub services: Vec<String>,
    /// Whether it is shutting down.
    pub is_shutting_down: bool,
    /// The process in which it runs.
    pub process: ProcessReport,
}

impl NodeReport {
    pub(super) fn of(inner: &Inner) -> Self {
        let mut peers: Vec<_> = inner.table.nodes().into_iter().map(|(node, _)| node).collect();
        peers.sort();
        let mut services: Vec<_> = inner.groups().keys().map(ToString::to_string).collect();
        services.sort();
        let labels = inner.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self {
            node: inner.host.node.clone(),
            incarnation: inner.host.incarnation,
            address: inner.address,
            labels: labels.collect(),
            peers,
            services,
            is_shutting_down: inner.host.is_shutting_down(),
            process: ProcessReport::now(),
        }
    }
}

/// An instance at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceReport {
    /// Where it is.
    pub address: Address,
    /// The name of its service; of an instance without a name that of its type.
    pub service: String,
    /// The interface.
    pub interface: String,
    /// How many messages wait in its mailbox.
    pub waiting: usize,
    /// How many may.
    pub capacity: usize,
    /// How long messages have lately waited there.
    pub sojourn: Duration,
    /// How many lives it has had before this one.
    pub restarts: u32,
    /// The method whose handler runs alone or was begun last, if one runs.
    pub running: Option<String>,
    /// What runs in it now, the oldest first: its handlers that wait too, and hooks.
    pub handlers: Vec<HandlerReport>,
    /// Whom its handlers wait for, the longest wait first. Each leads to another instance, whose report says the same: so a chain of calls can be
    /// followed over nodes to the one that keeps it up.
    pub waits: Vec<WaitReport>,
    /// What was counted and measured of it, through all its lives; `None` if nothing is: see [`Monitoring`](crate::Monitoring).
    pub figures: Option<Figures>,
}

impl InstanceReport {
    pub(super) fn all(host: &Host) -> Vec<Self> {
        let mut all: Vec<_> = host.all_residents().iter().map(|core| Self::of(core)).collect();
        all.sort_by(|a, b| a.service.cmp(&b.service).then(a.address.instance.cmp(&b.address.instance)));
        all
    }

    fn of(core: &Core) -> Self {
        let turn = core.turns().current();
        Self {
            address: core.address().clone(),
            service: core.service().to_string(),
            interface: core.interface().to_owned(),
            waiting: core.mailbox().map_or(0, |mailbox| mailbox.waiting()),
            capacity: core.settings().capacity(),
            sojourn: core.gauge().sojourn(),
            restarts: core.life_number(),
            running: turn.is_running().then(|| name_of(core.methods(), turn).to_owned()),
            handlers: HandlerReport::all(core),
            waits: WaitReport::all(core),
            figures: Figures::of(core),
        }
    }
}

/// A configuration that a node has read and checked, and not put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Prepared {
    /// Its number on that node.
    pub number: u64,
    /// What it would change.
    pub reload: Reload,
}

/// Why a node did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// Its configuration cannot be used. Nothing has changed.
    #[error("{0}")]
    Config(String),
    /// A service cannot be started, or not again: there is no such kind, its configuration or its name cannot be used, or it refused.
    #[error("{0}")]
    Start(String),
    /// It did not answer: it may have done what it was asked for, or not.
    #[error("it did not answer: {0}")]
    Unreachable(String),
    /// It was not started from a file.
    #[error("node {0} was not started from a configuration file")]
    NoFile(NodeId),
    /// It has shut down.
    #[error("node {0} has shut down")]
    NodeStopped(NodeId),
    /// Nothing is prepared under that number, or not any more. Nothing has changed.
    #[error("no configuration is prepared under the number {number}: prepare it again")]
    NotPrepared {
        /// The number.
        number: u64,
    },
}

impl From<CallError> for ManageError {
    fn from(error: CallError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl From<StartError> for ManageError {
    fn from(error: StartError) -> Self {
        Self::Start(Chain(&error).to_string())
    }
}

impl From<ReloadError> for ManageError {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Config(error) => Self::Config(Chain(&error).to_string()),
            ReloadError::NoFile(node) => Self::NoFile(node),
            ReloadError::NodeStopped(node) => Self::NodeStopped(node),
        }
    }
}
