//! Which of two connections between the same two nodes lives.
//!
//! Invariant: a pure function of what both sides know, so that both come to the same answer.

use crate::id::{Incarnation, NodeId};

use super::refuse::RefuseReason;

/// What a node already has with the peer that asks to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Nothing.
    None,
    /// A dial of its own that is not established yet.
    Dialing,
    /// An established connection.
    Up {
        /// The peer's life on it.
        incarnation: Incarnation,
        /// Whether this node dialled it.
        dialled_by_me: bool,
    },
}

/// What becomes of the connection that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It is admitted. A dial of this node's own that is under way will be refused by the peer.
    Accept,
    /// It is admitted, and the established one is closed.
    Replace,
    /// It is refused.
    Refuse(RefuseReason),
}

/// Decides about a connection that `peer` has dialled to this node, `me`.
///
/// Of two nodes that dial each other at the same time, the dial of the one with the smaller name lives. A node
/// dials only while it has nothing with the peer; so a second dial by a peer whose first is established here says
/// that the peer has lost that one. A refusal as `Duplicate` while one is `Up` may be for a connection that only
/// the peer knows to be dead: whoever refuses should `probe` it.
pub(crate) fn admit(me: &NodeId, peer: &NodeId, incoming: Incarnation, existing: Existing) -> Admit {
    match existing {
        Existing::None => Admit::Accept,
        Existing::Dialing if peer < me => Admit::Accept,
        Existing::Dialing => Admit::Refuse(RefuseReason::Duplicate),
        Existing::Up { incarnation, .. } if incoming > incarnation => Admit::Replace,
        Existing::Up { incarnation, .. } if incoming < incarnation => {
            Admit::Refuse(RefuseReason::StaleIncarnation)
        }
        Existing::Up { dialled_by_me: true, .. } if me < peer => Admit::Refuse(RefuseReason::Duplicate),
        Existing::Up { .. } => Admit::Replace,
    }
}
