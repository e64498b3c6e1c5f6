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
        let stream = match time::timeout(CONNECT_TIMEOUT, self.transport.connect(address)).await {
            None => {
                let text = format!("no answer within {CONNECT_TIMEOUT:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Some(stream) => stream?,
        };
        let chance = random::nonce()?;
        let nonce = hello_nonce(number, chance);
        let (began, dialled) = (time::now(), Dialled::ByMe(Arc::clone(address)));
        if let Some((stream, config)) = self.secured(stream, &dialled).await {
            let connection = Connection::dial(config, nonce, began);
            Driver::new(stream, connection, dialled, self.surroundings.clone()).run().await;
        }
        Ok(())
    }

    /// Makes the stream as secure as the node is now, and gives the settings of its connection. `None`: it came to nothing, and
    /// the peers' task knows.
    pub(crate) async fn secured(
        &self,
        stream: Stream,
        dialled: &Dialled,
    ) -> Option<(Stream, ConnectionConfig)> {
        let address = stream.peer.to_string();
        let config = self.config.load_full();
        let secured = time::timeout(config.handshake_timeout, self.security.secured(stream, dialled));
        let reason = match secured.await {
            Some(Ok(stream)) => {
                let (secret, certificate) = (self.security.secret(), stream.certificate.clone());
                return Some((stream, ConnectionConfig { secret, certificate, ..(*config).clone() }));
            }
            Some(Err(error)) => CloseReason::Insecure(error.to_string()),
            None => CloseReason::HandshakeTimeout,
        };
        self.surroundings.ends.count(&address, &reason);
        let down = News::Down { link: None, dialled: dialled.clone(), address, reason };
        drop(self.surroundings.news.send(down).await); // the node is gone: so is everybody who would know
        None
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").field("transport", &self.transport).finish_non_exhaustive()
    }
}
