//! How the two ends of a connection prove who they are: the present secret and the present certificates, which each new
//! connection reads. Those that stand are not touched by a change.
//!
//! It must never know what is said on the connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::config::Secret;
use crate::net::io::Stream;
use crate::net::news::Dialled;
#[cfg(feature = "tls")]
use crate::net::tls::Tls;

/// What is in force.
#[derive(Default)]
pub(crate) struct Security {
    secret: ArcSwapOption<Secret>,
    #[cfg(feature = "tls")]
    tls: ArcSwapOption<Tls>,
}

impl Security {
    pub(crate) fn secret(&self) -> Option<Secret> {
        self.secret.load().as_deref().cloned()
    }

    pub(crate) fn set_secret(&self, secret: Option<Secret>) {
        self.secret.store(secret.map(Arc::new));
    }

    #[cfg(feature = "tls")]
    pub(crate) fn set_tls(&self, tls: Option<Tls>) {
        self.tls.store(tls.map(Arc::new));
    }

    pub(crate) fn has_secret(&self) -> bool {
        self.secret.load().is_some()
    }

    #[cfg(feature = "tls")]
    pub(crate) fn has_certificates(&self) -> bool {
        self.tls.load().is_some()
    }

    /// There is no TLS in this build.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as with TLS")]
    pub(crate) fn has_certificates(&self) -> bool {
        false
    }

    /// Makes a stream one of TLS, if the node has certificates. There is no timeout here.
    ///
    /// # Errors
    /// The other end does not speak TLS, or one end refuses the other's certificate.
    ///
    /// # Cancel safety
    /// Dropping the future closes the stream.
    #[cfg(feature = "tls")]
    pub(crate) async fn secured(&self, stream: Stream, dialled: &Dialled) -> io::Result<Stream> {
        match (self.tls.load_full(), dialled) {
            (Some(tls), Dialled::ByMe(_)) => tls.connect(stream).await,
            (Some(tls), Dialled::ByPeer) => tls.accept(stream).await,
            (None, _) => Ok(stream),
        }
    }

    /// There is no TLS in this build.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "as with TLS")]
    pub(crate) async fn secured(&self, stream: Stream, _dialled: &Dialled) -> io::Result<Stream> {
        Ok(stream)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").finish_non_exhaustive()
    }
}
