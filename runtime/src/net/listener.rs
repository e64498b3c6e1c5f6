//! The listener: accepts connections and gives each a driver.
//!
//! Invariant: an error of one connection never ends the listening.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use crate::net::dialer::Wiring;
use crate::net::driver::Driver;
use crate::net::gate::{Gate, Place};
use crate::net::io::{Listener, Stream};
use crate::net::news::Dialled;
use crate::proto::connection::Connection;
use crate::time::Seldom;
use crate::{random, time};

/// How long the listener pauses after an error, which is most often that no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts for ever. Cancel safe.
pub(crate) async fn listen(mut listener: Box<dyn Listener>, wiring: Wiring) {
    let gate = Gate::new(wiring.config.load().limits);
    let mut crowded = Seldom::default();
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok((stream, from)) => {
                gate.set_limits(wiring.config.load().limits);
                if let Ok(place) = gate.enter(from.ip()) {
                    serve(&wiring, stream, place);
                    continue;
                }
                wiring.surroundings.ends.count_crowded();
                if let Some(left_out) = crowded.speaks(time::now()) {
                    let reason = "as many stand from its address as may be";
                    tracing::warn!(%from, reason, left_out, "a connection was closed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// Runs a connection that somebody has made in a task of its own, until it ends or has to leave.
fn serve(wiring: &Wiring, stream: Stream, mut place: Place) {
    let (leaves, ends) = (place.leaves(), Arc::clone(&wiring.surroundings.ends));
    let connection = accept(wiring.clone(), stream, place);
    wiring.spawn(async move {
        tokio::select! {
            biased;
            () = connection => {}
            () = leaves => ends.count_crowded(), // its socket is closed by being dropped
        }
    });
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
    let from = stream.peer.to_string();
    match wiring.secured(stream, &Dialled::ByPeer).await {
        Ok((stream, config)) => {
            let connection = Connection::accept(config, nonce, began);
            Driver::new(stream, connection, Dialled::ByPeer, wiring.surroundings.clone())
                .in_place(place)
                .run()
                .await;
        }
        Err(reason) => wiring.insecure(Dialled::ByPeer, from, reason).await,
    }
}
