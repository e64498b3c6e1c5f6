//! What happens in a node that nobody called for: peers that come and go, instances that end, messages that reach
//! nobody.
//!
//! Invariant: plain values. How they are published is the node's matter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Address, Incarnation, InstanceId, NodeId};

/// Why a member is declared dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberEnd {
    /// Its process has gone: its system has refused a connection of this node.
    ProcessGone,
    /// A later life of the node has come.
    NextLife,
    /// It did not answer, neither those who asked it nor those whom they asked to try; or others have found it dead, and this node did not.
    NoAnswer,
}

/// Something that happened in a node. Got from `Node::events`; each is also a `tracing` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A connection to a peer stands; its services can be called.
    PeerUp {
        /// The peer.
        peer: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// The connection to a peer ended; calls in flight were answered `Disconnected`.
    PeerDown {
        /// The peer.
        peer: NodeId,
        /// Why, in words.
        reason: String,
    },
    /// A node has become a member of the cluster, as this node sees it: it is new, has come back, or has begun another life.
    MemberJoined {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A member did not answer another one, nor others that were asked to try. It stays a member until it is declared dead.
    MemberSuspected {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A member that was suspected has said that it lives.
    MemberRefuted {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A member has said goodbye.
    MemberLeft {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
    },
    /// A member is declared dead.
    MemberDied {
        /// The node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// Why.
        reason: MemberEnd,
    },
    /// This node had claimed a name, and so has another one, before it: this node's service of that name is being stopped. See
    /// [`ServiceBuilder::unique`](crate::ServiceBuilder::unique).
    NameLost {
        /// The name.
        name: String,
        /// Who has it.
        owner: NodeId,
    },
    /// More than half of the nodes that are expected answer this node now: [`Cluster::has_quorum`](crate::Cluster::has_quorum).
    QuorumReached {
        /// How many answer, this node included.
        alive: usize,
        /// How many nodes are expected: [`NodeBuilder::expected_nodes`](crate::NodeBuilder::expected_nodes).
        expected: usize,
    },
    /// No more than half of the nodes that are expected answer this node now.
    QuorumLost {
        /// How many answer, this node included.
        alive: usize,
        /// How many nodes are expected.
        expected: usize,
    },
    /// A setting of the central configuration has a value that somebody who watches it on this node cannot use, and who was not asked before: it
    /// keeps its last good one. See [`CentralConfig`](crate::CentralConfig).
    ConfigRefused {
        /// The key.
        key: String,
        /// The version of the value that cannot be used.
        version: u64,
        /// Where in the value; `None` for the value as a whole.
        field: Option<String>,
        /// Why.
        reason: String,
    },
    /// The holder of the central configuration has an older one than this node remembers, and what it says is in force: was its file put
    /// back, or lost?
    ConfigWentBack {
        /// The holder.
        holder: NodeId,
        /// The version that this node remembers.
        from: u64,
        /// The version that the holder has.
        to: u64,
    },
    /// A connection was refused in the handshake, by this node or by the other side.
    PeerRefused {
        /// The other side's address.
        address: String,
        /// Why, in words: wrong secret, wrong cluster name, no common version, garbage.
        reason: String,
    },
    /// A supervisor began another life of a child, and it is up.
    Restarted {
        /// The supervisor's name; the service's, if it was started on its own.
        supervisor: String,
        /// The child's name.
        child: String,
        /// The child's number, if it is an instance.
        instance: Option<InstanceId>,
    },
    /// A supervisor saw more failures than its intensity allows, and ended its children.
    GaveUp {
        /// The supervisor's name; the service's, if it was started on its own.
        supervisor: String,
        /// The name of the child that failed last.
        child: String,
        /// Why that one failed.
        reason: String,
    },
    /// An instance ended, or one of the lives of a supervised one.
    InstanceEnded {
        /// The instance.
        address: Address,
        /// Its service's name.
        service: String,
        /// Why.
        reason: StopReason,
    },
    /// A handler, or a hook, has run for longer than its service's `slow`, 1 s by default. Told once of each run.
    SlowHandler {
        /// The instance.
        address: Address,
        /// Its service's name.
        service: String,
        /// The handler, as `service.method`.
        handler: String,
        /// How long it has run by now, or up to 250 ms less.
        age: Duration,
    },
    /// A handler, or a hook, has run for longer than its service's `stuck`, 10 s by default. Told once of each run.
    StuckHandler {
        /// The instance.
        address: Address,
        /// Its service's name.
        service: String,
        /// The handler, as `service.method`.
        handler: String,
        /// How long it has run by now, or up to 250 ms less.
        age: Duration,
    },
    /// As many messages wait in a mailbox as its service's `high_water` says, 80 percent of its bound by default. Told
    /// again after it was less than half as full.
    HighWater {
        /// The instance.
        address: Address,
        /// Its service's name.
        service: String,
        /// How many messages wait.
        waiting: usize,
        /// How many may.
        capacity: usize,
    },
    /// Messages reached nobody. A call's caller got an error as well; for a send this is the only trace.
    DeadLetter(DeadLetter),
}

/// Messages of one kind that reached nobody. What a stopped instance had queued is told in one event for each handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The handler that it was for, as `service.method`, or the wire's number of it where nobody knows the name. For an
    /// item of a topic `topic/name@node` where it was published, and `topic/name` where it arrived.
    pub handler: String,
    /// Whether somebody waited for a reply.
    pub call: bool,
    /// Why nobody got it.
    pub reason: DeadLetterReason,
    /// How many they were.
    pub count: u64,
}

/// Why a message reached nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// The instance had stopped, or stopped before the message began.
    Stopped,
    /// No instance has that number on this node.
    NoInstance,
    /// The mailbox was full when the message came over the network; or, with the setting `shed`, its deadline could not be
    /// met. For an item of a topic, the connection was full.
    Overloaded,
    /// A newer message took its place in a full mailbox, whose setting is `overflow = "drop_oldest"`. Only sends are.
    Displaced,
    /// The method or its signature is not known here, or the arguments did not decode; for an item of a topic, the other
    /// node's items are of another type.
    Undecodable,
    /// It is larger than its receiver's node takes.
    TooLarge,
    /// The deadline passed, or the caller gave up, before the handler began.
    Expired,
    /// Its receiver's node does not allow it to the sender's, see [`Access`](crate::Access).
    Denied,
}

/// Why an instance ended: what `#[on_stop]`, [`Event::InstanceEnded`] and whoever watches it are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to stop, by itself or by somebody else.
    Normal,
    /// Its node, or its supervisor, ends what it runs.
    Shutdown,
    /// It could not start, or something that it is linked with failed, with this error.
    Error(String),
    /// A handler, a hook or a task of its own panicked, with this message.
    Panicked(String),
    /// It was cut off, because it did not stop in time or because it was told to end at once.
    Killed,
    /// Nobody here can know: the connection to its node ended, for this reason. Only a watcher sees this.
    NodeDown(String),
    /// It belonged to an earlier life of its node. Only a watcher sees this.
    Stale,
    /// It had ended before, and nobody knows any more why. Only a watcher sees this.
    Gone,
}

