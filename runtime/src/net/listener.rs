//! The listener: accepts connections and gives each a driver.
//!
//! Invariant: an error of one connection never ends the listening.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::net::dialer::Wiring;
use crate::net::driver::Driver;
use crate::net::io::Listener;
use crate::net::news::Dialled;
use crate::proto::connection::Connection;
use crate::{random, time};

/// How many connections may be open that peers or strangers have made.
const MAX_ACCEPTED: usize = 1024;

/// How long the listener pauses after an error, which is most often that no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts for ever. Cancel safe.
pub(crate) async fn listen(mut listener: Box<dyn Listener>, wiring: Wiring) {
    let places = Arc::new(Semaphore::new(MAX_ACCEPTED));
    loop {
        // Above the limit, who comes next waits in the system's own queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, _)) => {
                let nonce = match random::nonce() {
                    Ok(nonce) => nonce,
                    Err(error) => {
                        tracing::error!(%error, "a connection was dropped: no randomness");
                        continue;
                    }
                };
                let connection = Connection::accept(wiring.config.clone(), nonce, time::now());
                let driver = Driver::new(stream, connection, Dialled::ByPeer, wiring.surroundings.clone());
                wiring.spawn(async move {
                    driver.run().await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                time::sleep(PAUSE).await;
            }
        }
    }
}
