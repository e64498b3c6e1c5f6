//! What a node that is about to start must and must not have.
//!
//! Invariant: nothing is opened or started here.

use crate::error::StartError;
use crate::id::NodeId;
#[cfg(feature = "tls")]
use crate::net::tls::TlsError;
use crate::proto::settings::{GOSSIP, TRACE};

use super::NodeBuilder;

impl NodeBuilder {
    /// The features of the wire that the node has, by what it is and has.
    pub(super) fn wire_features(&self) -> u64 {
        let mut features = self.features;
        if self.is_client {
            features &= !GOSSIP;
        }
        if self.propagator.is_none() {
            features &= !TRACE;
        }
        features
    }

    /// That a client is asked for nothing that only a member has.
    pub(super) fn check_client(&self) -> Result<(), StartError> {
        let problem = match (&self.settings.listen, self.settings.services.first()) {
            _ if !self.is_client => return Ok(()),
            (Some(address), _) => format!("a client does not listen, and it is to listen on {address:?}"),
            (None, Some(service)) => {
                format!("a client runs no services under names, and it is to run {:?}", service.name)
            }
            (None, None) => return Ok(()),
        };
        Err(StartError::InvalidSetting { setting: "client", problem })
    }

    /// That nobody is let in by an oversight, and that no peer will refuse the node's own certificate.
    pub(super) fn check_security(&self, id: &NodeId) -> Result<(), StartError> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let invalid =
                |error: TlsError| StartError::InvalidSetting { setting: "tls", problem: error.to_string() };
            return tls.check(id).map_err(invalid);
        }
        let is_given_peers = !self.seeds.is_empty() || !self.providers.is_empty();
        let opens_sockets = self.settings.opens_sockets() || is_given_peers;
        if opens_sockets && self.secret.is_none() && !self.settings.is_insecure {
            if let Some(configured) = &self.configured {
                return Err(configured.insecure(id).into());
            }
            let problem = format!(
                "is missing, and node {id} listens or has a seed: `.secret(..)` or, with the feature `tls`, `.tls(..)` is needed; with \
                 `.insecure_without_secret()` anybody who reaches its address is a peer"
            );
            return Err(StartError::InvalidSetting { setting: "secret", problem });
        }
        Ok(())
    }
}
