//! Where a node may find its first peers, by what others keep: a list, the names of the network, a file, a registry.
//!
//! A provider answers with addresses and knows nothing of connections. `node::seeker` asks it from time to time, and what it
//! answers is dialled as seeds are (`net::topology`).
//!
//! Invariant: an answer is whole or an error. Nothing is passed over in silence.

mod dns;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
mod fixed;
#[cfg(feature = "etcd")]
pub(crate) mod gateway;

use std::fmt;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{Incarnation, NodeId};

pub use self::dns::Dns;
pub use self::error::DiscoveryError;
#[cfg(feature = "etcd")]
pub use self::etcd::Etcd;
pub use self::file::AddressFile;
pub use self::fixed::FixedList;

/// What a [`Discovery`] answers with, when it has found out.
pub type DiscoveryFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DiscoveryError>> + Send + 'a>>;

/// Something that knows addresses at which peers may be now. Given to a node by
/// [`NodeBuilder::discover`](crate::NodeBuilder::discover).
///
/// There are [`FixedList`], [`Dns`], [`AddressFile`] and, with the feature `etcd`, `Etcd`. One of your own is a few lines:
///
/// ```
/// use skyhold::prelude::*;
/// use skyhold::{AskingNode, Discovery, DiscoveryFuture};
///
/// #[derive(Debug)]
/// struct Neighbours;
///
/// impl Discovery for Neighbours {
///     fn find<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
///         Box::pin(async { Ok(vec!["10.0.0.2:7001".to_owned()]) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").insecure_without_secret().discover(Neighbours).start().await?;
/// # Ok(())
/// # }
/// ```
///
/// The node asks in a task of its own for each provider, one question at a time: at its start, and then again and again. A question
/// that has no answer within 10 s is dropped. An error, a panic and a question that is dropped change nothing: what was found before
/// counts on. The log says each error once, until there is another one or none any more.
///
/// Addresses that are found are dialled as long as the provider gives them. One that it does not give any more is not dialled; a
/// connection that stands is not touched. The node's own address among them does no harm.
pub trait Discovery: Send + Sync + fmt::Debug + 'static {
    /// The addresses at which peers may be now, each as `host:port`, where the host may be a name and an IPv6 address stands in
    /// brackets. Of more than 4096 the first in their order count.
    ///
    /// # Errors
    /// The answer is not known now. It is asked for again.
    ///
    /// # Cancel safety
    /// Must be cancel safe: the future is dropped after 10 s, and when the node ends. It must not block its thread.
    fn find<'a>(&'a self, node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>>;

    /// How long to wait after an answer before the next question. `usual` is what the node is set to:
    /// [`NodeBuilder::discovery_interval`](crate::NodeBuilder::discovery_interval), by default 10 s. At least 100 ms are waited.
    fn pause(&self, usual: Duration) -> Duration {
        usual
    }

    /// Makes known that this node listens at `address`, for as long as it is said again: called before each
    /// [`Discovery::find`] of a node that listens. Does nothing unless it is overridden.
    ///
    /// # Errors
    /// It is not known to others. It is said again.
    ///
    /// # Cancel safety
    /// As [`Discovery::find`].
    fn announce<'a>(&'a self, node: &'a AskingNode, address: SocketAddr) -> DiscoveryFuture<'a, ()> {
        let _ = (node, address);
        Box::pin(ready(Ok(())))
    }

    /// Takes back what [`Discovery::announce`] has made known. Called when the node shuts down, which waits for it 2 s at most, and
    /// when the provider is taken away from it. A node that dies does not get to it. Does nothing unless it is overridden.
    ///
    /// # Errors
    /// It may be known still.
    ///
    /// # Cancel safety
    /// As [`Discovery::find`].
    fn withdraw<'a>(&'a self, node: &'a AskingNode) -> DiscoveryFuture<'a, ()> {
        let _ = node;
        Box::pin(ready(Ok(())))
    }
}

/// The node that asks a [`Discovery`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskingNode {
    /// The name of its cluster: nodes of others are of no use to it.
    pub cluster: String,
    /// Its name.
    pub id: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where it listens, if it does. The host may be `0.0.0.0` or `[::]`, which says nothing about where it can be reached.
    pub address: Option<SocketAddr>,
}

impl AskingNode {
    pub(crate) fn new(
        cluster: String,
        id: NodeId,
        incarnation: Incarnation,
        address: Option<SocketAddr>,
    ) -> Self {
        Self { cluster, id, incarnation, address }
    }
}

/// The registry that a configuration names. Without the feature `etcd` there is none: the configuration was refused before.
#[cfg(feature = "etcd")]
#[expect(clippy::unnecessary_wraps, reason = "as without the feature")]
pub(crate) fn etcd(endpoints: &[String], prefix: &str) -> Option<Arc<dyn Discovery>> {
    Some(Arc::new(Etcd::new(endpoints).prefix(prefix)))
}

/// As with the feature.
#[cfg(not(feature = "etcd"))]
pub(crate) fn etcd(_endpoints: &[String], _prefix: &str) -> Option<Arc<dyn Discovery>> {
    None
}
