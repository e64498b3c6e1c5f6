//! Who a member is, to foca: a life of a node, and how often it has come back in it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId};
use crate::net::peers::is_dialable;

/// A life of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// How often it has come back after it was declared dead.
    pub(crate) returns: u32,
    /// Whether it has said goodbye: nothing of this life comes after it.
    pub(crate) has_left: bool,
    /// Where it can be dialled.
    pub(crate) address: Option<SocketAddr>,
}

impl Identity {
    /// A life of a node that listens there.
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, listen: Option<SocketAddr>) -> Self {
        Self { node, incarnation, returns: 0, has_left: false, address: listen.filter(is_dialable) }
    }

    /// What orders all that is said of one node.
    pub(super) fn order(&self) -> (Incarnation, bool, u32) {
        (self.incarnation, self.has_left, self.returns)
    }
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { returns: self.returns.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> NodeId {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.order() > adversary.order()
    }
}
