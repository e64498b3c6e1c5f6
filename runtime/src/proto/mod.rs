//! The wire: what two nodes say to each other, as state machines that do no IO.
//!
//! Never here: a socket, a task, a clock, the system's randomness. `now` and nonces are arguments.
//!
//! | file | what it is |
//! |---|---|
//! | `codec` | values to payloads and back |
//! | `fields`, `bodies`, `frame` | primitive fields, each frame's fields, frames to bytes and back |
//! | `watch` | the fields of the frames of watching, and why an instance ended |
//! | `settings` | what a connection is given |
//! | `handshake` | who the peer is, and whether it may be one |
//! | `survivor` | which of two connections between the same nodes lives |
//! | `group`, `fence` | several connections to one peer, and what comes behind all that was said on them |
//! | `liveness` | when a silent peer is asked, and when it is given up |
//! | `refuse`, `event` | why there is no connection; what a connection tells its driver |
//! | `connection` | one stream's protocol from its first byte to its last |
//! | `in_flight`, `inbound` | requests that wait for a reply: ours; the peer's |
//! | `flow`, `inflow` | credit: how much may be sent to one instance; what comes in, as far as it is counted |
//! | `lanes`, `outgoing` | what goes out, in which order; the bytes that the socket takes next |
//! | `pieces` | long messages, and how they become whole again |
//! | `put` | frames whose payload is encoded in place |
//!
//! # The order in which a driver drains a core
//!
//! A core has inputs, `handle_*(&mut self, now, ..)`, and outputs, `poll_*`. After any number of inputs, and before
//! it waits again, a driver drains
//!
//! 1. `poll_transmit` until `None`, each frame to the end of the outgoing buffer;
//! 2. `poll_event` until `None`;
//! 3. `poll_timeout` once, and calls `handle_timeout` when that instant has come. To call it earlier does no harm.
//!
//! `poll_transmit` comes first because what an event sets in motion must follow the frames that precede it: whoever
//! hears of `Established` may write requests at once, and they must come after the `Welcome`. `Closed` is the
//! last event; what was drained before it is written, and then the stream is closed.
//!
//! What a core keeps between two drains is bounded by the inputs since the last drain: one event per frame, and
//! a fixed number of frames to transmit.

mod bodies;
pub(crate) mod codec;
pub(crate) mod connection;
pub(crate) mod described;
mod event;
pub(crate) mod fence;
mod fields;
pub(crate) mod flow;
pub(crate) mod frame;
pub(crate) mod group;
pub(crate) mod handshake;
pub(crate) mod in_flight;
pub(crate) mod inbound;
pub(crate) mod inflow;
pub(crate) mod lanes;
mod liveness;
pub(crate) mod outgoing;
pub(crate) mod pieces;
pub(crate) mod put;
mod refuse;
pub(crate) mod settings;
pub(crate) mod survivor;
pub(crate) mod watch;

#[cfg(test)]
pub(crate) mod tests;
