//! Why a setting of the central configuration was not read or written.

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

use super::space::Version;

/// Why a setting of the central configuration was not read or written. But for [`CentralError::Unconfirmed`] nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CentralError {
    /// This node was not told where the configuration is kept.
    #[error(
        "node {0} was not told where the central configuration is kept: `[config] holder` names a node, or `etcd` a registry"
    )]
    NoHolder(NodeId),
    /// The node that holds the configuration is not connected. What is known of it can be read still.
    #[error("node {holder} holds the central configuration, and is away")]
    HolderAway {
        /// The holder.
        holder: NodeId,
    },
    /// A node was asked as the holder, and was told something else.
    #[error(
        "node {node} was asked as the holder of the central configuration, and was told that it is kept by {kept}"
    )]
    NotHolder {
        /// Who was asked.
        node: NodeId,
        /// What that node was told: `node a`, `etcd`, or `nobody`.
        kept: String,
    },
    /// Two nodes were told different things about where the configuration is kept, so that nothing is written.
    #[error("this would be kept by {here}, and node {node} was told that it is kept by {there}")]
    Disagreement {
        /// The other node.
        node: NodeId,
        /// Where the value would be kept: `node a`, or `etcd`.
        here: String,
        /// What the other node was told.
        there: String,
    },
    /// Nothing is known of the configuration yet: since its start this node has not heard from where it is kept.
    #[error("node {0} has not heard from where the central configuration is kept since its start")]
    Unknown(NodeId),
    /// The key has no value.
    #[error("`{key}` is not set")]
    NotSet {
        /// The key.
        key: String,
    },
    /// A node that watches the key cannot use the value.
    #[error("node {node} refuses `{key}`: {}{reason}", field.as_ref().map(|field| format!("`{field}`: ")).unwrap_or_default())]
    Refused {
        /// The node.
        node: NodeId,
        /// The key.
        key: String,
        /// Where in the value, as in `limits.players`; `None` for the value as a whole.
        field: Option<String>,
        /// Why.
        reason: String,
    },
    /// The key has another version than the one that was expected.
    #[error("`{key}` has the version {present}, and {expected} was expected")]
    Conflict {
        /// The key.
        key: String,
        /// What was expected.
        expected: Version,
        /// Its version now; [`Version::NONE`] if it is not set.
        present: Version,
    },
    /// The key cannot be one.
    #[error("`{key}` cannot be a key: {problem}")]
    InvalidKey {
        /// The key, or its beginning.
        key: String,
        /// Why.
        problem: String,
    },
    /// The value is no TOML, or cannot be written as such.
    #[error("the value for `{key}` is no TOML: {problem}")]
    Syntax {
        /// The key.
        key: String,
        /// Where, and why.
        problem: String,
    },
    /// The value is longer than one may be.
    #[error("the value for `{key}` has {bytes} bytes; at most {limit} are kept")]
    TooLarge {
        /// The key.
        key: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be: `config.max_value`.
        limit: usize,
    },
    /// There are as many keys as there may be.
    #[error("there is no room for `{key}`: there are {limit} keys already")]
    TooManyKeys {
        /// The key.
        key: String,
        /// How many there may be: `config.max_keys`.
        limit: usize,
    },
    /// All values together would be longer than they may be.
    #[error("there is no room for `{key}`: all values would have {bytes} bytes; at most {limit} are kept")]
    Full {
        /// The key.
        key: String,
        /// How many bytes there would be.
        bytes: usize,
        /// How many there may be: `config.max_total`.
        limit: usize,
    },
    /// The key's history has not, or no longer, that version.
    #[error("the history of `{key}` has no version {version}, or no longer")]
    NoVersion {
        /// The key.
        key: String,
        /// The version.
        version: Version,
    },
    /// The holder could not write its file.
    #[error("node {holder} cannot write the central configuration: {problem}")]
    Disk {
        /// The holder.
        holder: NodeId,
        /// What its system said.
        problem: String,
    },
    /// etcd does not answer, or not as it should.
    #[error("the central configuration is in etcd: {problem}")]
    Registry {
        /// What came of the question.
        problem: String,
    },
    /// It is not known whether the value was written: the answer did not come.
    #[error("`{key}` may have been written or not: {problem}")]
    Unconfirmed {
        /// The key.
        key: String,
        /// What came in the answer's stead.
        problem: String,
    },
    /// A rule of access forbids it.
    #[error("{0}")]
    Denied(String),
    /// The node has shut down.
    #[error("node {0} has shut down")]
    NodeStopped(NodeId),
}
