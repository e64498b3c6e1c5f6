//! The errors that users see. One enum per operation; each variant says what state we are in.
//!
//! Invariant: plain values, small enough to travel in a reply slot (see the size test).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Address, InvalidName};

/// Why a call, a send or a `try_send` gave no result.
///
/// The most important question after a failure is whether the handler may have run:
/// [`CallError::may_have_run`] answers it. The framework itself retries only what provably did not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody is there: no instance has the name, or the node is not connected. It did not run.
    #[error("no route: {0}")]
    NoRoute(Detail),
    /// The mailbox, or the connection's buffer, is full. It did not run.
    #[error("overloaded: {0}")]
    Overloaded(Detail),
    /// The instance has stopped, or stopped before this message began. It did not run.
    #[error("stopped: {0}")]
    Stopped(Detail),
    /// The address belongs to an earlier life of the node or of the instance. It did not run.
    #[error("stale address: {0}")]
    Stale(Detail),
    /// The callee's node does not allow this. It did not run.
    #[error("denied: {0}")]
    Denied(Detail),
    /// The callee knows no method of this name and signature. It did not run.
    #[error("incompatible: {0}")]
    Incompatible(Detail),
    /// The message is larger than the connection's limit. It did not run.
    #[error("too large: {0}")]
    TooLarge(Detail),
    /// The deadline passed before the handler began. It did not run.
    #[error("expired before it began: {0}")]
    Expired(Detail),
    /// The arguments could not be encoded or decoded. It did not run.
    #[error("codec: {0}")]
    Codec(Detail),
    /// Waiting for this call could never end: an instance in the chain of callers that wait for it is the callee.
    /// It did not run.
    #[error("deadlock: {0}")]
    Deadlock(CallChain),
    /// The deadline passed after the message had been handed over. It may have run.
    #[error("timeout: {0}")]
    Timeout(Detail),
    /// The connection ended before the reply came. It may have run.
    #[error("disconnected: {0}")]
    Disconnected(Detail),
    /// The handler panicked. It ran, in part.
    #[error("the handler panicked: {0}")]
    Panicked(Detail),
    /// The reply was dropped without an answer. It may have run.
    #[error("no reply: {0}")]
    NoReply(Detail),
    /// The handler ran, but its reply could not be carried: it does not encode, does not decode, or is larger than
    /// the connection's limit. It ran.
    #[error("the reply was lost: {0}")]
    BadReply(Detail),
}

impl CallError {
    /// Whether the handler may have run, in whole or in part. `false` means that it certainly did not, so that
    /// the call can be made again without being run twice.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NoRoute(_)
            | Self::Overloaded(_)
            | Self::Stopped(_)
            | Self::Stale(_)
            | Self::Denied(_)
            | Self::Incompatible(_)
            | Self::TooLarge(_)
            | Self::Expired(_)
            | Self::Codec(_)
            | Self::Deadlock(_) => false,
            Self::Timeout(_)
            | Self::Disconnected(_)
            | Self::Panicked(_)
            | Self::NoReply(_)
            | Self::BadReply(_) => true,
        }
    }
}

/// What exactly failed, in words: the thing, and what was expected. Made for people; match on the variant instead.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail(Box<str>);

impl Detail {
    /// Makes a detail from its text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Box<str>>> From<T> for Detail {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The callers that wait for one another, the first caller first, the refused callee last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallChain(Box<[ChainLink]>);

impl CallChain {
    /// Makes a chain, the first caller first.
    pub fn new(links: impl Into<Box<[ChainLink]>>) -> Self {
        Self(links.into())
    }

    /// The links, the first caller first, the refused callee last.
    pub fn links(&self) -> &[ChainLink] {
        &self.0
    }
}

impl fmt::Display for CallChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, link) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" -> ")?;
            }
            link.fmt(f)?;
        }
        Ok(())
    }
}

/// One handler in a chain of calls. Written `service.method@node#instance`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// The instance.
    pub address: Address,
    /// The handler, as `service.method`.
    pub handler: Box<str>,
    /// Whether the handler takes `&mut self`, so that nothing else runs on its instance meanwhile.
    pub exclusive: bool,
}

