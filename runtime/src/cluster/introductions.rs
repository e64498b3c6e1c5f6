//! Introductions: connected nodes tell each other whom else they know, so that one seed is enough for all to meet.
//!
//! What to tell a peer, and whom to dial for what a peer told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::id::NodeId;
use crate::net::peers::is_dialable;
use crate::port::Peer;
use crate::proto::frame::{Member, Members};

/// The most addresses that one peer's list leads to.
const MAX_INTRODUCED: usize = 1024;

/// The nodes that are connected, and where they listen.
#[derive(Debug)]
pub(crate) struct Introductions {
    me: NodeId,
    /// Whether nobody dials this node, so that it dials whom it hears of.
    is_client: bool,
    connected: BTreeMap<NodeId, Member>,
}

impl Introductions {
    pub(crate) fn new(me: NodeId, is_client: bool) -> Self {
        Self { me, is_client, connected: BTreeMap::new() }
    }

    /// A peer is connected. Gives what it is to be told, and what the others are to be told of it.
    pub(crate) fn connected(&mut self, peer: &Peer) -> (Vec<Members>, Vec<Members>) {
        let others: Vec<Member> =
            self.connected.values().filter(|member| member.node != peer.node).cloned().collect();
        let mut of_it = Vec::new();
        if let Some(address) = peer.listen.filter(is_dialable) {
            let member = Member { node: peer.node.clone(), incarnation: peer.incarnation, address };
            self.connected.insert(peer.node.clone(), member.clone());
            of_it = Members::frames(&[member]);
        }
        (Members::frames(&others), of_it)
    }

    /// A peer is gone.
    pub(crate) fn disconnected(&mut self, peer: &Peer) {
        if self.connected.get(&peer.node).is_some_and(|member| member.incarnation == peer.incarnation) {
            self.connected.remove(&peer.node);
        }
    }

    /// The addresses to dial for what a peer told. Of two nodes that do not know each other the one with the smaller
    /// name dials at once: both would only meet twice.
    pub(crate) fn to_dial(&self, members: &Members) -> Vec<SocketAddr> {
        let unknown = members.members.iter().filter(|member| {
            member.node != self.me
                && (self.is_client || self.me < member.node)
                && is_dialable(&member.address)
                && !self.connected.contains_key(&member.node)
        });
        unknown.map(|member| member.address).take(MAX_INTRODUCED).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    fn peer(name: &str, port: u16) -> Peer {
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Peer { node: NodeId::new(name).unwrap(), incarnation: Incarnation(1), listen }
    }

    #[test]
    fn two_nodes_with_one_seed_are_introduced_and_exactly_one_dials() {
        let mut seed = Introductions::new(NodeId::new("seed").unwrap(), false);
        assert_eq!(seed.connected(&peer("b", 2)).0, []);
        let (to_c, to_others) = seed.connected(&peer("c", 3));
        let b = Introductions::new(NodeId::new("b").unwrap(), false);
        let c = Introductions::new(NodeId::new("c").unwrap(), false);
        let client = Introductions::new(NodeId::new("c").unwrap(), true);
        assert_eq!(client.to_dial(&to_c[0]), [SocketAddr::from(([127, 0, 0, 1], 2))], "nobody dials it");
        assert_eq!(b.to_dial(&to_others[0]), [SocketAddr::from(([127, 0, 0, 1], 3))]);
        assert_eq!(c.to_dial(&to_c[0]), []);
    }

    #[test]
    fn nobody_is_sent_to_an_unspecified_address() {
        let mut seed = Introductions::new(NodeId::new("seed").unwrap(), false);
        let mut everywhere = peer("b", 2);
        everywhere.listen = Some(SocketAddr::from(([0, 0, 0, 0], 2)));
        assert_eq!(seed.connected(&everywhere).1, []);
    }
}
