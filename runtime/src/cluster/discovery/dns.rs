//! The addresses of a name.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::net::io::{Resolve, Tcp};

use super::{AskingNode, Discovery, DiscoveryError, DiscoveryFuture};

/// All the addresses for which a name stands, A and AAAA records alike: what a headless service of Kubernetes gives.
///
/// The name is looked up anew for each question, by what the system resolves names with, so that a service that grows and shrinks
/// is followed. A system that caches answers is as late as its cache. A lookup that fails, or finds no address, changes nothing.
///
/// ```
/// # use skyhold::{Dns, Node};
/// let node = Node::builder("a").listen("10.0.0.1:7001").discover(Dns::new("skyhold.default.svc:7001"));
/// ```
///
/// Nodes that listen on addresses of their own, such as their pods', recognise themselves and the peers that they have among what is
/// found. One that listens on `0.0.0.0` dials itself once, and is dialled once a minute by each peer that it has dialled itself.
///
/// The name of a load balancer is a seed and not for this: it stands for one address, behind which there are many nodes.
#[derive(Clone)]
pub struct Dns {
    address: String,
    resolver: Arc<dyn Resolve>,
}

impl Dns {
    /// The addresses of a name, all with the same port: `name:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self::with(address, Arc::new(Tcp))
    }

    /// As [`Dns::new`], by another resolver.
    pub(crate) fn with(address: impl Into<String>, resolver: Arc<dyn Resolve>) -> Self {
        Self { address: address.into(), resolver }
    }
}

impl Discovery for Dns {
    fn find<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        Box::pin(async move {
            let failed = |source| DiscoveryError::Lookup { address: self.address.clone(), source };
            let found = self.resolver.lookup(&self.address).await.map_err(failed)?;
            if found.is_empty() {
                let nothing = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failed(nothing));
            }
            Ok(found.iter().map(ToString::to_string).collect())
        })
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dns").field(&self.address).finish()
    }
}