impl StopReason {
    /// Whether this is the end of something that failed: neither asked for nor part of a shutdown. It is what a
    /// supervisor restarts `on_failure`, and what a link passes on.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Normal | Self::Shutdown)
    }
}

impl std::fmt::Display for StopReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped"),
            Self::Shutdown => f.write_str("shut down"),
            Self::Error(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Killed => f.write_str("cut off"),
            Self::NodeDown(reason) => write!(f, "its node is not connected: {reason}"),
            Self::Stale => f.write_str("of an earlier life of its node"),
            Self::Gone => f.write_str("ended before"),
        }
    }
}

/// Something that is watched has ended: what [`Watch`](crate::Watch) gives, and what `#[on_down]` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Down {
    /// The instance that ended.
    pub address: Address,
    /// Why it ended.
    pub reason: StopReason,
}

/// How many of each kind of thing a node has seen since its start. Got from `Node::counters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that reached nobody: see [`DeadLetter`].
    pub dead_letters: u64,
    /// Sends that were dropped to make room for newer messages: [`DeadLetterReason::Displaced`].
    pub displaced: u64,
    /// Calls that were refused because their deadline could not be met, by services with the setting `shed`.
    pub shed: u64,
    /// Messages that were too late, or whose caller had given up, by the phase in which that was seen.
    pub expired: Expired,
    /// Handlers and hooks that panicked.
    pub panics: u64,
    /// Instances that were started.
    pub instances_started: u64,
    /// Instances that have ended, and lives of supervised ones.
    pub instances_ended: u64,
    /// Children that a supervisor began another life of.
    pub restarts: u64,
    /// Supervisors that saw more failures than their intensity allows: [`Event::GaveUp`].
    pub gave_up: u64,
    /// Handlers and hooks that have run for longer than their service's `slow`: [`Event::SlowHandler`].
    pub slow_handlers: u64,
    /// Handlers and hooks that have run for longer than their service's `stuck`: [`Event::StuckHandler`].
    pub stuck_handlers: u64,
    /// Mailboxes that have filled up to their service's `high_water`: [`Event::HighWater`].
    pub high_waters: u64,
    /// Connections refused in the handshake, by either side.
    pub refused_connections: u64,
    /// Connections that have ended, by what ended them.
    pub ended_connections: EndedConnections,
}

