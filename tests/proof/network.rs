//! The network between the nodes: namespaces, or where these cannot be made the loopback addresses 127.0.1.x, on which nothing can be cut.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::namespaces::{self, Namespaces};

/// The network.
#[derive(Debug)]
pub(crate) enum Network {
    Namespaces(Namespaces),
    /// With the reason why there is nothing better.
    Loopback(String),
}

impl Network {
    pub(crate) fn build() -> Self {
        match Namespaces::build() {
            Ok(namespaces) => Self::Namespaces(namespaces),
            Err(error) => Self::Loopback(error.to_string()),
        }
    }

    /// What makes cuts, if they can be made.
    pub(crate) fn cables(&self) -> Option<&Namespaces> {
        match self {
            Self::Namespaces(namespaces) => Some(namespaces),
            Self::Loopback(_) => None,
        }
    }

    /// What a program is started by that is to run on a node's machine.
    pub(crate) fn command(&self, node: usize, program: &Path) -> Command {
        match self {
            Self::Namespaces(_) => Namespaces::command(node, program),
            Self::Loopback(_) => Command::new(program),
        }
    }

    /// Where a node listens.
    pub(crate) fn listen(&self, node: usize) -> SocketAddr {
        SocketAddr::new(self.address(node), 7801)
    }

    /// Where a node takes datagrams.
    pub(crate) fn probe(&self, node: usize) -> SocketAddr {
        SocketAddr::new(self.address(node), 7802)
    }

    /// All is well again.
    pub(crate) fn heal(&self) -> io::Result<()> {
        self.cables().map_or(Ok(()), Namespaces::heal)
    }

    fn address(&self, node: usize) -> IpAddr {
        let last = u8::try_from(node + 1).unwrap_or(u8::MAX);
        match self {
            Self::Namespaces(_) => IpAddr::V4(namespaces::address(node)),
            Self::Loopback(_) => IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)),
        }
    }
}
