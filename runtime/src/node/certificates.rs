//! The certificates that a configuration names: the one place here that knows whether there is TLS in this build.

use crate::config::Settings;
use crate::id::NodeId;
use crate::net::security::Security;
#[cfg(feature = "tls")]
use crate::net::tls::{Tls, TlsError};
#[cfg(feature = "tls")]
use crate::node::reload::Chain;

/// What was loaded. Without the feature `tls` there is never anything: the configuration was refused before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

#[cfg(feature = "tls")]
impl Certificates {
    /// Reads the files, if they are named. The error is in words.
    pub(crate) fn load(settings: &Settings, node: &NodeId) -> Result<Self, String> {
        let (Some(certificate), Some(key), Some(authorities)) =
            (&settings.certificate, &settings.key, &settings.authorities)
        else {
            return Ok(Self::default());
        };
        let words = |error: TlsError| Chain(&error).to_string();
        let tls = Tls::from_pem_files(certificate, key, authorities).map_err(words)?;
        tls.check(node).map_err(words)?;
        Ok(Self { tls: Some(tls) })
    }

    /// Puts them in force for connections to come.
    pub(crate) fn put(self, security: &Security) {
        security.set_tls(self.tls);
    }
}

#[cfg(not(feature = "tls"))]
#[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as with TLS")]
impl Certificates {
    pub(crate) fn load(_settings: &Settings, _node: &NodeId) -> Result<Self, String> {
        Ok(Self::default())
    }

    pub(crate) fn put(self, _security: &Security) {}
}
