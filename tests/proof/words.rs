//! What the driver and the nodes say to each other over the nodes' standard input and output, one JSON value a line. These pipes do not
//! go through the network that is made to fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// How many nodes there are.
pub(crate) const NODES: usize = 5;

/// The name of a node.
pub(crate) fn name(node: usize) -> String {
    format!("n{node}")
}

/// What a node is told when it begins, in its environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) node: usize,
    /// Counts the processes that were this node.
    pub(crate) life: u64,
    pub(crate) listen: SocketAddr,
    /// Where datagrams show whether the network carries anything from somebody else to here.
    pub(crate) probe: SocketAddr,
    pub(crate) seeds: Vec<SocketAddr>,
    /// Where it writes down its calls and what it ran.
    pub(crate) folder: PathBuf,
}

/// Which calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mix {
    /// Through the service's name, to whichever node.
    Routed,
    /// These, and as many through handles that lead to one node each.
    RoutedAndEach,
}

/// How is called.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) per_second: u32,
    pub(crate) mix: Mix,
    pub(crate) deadline: Duration,
}

/// What the driver says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Call without a pause for some time, with so many callers.
    Calibrate { callers: usize, millis: u64 },
    /// Call so from now on.
    Load(Calls),
    /// Make no more calls, and say when all have ended.
    Rest,
    /// Send one datagram to each of these.
    Probe { number: u64, to: Vec<SocketAddr> },
    /// Keep one thread busy from now on.
    Burn,
    /// End in order.
    Shutdown,
}

/// What a node says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs, and its services too.
    Up { incarnation: u64 },
    /// Something happened to a member or to a peer.
    Told { what: What, node: String, incarnation: u64, why: String },
    /// What it sees now: the living members with their lives, and the connected peers.
    Sees { alive: Vec<(String, u64)>, suspected: Vec<String>, peers: Vec<String> },
    /// A datagram has come.
    Heard { from: usize, number: u64 },
    /// So many calls were answered.
    Calibrated { calls: u64 },
    /// The load has begun.
    Loaded,
    /// No call is open any more, or so many have not ended though they should have.
    Rested { open: u64 },
    /// It has shut down, and the process ends.
    Down { error: Option<String> },
}

/// What can happen to a member or a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    Joined,
    Suspected,
    Refuted,
    Left,
    Died,
    PeerUp,
    PeerDown,
}

/// A report with its moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Dated {
    pub(crate) at: Micros,
    pub(crate) report: Report,
}
