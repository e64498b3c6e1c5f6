//! Tests of the wire as a whole: its bytes, its handshake, and what a connection does with any peer.

mod arbitrary;
mod connection;
mod frames;
mod golden;
mod handshake;
mod pair;
mod survivor;

/// Some instant to count from. Nothing in these tests waits: time is an argument.
#[expect(clippy::disallowed_methods, reason = "an instant cannot be made of nothing")]
pub(crate) fn start() -> std::time::Instant {
    std::time::Instant::now()
}
