//! The further connections to a peer, which the dialler of the first one makes.
//!
//! Invariant: a task for each, which ends with its connection, or when the group begins without it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::net::dialer::Wiring;
use crate::net::driver::Driver;
use crate::net::news::{Dialled, Ticket};
use crate::policy::backoff::Backoff;
use crate::port::Link;
use crate::proto::connection::Connection;
use crate::proto::group::Extra;
use crate::proto::settings::{ConnectionConfig, hello_nonce};
use crate::{random, time};

impl Wiring {
    /// Makes the further connections to the peer whose first one this is, to the very address at which that has found it.
    pub(crate) fn dial_extras(&self, first: &Ticket) {
        for number in (1..).take(first.link.group_size() - 1) {
            let named = Extra { number, first: first.challenge };
            let dial = Dial { first: Arc::clone(&first.link), named, at: first.at, number: first.number };
            let wiring = self.clone();
            self.spawn(async move { wiring.dial_extra(&dial).await });
        }
    }

    async fn dial_extra(&self, dial: &Dial) {
        let mut backoff = Backoff::new(random::seeded(dial.number ^ u64::from(dial.named.number)));
        while dial.first.is_forming() {
            if let Err(error) = self.connect_extra(dial).await {
                tracing::debug!(address = %dial.at, %error, "a further connection could not be made");
            }
            if dial.first.has_joined(dial.named.number) {
                return; // its end is the group's
            }
            time::sleep(backoff.next()).await;
        }
    }

    async fn connect_extra(&self, dial: &Dial) -> io::Result<()> {
        let stream = self.reach(&dial.at.to_string()).await?;
        let nonce = hello_nonce(dial.number, random::nonce()?);
        let (began, dialled) = (time::now(), Dialled::ByMe(dial.at.to_string().into()));
        let (stream, config) =
            self.secured(stream, &dialled).await.map_err(|reason| io::Error::other(reason.to_string()))?;
        let config = ConnectionConfig { extra: Some(dial.named), ..config };
        let connection = Connection::dial(config, nonce, began);
        let driver = Driver::new(stream, connection, dialled, self.surroundings.clone());
        driver.beside(Arc::clone(&dial.first)).run().await;
        Ok(())
    }
}

/// A further connection that is to be made.
struct Dial {
    first: Arc<Link>,
    named: Extra,
    at: SocketAddr,
    /// That of the first one's dial.
    number: u64,
}
