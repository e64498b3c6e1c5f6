//! Names of a network that a test makes up, in the place of DNS.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Dns;
use crate::net::io::{BoxFuture, Resolve};

/// Names and their addresses, in the place of DNS. Clones are the same names.
///
/// ```
/// use skyhold::testing::{Cluster, Names};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let names = Names::new();
/// names.set("peers.local", ["10.0.0.1", "10.0.0.2"]);
/// let dns = names.dns("peers.local:7000");
/// let mut cluster = Cluster::without_seeds(move |node| node.discover(dns.clone()));
/// cluster.add().await;
/// cluster.add().await;
/// cluster.connected().await;
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<Table>>);

/// Guards the names.
#[derive(Debug, Default)]
struct Table {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    lookups: u64,
}

impl Names {
    /// No name is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name stands for these addresses from now on.
    ///
    /// # Panics
    /// If one is no IP address.
    pub fn set<'a>(&self, name: &str, addresses: impl IntoIterator<Item = &'a str>) {
        let parse = |text: &str| match text.parse() {
            Ok(address) => address,
            Err(error) => panic!("{text:?}: {error}"),
        };
        let addresses = addresses.into_iter().map(parse).collect();
        self.table().addresses.insert(name.to_owned(), addresses);
    }

    /// A name is not known any more: lookups fail.
    pub fn remove(&self, name: &str) {
        self.table().addresses.remove(name);
    }

    /// How often somebody has looked a name up.
    pub fn lookups(&self) -> u64 {
        self.table().lookups
    }

    /// A provider for a node that looks `address`, which is `name:port`, up here.
    pub fn dns(&self, address: impl Into<String>) -> Dns {
        Dns::with(address, Arc::new(self.clone()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Names {
    fn lookup<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let mut table = self.table();
            table.lookups += 1;
            let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such name");
            let (name, port) = address.rsplit_once(':').ok_or_else(unknown)?;
            let port = port.parse().map_err(|_| unknown())?;
            let addresses = table.addresses.get(name).ok_or_else(unknown)?;
            Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
        })
    }
}
