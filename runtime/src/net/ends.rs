//! Counts the connections that have ended, by what ended them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::EndedConnections;
use crate::proto::connection::CloseReason;

/// The counts since the node's start.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    goodbye: AtomicU64,
    refused: AtomicU64,
    insecure: AtomicU64,
    late: AtomicU64,
    silent: AtomicU64,
    protocol: AtomicU64,
    broken: AtomicU64,
    crowded: AtomicU64,
}

impl Ends {
    /// A connection has ended.
    pub(crate) fn count(&self, address: &str, reason: &CloseReason) {
        tracing::debug!(address, %reason, "a connection has ended");
        let count = match reason {
            CloseReason::Goodbye(_) | CloseReason::Closed(_) => &self.goodbye,
            CloseReason::Refused { .. } => &self.refused,
            CloseReason::Insecure(_) => &self.insecure,
            CloseReason::HandshakeTimeout => &self.late,
            CloseReason::Silent(_) => &self.silent,
            CloseReason::Protocol(_) => &self.protocol,
            CloseReason::Ended(_) => &self.broken,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A stranger was closed for others.
    pub(crate) fn count_crowded(&self) {
        self.crowded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> EndedConnections {
        let Self { goodbye, refused, insecure, late, silent, protocol, broken, crowded } = self;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EndedConnections {
            goodbye: count(goodbye),
            refused: count(refused),
            insecure: count(insecure),
            late: count(late),
            silent: count(silent),
            protocol: count(protocol),
            broken: count(broken),
            crowded: count(crowded),
        }
    }
}
