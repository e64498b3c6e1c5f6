//! One attempt to connect to an address, and the driver of the connection if it comes to one.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::net::driver::{Driver, Surroundings};
use crate::net::io::{Stream, Transport};
use crate::net::news::{Dialled, News};
use crate::net::security::Security;
use crate::proto::connection::{CloseReason, Connection};
use crate::proto::settings::{ConnectionConfig, hello_nonce};
use crate::{random, time};

/// How long an address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What every connection of a node is made of.
#[derive(Clone)]
pub(crate) struct Wiring {
    pub(crate) transport: Arc<dyn Transport>,
    /// For connections to come.
    pub(crate) config: Arc<ArcSwap<ConnectionConfig>>,
    pub(crate) security: Arc<Security>,
    pub(crate) surroundings: Surroundings,
}

impl Wiring {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.surroundings.spawn)(Box::pin(task));
    }

    /// Dials `address` in a task of its own. The peers' task hears what comes of it.
    /// `number` counts the node's dials.
    pub(crate) fn dial(&self, address: Arc<str>, number: u64) {
        let wiring = self.clone();
        self.spawn(async move {
            if let Err(error) = wiring.connect(&address, number).await {
                let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                let failed = News::DialFailed { address, error: error.to_string(), is_refused };
                drop(wiring.surroundings.news.send(failed).await);
            }
        });
    }

    async fn connect(&self, address: &Arc<str>, number: u64) -> io::Result<()> {
        let stream = self.reach(address).await?;
        let chance = random::nonce()?;
        let nonce = hello_nonce(number, chance);
        let (began, dialled) = (time::now(), Dialled::ByMe(Arc::clone(address)));
        let from = stream.peer.to_string();
        match self.secured(stream, &dialled).await {
            Ok((stream, config)) => {
                let connection = Connection::dial(config, nonce, began);
                Driver::new(stream, connection, dialled, self.surroundings.clone()).run().await;
            }
            Err(reason) => self.insecure(dialled, from, reason).await,
        }
        Ok(())
    }

    pub(super) async fn reach(&self, address: &str) -> io::Result<Stream> {
        time::timeout(CONNECT_TIMEOUT, self.transport.connect(address)).await.unwrap_or_else(|| {
            let text = format!("no answer within {CONNECT_TIMEOUT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    /// Makes the stream as secure as the node is now, and gives the settings of its connection. An error is counted.
    pub(crate) async fn secured(
        &self,
        stream: Stream,
        dialled: &Dialled,
    ) -> Result<(Stream, ConnectionConfig), CloseReason> {
        let address = stream.peer.to_string();
        let config = self.config.load_full();
        let secured = time::timeout(config.handshake_timeout, self.security.secured(stream, dialled));
        let reason = match secured.await {
            Some(Ok(stream)) => {
                let (secret, certificate) = (self.security.secret(), stream.certificate.clone());
                return Ok((stream, ConnectionConfig { secret, certificate, ..(*config).clone() }));
            }
            Some(Err(error)) => CloseReason::Insecure(error.to_string()),
            None => CloseReason::HandshakeTimeout,
        };
        self.surroundings.ends.count(&address, &reason);
        Err(reason)
    }

    /// Tells the peers' task that a stream could not be secured.
    pub(crate) async fn insecure(&self, dialled: Dialled, address: String, reason: CloseReason) {
        let down = News::Down { link: None, dialled, address, reason };
        drop(self.surroundings.news.send(down).await); // the node is gone: so is everybody who would know
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").field("transport", &self.transport).finish_non_exhaustive()
    }
}
