//! Sockets: listening, dialling, and one driver task a connection. No services.

pub(crate) mod dialer;
mod dials;
pub(crate) mod driver;
pub(crate) mod ends;
mod extras;
mod forming;
pub(crate) mod framing;
pub(crate) mod gate;
pub(crate) mod io;
pub(crate) mod listener;
pub(crate) mod news;
pub(crate) mod peers;
pub(crate) mod security;
pub(crate) mod table;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod topology;
