//! Which nodes are connected, and which are being connected again: for everybody to read.
//!
//! Invariant: the peers' task writes, and nobody else.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

use crate::id::{Incarnation, NodeId};
use crate::net::news::News;
use crate::net::peers::is_dialable;
use crate::port::{Link, Links, Way};

/// The table.
#[derive(Debug)]
pub(crate) struct PeerTable {
    current: ArcSwap<Peers>,
    changed: Notify,
    /// For hints. Only tried: a hint that is lost does no harm.
    news: mpsc::Sender<News>,
}

/// The peers at one moment.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) up: HashMap<NodeId, Arc<Link>>,
    pub(super) away: HashSet<NodeId>,
}

impl PeerTable {
    pub(crate) fn new(news: mpsc::Sender<News>) -> Self {
        Self { current: ArcSwap::default(), changed: Notify::new(), news }
    }

    /// The connected nodes, in no order.
    pub(crate) fn nodes(&self) -> Vec<(NodeId, Incarnation)> {
        let peers = self.current.load();
        peers.up.values().map(|link| (link.peer().node.clone(), link.peer().incarnation)).collect()
    }

    /// The connection to a node, if it is connected.
    pub(crate) fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.current.load().up.get(node).cloned()
    }

    pub(super) fn publish(&self, peers: Peers) {
        self.current.store(Arc::new(peers));
        self.changed.notify_waiters();
    }
}

impl Links for PeerTable {
    fn way(&self, node: &NodeId) -> Way {
        let peers = self.current.load();
        match peers.up.get(node) {
            Some(link) if !link.is_over() => Way::Up(Arc::clone(link)),
            // The peers' task is about to hear of its end.
            Some(_) => Way::Away,
            None if peers.away.contains(node) => Way::Away,
            None => Way::None,
        }
    }

    fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn want(&self, node: &NodeId) {
        drop(self.news.try_send(News::Want(node.clone())));
    }

    fn expect(&self, node: &NodeId, incarnation: Incarnation, at: SocketAddr) -> bool {
        is_dialable(&at) && self.news.try_send(News::Expect { node: node.clone(), incarnation, at }).is_ok()
    }
}
