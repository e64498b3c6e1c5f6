//! Why a provider has no answer.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// Why a [`Discovery`](crate::Discovery) has no answer. What was found before counts on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// A name cannot be looked up, or stands for no address.
    #[error("cannot look up {address}")]
    Lookup {
        /// What was looked up, as `host:port`.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file has a line that is no address.
    #[error("{}:{line}: {text:?} is no address; expected one such as 10.0.0.2:7001", file.display())]
    InvalidLine {
        /// The file.
        file: PathBuf,
        /// The line's number, the first one being 1.
        line: usize,
        /// The line, or its beginning if it is long.
        text: String,
    },
    /// A file has another content each time that it is read: somebody writes it.
    #[error("{} is being written", .0.display())]
    BeingWritten(PathBuf),
    /// The provider has given something that is no address.
    #[error("{0:?} is no address; expected one such as 10.0.0.2:7001")]
    InvalidAddress(String),
    /// A registry cannot be reached, or does not do what it was asked for.
    #[error("etcd at {endpoint}")]
    Registry {
        /// The endpoint that was asked last, as `host:port`.
        endpoint: String,
        /// What came of it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The node listens on every interface, so that its address is not known.
    #[error(
        "this node listens on {0}, which tells nobody where it is; it can be made known if it listens on an address of its own"
    )]
    NoOwnAddress(std::net::SocketAddr),
    /// There was no answer in time.
    #[error("there was no answer within {0:?}")]
    TimedOut(Duration),
    /// The provider panicked.
    #[error("the provider panicked: {0}")]
    Panicked(String),
    /// Something else: for providers of your own, `DiscoveryError::Other("no such region".into())`.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}
