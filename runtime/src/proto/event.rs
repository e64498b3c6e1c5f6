//! What a connection tells its driver.
//!
//! Invariant: plain values. Texts that came from a peer are shown on one line.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::error::CallError;
use crate::event::StopReason;
use crate::id::{InstanceId, RequestId, StreamId};

use super::described::Described;
use super::fence::Word;
use super::flow::Amount;
use super::frame::{Members, Names, Request, Window};
use super::refuse::{OneLine, Refuse};
use super::settings::PeerIdentity;
use super::watch::Watch;

/// What has happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Accepting side only: the peer has proven who it is; `Connection::admit` must answer.
    Admit(PeerIdentity),
    /// The handshake is done.
    Established(PeerIdentity),
    /// A message for an instance.
    Request(Request),
    /// The result of a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The result, encoded.
        payload: Bytes,
    },
    /// A request gave no result.
    Failure {
        /// The request.
        id: RequestId,
        /// Why.
        error: CallError,
    },
    /// The peer no longer waits for a request.
    Cancel {
        /// The request.
        id: RequestId,
    },
    /// The peer answers a `Ping`. That it lives is noted already.
    Pong {
        /// Of the `Ping`.
        token: u64,
    },
    /// The peer wants to be told of an instance's end.
    Watch(Watch),
    /// It does not any more.
    Unwatch {
        /// The watch.
        id: u64,
        /// Why the watcher itself has ended, if it has and the two were linked.
        reason: Option<StopReason>,
    },
    /// An instance of the peer, watched from here, has ended.
    Down {
        /// The watch.
        id: u64,
        /// Why it ended.
        reason: StopReason,
    },
    /// How much the peer takes ahead.
    Window(Window),
    /// This side may send to an instance of the peer up to these totals.
    Credit {
        /// The instance.
        instance: InstanceId,
        /// Counted from the connection's beginning.
        totals: Amount,
    },
    /// The peer does not run an instance any more.
    Gone {
        /// The instance.
        instance: InstanceId,
    },
    /// This side may send items of one of its streams up to these totals.
    StreamCredit {
        /// The stream.
        stream: StreamId,
        /// Counted from the stream's beginning.
        totals: Amount,
    },
    /// An item of a stream that the peer makes.
    StreamItem {
        /// The stream.
        stream: StreamId,
        /// The item, encoded.
        payload: Bytes,
    },
    /// A stream that the peer makes has ended.
    StreamEnd {
        /// The stream.
        stream: StreamId,
        /// Why, if not in order.
        error: Option<CallError>,
    },
    /// The peer does not read a stream of this side any more.
    StreamStop {
        /// The stream.
        stream: StreamId,
    },
    /// The peer has taken so many bytes of pieces, counted from the connection's beginning.
    Taken {
        /// How many.
        bytes: u64,
    },
    /// All that the peer had for this connection before the word of that number has come.
    Fence {
        /// The word's.
        number: u64,
    },
    /// The peer says something that counts when so many fences of its number have come on the other connections.
    Behind {
        /// Numbers it.
        number: u64,
        /// How many.
        fences: u8,
        /// What it says.
        word: Word,
    },
    /// Which names the peer runs.
    Names(Names),
    /// What else is said of names that the peer runs.
    Described(Described),
    /// Which nodes the peer knows.
    Members(Members),
    /// What the peer knows of the members.
    Gossip {
        /// In the membership's form.
        bytes: Bytes,
    },
    /// The peer asks to be told when this node routes by the names that it has told so far.
    NamesSync {
        /// Goes back in the answer.
        token: u64,
    },
    /// The peer routes by the names that this node had told before the question of this token.
    NamesSynced {
        /// The question's.
        token: u64,
    },
    /// The peer goes on purpose. `Closed` follows.
    Goodbye {
        /// Why it goes.
        reason: String,
    },
    /// The last event.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The peer has said goodbye.
    Goodbye(String),
    /// This node has closed it.
    Closed(String),
    /// One side has refused the other.
    Refused {
        /// Which.
        by_peer: bool,
        /// Why.
        refuse: Refuse,
    },
    /// There is no secure stream to the other end: it speaks no TLS, or one end does not accept the other's certificate.
    Insecure(String),
    /// Nothing has come for so long.
    Silent(Duration),
    /// The handshake was not done in time.
    HandshakeTimeout,
    /// The peer, once established, has broken the protocol.
    Protocol(String),
    /// The stream has ended, by an error if there is a text.
    Ended(Option<String>),
}

impl CloseReason {
    /// Whether one side has refused the other.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Insecure(_))
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goodbye(reason) => write!(f, "the peer said goodbye: {}", OneLine(reason)),
            Self::Closed(reason) => write!(f, "closed by this node: {reason}"),
            Self::Refused { by_peer: false, refuse } => write!(f, "refused by this node: {refuse}"),
            Self::Refused { by_peer: true, refuse } => {
                write!(f, "refused by the peer, in its words: {refuse}")
            }
            Self::Insecure(text) => write!(f, "no secure connection: {}", OneLine(text)),
            Self::Silent(time) => write!(f, "nothing came from the peer for {time:?}"),
            Self::HandshakeTimeout => f.write_str("the handshake was not done in time"),
            Self::Protocol(text) => write!(f, "protocol error: {text}"),
            Self::Ended(None) => f.write_str("the peer closed the stream"),
            Self::Ended(Some(error)) => write!(f, "the stream broke: {error}"),
        }
    }
}
