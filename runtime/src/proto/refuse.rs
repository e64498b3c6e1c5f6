//! Why a node refuses a connection, in a number for programs and in words for logs.
//!
//! Invariant: what a stranger is told does not name this node's cluster or anything else that the stranger has not
//! said itself.

use std::fmt;

/// No connection, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refuse {
    /// Why, for programs.
    pub(crate) reason: RefuseReason,
    /// Why, for people, from the refusing side's point of view. May be empty.
    pub(crate) detail: String,
}

impl Refuse {
    /// Makes a refusal. The detail goes to the peer.
    pub(crate) fn new(reason: RefuseReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<RefuseReason> for Refuse {
    fn from(reason: RefuseReason) -> Self {
        Self { reason, detail: String::new() }
    }
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", OneLine(&self.detail))?;
        }
        Ok(())
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefuseReason {
    /// What came is not this protocol, or not in its order.
    Protocol,
    /// There is no version that both speak.
    Version,
    /// The clusters' names differ.
    Cluster,
    /// The secrets differ, or only one side has one.
    Secret,
    /// There is another connection between the two nodes, and it is the one that lives.
    Duplicate,
    /// A later life of the same node is already connected.
    StaleIncarnation,
    /// The peer has the refusing node's own name.
    NameTaken,
    /// The node has as many connections as it may.
    TooBusy,
    /// The node is going down.
    ShuttingDown,
    /// The certificate is not for the node that the peer says it is.
    Certificate,
    /// The refusing node's configuration turns the peer off.
    TurnedOff,
    /// The first connection, to which the further one says to belong, is not there.
    NoFirst,
    /// A reason of a later version.
    Unknown(u8),
}

impl RefuseReason {
    /// Its number on the wire.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Protocol => 1,
            Self::Version => 2,
            Self::Cluster => 3,
            Self::Secret => 4,
            Self::Duplicate => 5,
            Self::StaleIncarnation => 6,
            Self::NameTaken => 7,
            Self::TooBusy => 8,
            Self::ShuttingDown => 9,
            Self::Certificate => 10,
            Self::TurnedOff => 11,
            Self::NoFirst => 12,
            Self::Unknown(code) => code,
        }
    }

    /// The reason that has a number on the wire.
    pub(super) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Protocol,
            2 => Self::Version,
            3 => Self::Cluster,
            4 => Self::Secret,
            5 => Self::Duplicate,
            6 => Self::StaleIncarnation,
            7 => Self::NameTaken,
            8 => Self::TooBusy,
            9 => Self::ShuttingDown,
            10 => Self::Certificate,
            11 => Self::TurnedOff,
            12 => Self::NoFirst,
            unknown => Self::Unknown(unknown),
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "protocol error",
            Self::Version => "no common protocol version",
            Self::Cluster => "cluster name differs",
            Self::Secret => "wrong secret",
            Self::Duplicate => "there is another connection between the two nodes",
            Self::StaleIncarnation => "a later life of the node is connected",
            Self::NameTaken => "node name is taken",
            Self::TooBusy => "too many connections",
            Self::ShuttingDown => "shutting down",
            Self::Certificate => "wrong certificate",
            Self::TurnedOff => "the node is turned off by the configuration",
            Self::NoFirst => "the first connection of this further one is not there",
            Self::Unknown(code) => return write!(f, "unknown reason {code}"),
        })
    }
}

/// Shows a peer's text so that it cannot forge lines of a log.
pub(super) struct OneLine<'a>(pub(super) &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
