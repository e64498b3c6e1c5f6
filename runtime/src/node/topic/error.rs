//! Why there is no topic, no subscription, no publication.

use crate::error::Detail;
use crate::id::{InvalidName, NodeId};

/// Why a topic was not opened or not subscribed to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name cannot be used.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A setting has a value that cannot be used.
    #[error("setting `{setting}`: {problem}")]
    InvalidSetting {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// The topic is open on this node with items of another type.
    #[error("topic {name:?} carries `{found}` on this node, not `{expected}`")]
    OtherType {
        /// The topic's name.
        name: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The type with which it is open.
        found: &'static str,
    },
    /// The node is shutting down, or has shut down.
    #[error("node {0} is shutting down")]
    NodeStopped(NodeId),
}

/// Why an item was not published. Nobody got it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The item's `Serialize` refused.
    #[error("codec: {0}")]
    Codec(Detail),
    /// The node has ended.
    #[error("node {0} has ended")]
    NodeStopped(NodeId),
}