/// How many connections have ended, by what ended them: those that peers made, those that this node made, and those of
/// strangers. Part of [`Counters`]. Each end is also a `tracing` event of level debug.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndedConnections {
    /// One side said goodbye.
    pub goodbye: u64,
    /// One side refused the other in the handshake: wrong secret, cluster, version, name; garbage; or one connection too many.
    pub refused: u64,
    /// No secure stream: one end speaks no TLS, or does not accept the other's certificate.
    pub insecure: u64,
    /// The handshake was not done in time.
    pub late: u64,
    /// Nothing came from the peer for too long.
    pub silent: u64,
    /// The peer broke the protocol.
    pub protocol: u64,
    /// The stream broke, or was closed without a word.
    pub broken: u64,
    /// Closed at once, or to make room for a later one: as many stood from the address, or as many were unproven, as may be.
    pub crowded: u64,
}

/// How many messages were too late in each phase of their way. Part of [`Counters`].
///
/// A message is counted once, in the first phase that sees it, on the node that this phase belongs to: `send` on the
/// caller's, the others on the callee's. But for `reply` its handler did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Expired {
    /// The deadline passed before the message was handed over: before it was made, or while it waited for room in a
    /// mailbox or on a connection. Sends are counted too, by their timeout.
    pub send: u64,
    /// The deadline had passed when a request that came over the network had been read. A dead letter.
    pub receive: u64,
    /// The deadline had passed when the instance took the message out of its mailbox; or its caller had given up before
    /// the deadline, which is seen when the handler is about to begin. A dead letter.
    pub dispatch: u64,
    /// The message was taken out of the mailbox in time, and its deadline passed before the first poll of its handler: it
    /// waited for those that ran. A dead letter.
    pub invoke: u64,
    /// The handler gave its value, and nobody waited for it any more.
    pub reply: u64,
}

impl Expired {
    /// All phases together.
    pub fn total(&self) -> u64 {
        self.send + self.receive + self.dispatch + self.invoke + self.reply
    }
}

/// The phases of [`Expired`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Send,
    Receive,
    Dispatch,
    Invoke,
    Reply,
}

impl Phase {
    /// How many phases there are.
    pub(crate) const COUNT: usize = 5;
}
