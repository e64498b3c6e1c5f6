//! The listener: accepts connections and gives each a driver.
//!
//! Invariant: an error of one connection never ends the listening.

use std::future::poll_fn;
use std::time::Duration;

use crate::net::dialer::Wiring;
use crate::net::driver::Driver;
use crate::net::gate::{Crowded, Gate, Place};
use crate::net::io::{Listener, Stream};
use crate::net::news::Dialled;
use crate::proto::connection::Connection;
use crate::{random, time};

/// How long the listener pauses after an error, which is most often that no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts for ever. Cancel safe.
pub(crate) async fn listen(mut listener: Box<dyn Listener>, wiring: Wiring) {
    let gate = Gate::new(wiring.config.load().limits);
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, from)) => {
                gate.set_limits(wiring.config.load().limits);
                match gate.enter(from.ip()) {
                    Ok(mut place) => {
                        let leaves = place.leaves();
                        let connection = accept(wiring.clone(), stream, place);
                        wiring.spawn(async {
                            tokio::select! {
                                biased;
                                () = connection => {}
                                () = leaves => {} // its socket is closed by being dropped
                            }
                        });
                    }
                    Err(Crowded) => {
                        tracing::debug!(%from, "a connection was closed: as many stand from its address as may be");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection that somebody has made, to its end.
async fn accept(wiring: Wiring, stream: Stream, place: Place) {
    let began = time::now();
    let nonce = match random::nonce() {
        Ok(nonce) => nonce,
        Err(error) => {
            tracing::error!(%error, "a connection was dropped: no randomness");
            return;
        }
    };
    if let Some((stream, config)) = wiring.secured(stream, &Dialled::ByPeer).await {
        let connection = Connection::accept(config, nonce, began);
        Driver::new(stream, connection, Dialled::ByPeer, wiring.surroundings.clone())
            .in_place(place)
            .run()
            .await;
    }
}
