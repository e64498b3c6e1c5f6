//! What a connection is given when it is made, and what it learns about its peer.
//!
//! Invariant: plain values.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Limits, Secret};
use crate::id::{Incarnation, NodeId};

use super::flow::Amount;
use super::frame::{SMALLEST_LIMIT, Window};
use super::group::Extra;

/// What a connection is given.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionConfig {
    /// Who this node is.
    pub(crate) identity: Identity,
    /// What the cluster's nodes share, if they do.
    pub(crate) secret: Option<Secret>,
    /// What the peer has shown before the first frame, if the stream is one of TLS.
    pub(crate) certificate: Option<Arc<dyn Certificate>>,
    /// Which connection this one belongs to, if it is a further one that this node dials.
    pub(crate) extra: Option<Extra>,
    /// The protocol versions that this node speaks; [`VERSIONS`] outside tests.
    pub(crate) versions: RangeInclusive<u16>,
    /// The features that this node has, a bit each; [`FEATURES`] outside tests.
    pub(crate) features: u64,
    /// How long a handshake may take in all.
    pub(crate) handshake_timeout: Duration,
    /// After how long a silence the peer is asked whether it is there, and how often from then on.
    pub(crate) heartbeat: Duration,
    /// After how long a silence the connection is given up.
    pub(crate) silence: Duration,
    /// The largest frame that is taken once the connection is established, in bytes. What is below
    /// [`SMALLEST_LIMIT`] counts as that. Where both sides have the feature [`FLOW`] it is the longest message.
    pub(crate) max_frame: usize,
    /// How much is kept for the peer.
    pub(crate) limits: Limits,
}

impl ConnectionConfig {
    /// The settings that nobody has changed: 5 s for the handshake, a heartbeat a second, 5 s of silence, frames
    /// of 1 MiB plus what surrounds a payload.
    pub(crate) fn new(identity: Identity, secret: Option<Secret>) -> Self {
        Self {
            identity,
            secret,
            certificate: None,
            extra: None,
            versions: VERSIONS,
            features: FEATURES,
            handshake_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            max_frame: DEFAULT_MAX_FRAME,
            limits: Limits::default(),
        }
    }

    /// The largest frame that is taken, as the peer is told.
    pub(super) fn max_frame(&self) -> u32 {
        u32::try_from(self.max_frame.max(SMALLEST_LIMIT)).unwrap_or(u32::MAX)
    }

    /// What is taken ahead, as the peer is told.
    pub(super) fn window(&self) -> Window {
        let Limits { credit_messages, credit_bytes, pieces, .. } = self.limits;
        let instance = Amount { messages: credit_messages as u64, bytes: credit_bytes as u64 };
        Window { instance, pieces: pieces as u64 }
    }
}

/// A peer's certificate, which the cluster's authority has signed.
pub(crate) trait Certificate: fmt::Debug + Send + Sync {
    /// Whether it is for that node; else says for whom it is.
    fn check(&self, node: &NodeId) -> Result<(), String>;
}

/// Who a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its name.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it listens, if it does.
    pub(crate) listen: Option<SocketAddr>,
}

/// Who the peer is, proven if there is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerIdentity {
    /// Its name.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it says that it listens, if it does.
    pub(crate) listen: Option<SocketAddr>,
    /// The version that both speak.
    pub(crate) version: u16,
    /// The features that both have.
    pub(crate) features: u64,
    /// The largest frame that it takes, in bytes: the limit for what is written to it.
    pub(crate) max_frame: usize,
    /// The number of this dial in the dialler's life, whichever of the two that is.
    pub(crate) dial: u64,
    /// The nonce of the `Challenge`, by which further connections name this one.
    pub(crate) challenge: [u8; 32],
    /// Which connection this one belongs to, if it is a further one.
    pub(crate) extra: Option<Extra>,
}

/// The nonce of a `Hello`: the number of the dial, then chance.
pub(crate) fn hello_nonce(dial: u64, mut chance: [u8; 32]) -> [u8; 32] {
    if let Some(number) = chance.first_chunk_mut() {
        *number = dial.to_le_bytes();
    }
    chance
}

/// The number of the dial in the nonce of a `Hello`.
pub(crate) fn dial_of(nonce: &[u8; 32]) -> u64 {
    nonce.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
}

/// The versions that this code speaks.
pub(crate) const VERSIONS: RangeInclusive<u16> = 1..=1;

/// The features that this code has. Those that say how many connections a node wishes for are in `group`.
pub(crate) const FEATURES: u64 = FLOW | STREAMS | GOSSIP | TRACE;

/// Credit for each instance, and long messages in pieces.
pub(crate) const FLOW: u64 = 1 << 0;

/// Streams as arguments and replies. It counts only together with [`FLOW`].
pub(crate) const STREAMS: u64 = 1 << 1;

/// Membership: `Gossip` frames.
pub(crate) const GOSSIP: u64 = 1 << 5;

/// Requests say which trace they are part of. Of nodes that take traces along.
pub(crate) const TRACE: u64 = 1 << 6;

/// The largest frame, in bytes, unless set otherwise: room for a payload of one mebibyte.
pub(crate) const DEFAULT_MAX_FRAME: usize = (1 << 20) + 64 * 1024;

#[cfg(test)]
impl PeerIdentity {
    /// A peer of this code's own version, in its first life.
    pub(crate) fn of(node: &str) -> Self {
        Self {
            node: NodeId::new(node).unwrap(),
            incarnation: Incarnation(1),
            listen: None,
            version: 1,
            features: FEATURES,
            max_frame: DEFAULT_MAX_FRAME,
            dial: 1,
            challenge: [1; 32],
            extra: None,
        }
    }
}