impl fmt::Display for ChainLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.handler, self.address)
    }
}

/// Why a node or a service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A name cannot be used.
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
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The node holds the central configuration, and its file cannot be used: it is damaged, or cannot be read. It was not touched.
    #[error("{}: the central configuration {problem}", file.display())]
    CentralConfig {
        /// The file.
        file: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The listening address could not be bound. No node was started.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address as it was configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random(#[source] std::io::Error),
    /// The node already has a service of this name.
    #[error("this node already has a service named {0:?}")]
    NameTaken(String),
    /// Another node has a service of this name, and one of the two is to be [unique](crate::ServiceBuilder::unique).
    #[error("node {node} has {} named {name:?}{}", if *is_unique { "the one service" } else { "a service" }, if *is_unique { "" } else { ", and this one is to be unique" })]
    NameTakenBy {
        /// The name.
        name: String,
        /// Who has it.
        node: crate::id::NodeId,
        /// Whether that one is unique.
        is_unique: bool,
    },
    /// The node is a [client](crate::NodeBuilder::client), and the service was to have a name.
    #[error("node {0} is a client, and runs no services under names")]
    Client(crate::id::NodeId),
    /// The service's `#[on_start]` hook refused to start. The instances that had been started were stopped.
    #[error("`{service}` refused to start")]
    Refused {
        /// The service's name.
        service: String,
        /// The hook's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service's `#[on_start]` hook panicked.
    #[error("`{service}` panicked in its start hook: {message}")]
    Panicked {
        /// The service's name.
        service: String,
        /// The panic's message.
        message: String,
    },
    /// The service was stopped or cut off by somebody before it was up.
    #[error("`{service}` ended before it was up: {reason}")]
    Ended {
        /// The service's name.
        service: String,
        /// How it ended.
        reason: crate::event::StopReason,
    },
    /// The supervisor that was to start it has ended.
    #[error("supervisor `{0}` has ended")]
    SupervisorEnded(String),
    /// The node is shutting down, or has shut down.
    #[error("node {0} is shutting down")]
    NodeStopped(crate::id::NodeId),
}

/// Why a name gave no handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// No instance of that name is known; for `lookup`, none appeared in time.
    #[error("no service named {name:?}{place} is known to node {node}{waited}")]
    NotFound {
        /// The name.
        name: String,
        /// ` on node "b"`, or nothing.
        place: String,
        /// The node that looked.
        node: crate::id::NodeId,
        /// ` after waiting 30s`, or nothing.
        waited: String,
    },
    /// The name belongs to a service with another interface than the handle's.
    #[error("service {name:?} has the interface `{found}`, not `{expected}`")]
    Interface {
        /// The name.
        name: String,
        /// The interface that the handle speaks.
        expected: &'static str,
        /// The interface that is registered under the name.
        found: String,
    },
    /// The handle leads to an instance that has, or had, no name by which another could be found.
    #[error("instance {address} has no name by which another could be found")]
    Anonymous {
        /// The instance.
        address: Address,
    },
    /// The node is shutting down, or has shut down.
    #[error("node {0} is shutting down")]
    NodeStopped(crate::id::NodeId),
}

/// Why `Node::stop` did not stop anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The handle leads to another node. Nothing was stopped.
    #[error("{handle} leads to another node than {node}")]
    Elsewhere {
        /// The handle.
        handle: String,
        /// The node that was asked.
        node: crate::id::NodeId,
    },
}

/// What `Node::shutdown` could not do in order. The node is down all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Some instances did not end within the time limit and were cut off.
    #[error("{tasks} instances did not end within {limit:?} and were cut off")]
    CutOff {
        /// How many.
        tasks: usize,
        /// The time limit.
        limit: std::time::Duration,
    },
    /// A second signal cut the shutdown short.
    #[error("a second signal cut the shutdown short: {tasks} instances were cut off")]
    Interrupted {
        /// How many instances still ran.
        tasks: usize,
    },
    /// The system lets nobody listen to signals. The node still runs.
    #[error("cannot listen to signals: {0}")]
    Signals(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_error_is_small() {
        assert!(size_of::<CallError>() <= 24, "{} bytes", size_of::<CallError>());
    }
}
