//! What drivers, dials, the peers' task and the cluster's tell each other.
//!
//! Invariant: words only; who acts on them is elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::id::{Incarnation, NodeId};
use crate::port::Link;
use crate::proto::connection::CloseReason;
use crate::proto::described::Described;
use crate::proto::frame::{Members, Names, Refuse};
use crate::proto::group::Extra;

/// Who made a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// This node, at this address.
    ByMe(Arc<str>),
    ByPeer,
}

/// A connection, for the table.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) link: Arc<Link>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) dialled: Dialled,
    /// The number of the dial in its dialler's life.
    pub(crate) number: u64,
    /// The other end's address.
    pub(crate) at: SocketAddr,
    /// By which further connections name it.
    pub(crate) challenge: [u8; 32],
}

/// What the peers' task is told.
#[derive(Debug)]
pub(crate) enum News {
    /// A peer has proven who it is and asks to be let in.
    Admit(Ticket, oneshot::Sender<Result<(), Refuse>>),
    /// A peer has proven who it is, on a further connection beside its first one.
    Join { link: Arc<Link>, extra: Extra, decision: oneshot::Sender<Result<(), Refuse>> },
    /// A further connection that this node dialled stands, beside this one.
    Joined(Arc<Link>),
    /// A connection that this node dialled stands.
    Up(Ticket),
    /// A connection has ended. Without a link it was never established.
    Down { link: Option<Arc<Link>>, dialled: Dialled, address: String, reason: CloseReason },
    /// A further connection has ended, after it was admitted or refused or stood.
    ExtraDown,
    /// An address did not answer.
    DialFailed { address: Arc<str>, error: String, is_refused: bool },
    /// A peer told its names.
    Names(Arc<Link>, Names),
    /// A peer told more of its names.
    Described(Arc<Link>, Described),
    /// A peer told which nodes it knows.
    Members(Arc<Link>, Members),
    /// A peer told what it knows of the members.
    Gossip(Arc<Link>, Bytes),
    /// A peer asks to be told, with this token, when its names are published here.
    NamesSync(Arc<Link>, u64),
    /// A peer has published this node's names: the answer to that token.
    NamesSynced(Arc<Link>, u64),
    /// Connect to this address, which a peer told of.
    Dial(Arc<str>),
    /// Somebody waits for this node to be reached again.
    Want(NodeId),
    /// Somebody has a handle to an instance of this node, which may listen there.
    Expect { node: NodeId, incarnation: Incarnation, at: SocketAddr },
    /// The node shuts down: say goodbye to everybody. Answered when every connection has ended.
    Close(oneshot::Sender<()>),
}

/// What the cluster is told.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    Up(Arc<Link>),
    /// A connection has ended. Its node is looked for again if it is away.
    Down {
        link: Arc<Link>,
        is_away: bool,
    },
    /// A node that was away in this life is not waited for any more.
    Gone {
        node: NodeId,
        incarnation: Incarnation,
        /// Whether its process has gone for certain; else nobody has found it.
        is_certain: bool,
    },
    /// Nothing came from a node for so long that its connection was given up.
    Silent {
        node: NodeId,
        incarnation: Incarnation,
    },
    Names(Arc<Link>, Names),
    Described(Arc<Link>, Described),
    Members(Members),
    Gossip(Arc<Link>, Bytes),
    NamesSync(Arc<Link>, u64),
    NamesSynced(Arc<Link>, u64),
}

/// What the peers' task tells a driver.
#[derive(Debug)]
pub(crate) enum Order {
    /// Say goodbye and close.
    Close(String),
    /// Ask the peer whether it is there: there is a reason to doubt it.
    Probe,
    /// Another connection to the same peer took this one's place, which the peer may not know yet: close when nothing was under
    /// way for long.
    Replaced,
    /// As [`Order::Replaced`], and the peer knows it: close when nothing is under way.
    Retire,
}
