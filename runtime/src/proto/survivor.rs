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
        /// Whether the peer dialled it, and later than the one that asks.
        is_later: bool,
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

/// Whether a connection that this node has dialled, and that the peer has admitted, gives way to the one that stands.
/// Both sides may have admitted, since an address does not always tell who is behind it. `standing` is the one's
/// dialler: `None` for the peer, else whether this node dialled it later than the one in question.
pub(crate) fn gives_way(me: &NodeId, peer: &NodeId, standing: Option<bool>) -> bool {
    match standing {
        None => peer < me,
        Some(is_later) => is_later,
    }
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
        Existing::Up { dialled_by_me, is_later, .. } if is_later || (dialled_by_me && me < peer) => {
            Admit::Refuse(RefuseReason::Duplicate)
        }
        Existing::Up { .. } => Admit::Replace,
    }
}
