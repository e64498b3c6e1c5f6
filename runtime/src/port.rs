//! The vocabulary between services and sockets: a [`Link`] is one established connection as both sides of this process
//! see it, by itself or in a group of several to one peer. Services encode into it and wait on it; its driver writes out what they encoded and hands in what arrived.
//!
//! Invariant: no socket and no service here, and nobody waits while holding a lock.

mod accounts;
mod answering;
mod calling;
mod driving;
mod exhausted;
mod group;
mod streams;
mod traffic;
mod watches;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::config::Limits;
use crate::error::{CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Incarnation, InstanceId, MethodId, NodeId, RequestId};
use crate::proto::codec::{CodecError, Encoder};
use crate::proto::frame::{PIECE, PutError, Request};
use crate::proto::in_flight::InFlight;
use crate::proto::inbound::Inbound;
use crate::proto::lanes::Lanes;
use crate::proto::settings::{FLOW, GOSSIP, PeerIdentity, STREAMS, TRACE};
use crate::proto::watch::Watch;
use crate::trace::TraceParent;

use accounts::Accounts;
use exhausted::Exhausted;
use group::Seat;
use streams::{Numbers, Streams};
use traffic::{Pings, Traffic};
use watches::Watches;

pub(crate) use accounts::Place;
pub(crate) use driving::Released;
pub(crate) use group::{NotJoined, Over, Said};
pub(crate) use streams::{Items, Next, Source, Unread, give};
pub(crate) use traffic::Seen;
pub(crate) use watches::{WatchId, Watcher};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Where it listens, as it says itself.
    pub(crate) listen: Option<SocketAddr>,
}

/// Where a call waits for the bytes of its reply.
pub(crate) type ReplySlot = oneshot::Sender<Result<Bytes, CallError>>;

/// Runs a task that belongs to the node.
pub(crate) type Spawn = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// Appends a payload.
pub(crate) type Encode<'a> = &'a dyn Fn(&mut Encoder<'_>) -> Result<(), CodecError>;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the credit that it took is given back by this"]
pub(crate) enum Intake {
    /// It is in its mailbox, or was refused.
    Done,
    /// It waits for room, and says itself when it has left: [`Link::release`].
    Waits,
    /// Nothing runs here under its number.
    Gone,
}

/// Takes the peer's requests to whoever they are for. It never waits.
pub(crate) trait Inbox: Send + Sync + fmt::Debug + 'static {
    /// Takes one request. A refusal goes back through the link.
    fn request(&self, link: &Arc<Link>, request: Request) -> Intake;

    /// Whether something runs here under that number.
    fn has(&self, instance: InstanceId) -> bool;

    /// Takes one watch: the instance's end goes back through the link, also if there is no such instance.
    fn watch(&self, link: &Arc<Link>, watch: Watch);

    /// The peer ends a watch, or the connection has ended. With a `reason` the watcher itself has ended and the two
    /// were linked: the instance here is to learn it.
    fn unwatch(&self, link: &Arc<Link>, watch: Watch, reason: Option<StopReason>);
}

/// How a node can be reached.
#[derive(Debug)]
pub(crate) enum Way {
    /// Over this connection.
    Up(Arc<Link>),
    /// Not now: its connection was lost and is being made again.
    Away,
    /// Not at all: it is not known, or has gone.
    None,
}

/// The connections, by node.
pub(crate) trait Links: Send + Sync + fmt::Debug + 'static {
    /// How `node` can be reached.
    fn way(&self, node: &NodeId) -> Way;

    /// Ends with the next change. Who waits first is woken first.
    fn changed(&self) -> Notified<'_>;

    /// Somebody waits for `node` to be reached again.
    fn want(&self, node: &NodeId);

    /// Somebody wants to reach `node`, which is not known, in that life, and has heard that it listens there. `false` if
    /// it cannot be looked for now.
    fn expect(&self, node: &NodeId, incarnation: Incarnation, at: SocketAddr) -> bool;
}

/// What a request carries beside its payload.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) instance: InstanceId,
    pub(crate) method: MethodId,
    pub(crate) remaining: Option<Duration>,
    pub(crate) chain: Vec<ChainLink>,
    /// Whether it needs no credit, because its receiver waits for it.
    pub(crate) is_ahead: bool,
    /// Whether it is to be refused if its mailbox has no room.
    pub(crate) is_impatient: bool,
    /// The span of its sender, if it is sampled. It goes to a peer that wants to know.
    pub(crate) trace: Option<TraceParent>,
    /// The number of the handle whose order it keeps.
    pub(crate) order: u64,
    /// Whether what went before it through the same handle was long.
    pub(crate) is_likely_long: bool,
}

/// Why a request could not be handed over. It did not run.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Too many bytes wait for the socket, or too many requests for their replies.
    Full,
    /// The instance has granted no more credit, or others wait for it.
    NoCredit,
    /// The connection has ended.
    Closed,
    /// The instance has ended, as its node says, while this waited for credit.
    Gone,
    /// The message cannot be sent at all.
    Unsendable(CallError),
}

/// A request that was handed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handed {
    pub(crate) id: RequestId,
    /// Whether it goes in pieces.
    pub(crate) is_long: bool,
}

/// One established connection.
pub(crate) struct Link {
    peer: Peer,
    /// The longest message that the peer takes, in bytes, with what surrounds its payload.
    limit: usize,
    /// Whether there is credit, and long messages go in pieces.
    has_flow: bool,
    /// The features that both have.
    features: u64,
    limits: Limits,
    /// Among the connections to this peer, if there are several.
    seat: Seat,
    /// Itself, for what it makes tasks of.
    me: Weak<Self>,
    spawn: Spawn,
    /// For the streams that this side makes.
    stream_numbers: Arc<Numbers>,
    state: Mutex<State>,
    /// The driver has something to do: it may write, or the link was closed.
    data: Notify,
    open: AtomicBool,
    /// Whether another connection to the same life of the peer took this one's place.
    is_replaced: AtomicBool,
    /// Whether the peer knows it.
    is_retired: AtomicBool,
    /// Whether the peer has ever cancelled a request: most never do, and then nobody looks.
    any_cancel: AtomicBool,
    exhausted: Arc<Exhausted>,
    traffic: Traffic,
}

/// Guards what both sides of the link touch: the bytes on their way out, and who waits for what.
struct State {
    lanes: Lanes,
    in_flight: InFlight<Waiter>,
    inbound: Inbound,
    watches: Watches,
    accounts: Accounts,
    streams: Streams,
    /// Whether the driver has found nothing to write, and must be woken for what comes.
    is_idle: bool,
    /// Whether somebody waits for room for requests, and for long ones: then newcomers wait too.
    is_room_awaited: Awaited,
    /// The requests of the peer that waited here and have left, with the bytes of their arguments.
    released: Vec<(InstanceId, usize)>,
    /// The instances that ended while requests of the peer waited for them.
    gone: Vec<InstanceId>,
    /// Who waits for the answer to a question whether the peer is there.
    pings: Pings,
}

/// Which of the two kinds of room somebody waits for.
#[derive(Debug, Default)]
struct Awaited {
    calls: bool,
    bulk: bool,
}

/// A call of this side.
#[derive(Debug)]
struct Waiter {
    slot: ReplySlot,
    /// Whether it stands in a lane's queue, so that the peer has not seen it.
    is_queued: bool,
}

impl State {
    fn is_full(&self, limits: &Limits) -> bool {
        self.lanes.calls_len() >= limits.send_buffer || self.in_flight.is_full()
    }

    fn is_bulk_full(&self, limits: &Limits) -> bool {
        self.lanes.bulk_len() >= limits.long_send_buffer || self.in_flight.is_full()
    }
}

impl Link {
    /// `spawn` makes tasks that belong to the node.
    pub(crate) fn new(peer: &PeerIdentity, limits: Limits, spawn: Spawn) -> Arc<Self> {
        let numbers = Numbers::new(limits.streams);
        let exhausted = Arc::new(Exhausted::default());
        let state = State {
            lanes: Lanes::new(peer.max_frame),
            in_flight: InFlight::new(limits.requests),
            inbound: Inbound::new(limits.requests),
            watches: Watches::default(),
            accounts: Accounts::new(peer.features & FLOW != 0, Arc::clone(&exhausted)),
            streams: Streams::new(Arc::clone(&numbers)),
            is_idle: true,
            is_room_awaited: Awaited::default(),
            released: Vec::new(),
            gone: Vec::new(),
            pings: Pings::default(),
        };
        let limit = peer.max_frame;
        let has_flow = peer.features & FLOW != 0;
        let PeerIdentity { node, incarnation, listen, .. } = peer.clone();
        Arc::new_cyclic(|me| Self {
            peer: Peer { node, incarnation, listen },
            limit,
            has_flow,
            features: peer.features,
            limits,
            seat: Seat::first(peer, limits.watches, me),
            me: Weak::clone(me),
            spawn,
            stream_numbers: numbers,
            state: Mutex::new(state),
            data: Notify::new(),
            open: AtomicBool::new(true),
            is_replaced: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            any_cancel: AtomicBool::new(false),
            exhausted,
            traffic: Traffic::new(),
        })
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Another connection took this one's place, and the peer may know it.
    pub(crate) fn replaced(&self, is_known: bool) {
        for link in self.family() {
            link.is_replaced.store(true, Ordering::Release);
            link.is_retired.fetch_or(is_known, Ordering::AcqRel);
        }
    }

    /// Whether a handle that has used it goes on doing so: another connection is taken up when nothing is under way on this one,
    /// so that order is kept, or when the peer is about to close it.
    #[inline]
    pub(crate) fn is_used(&self) -> bool {
        let is_kept = || !self.is_retired.load(Ordering::Acquire) && !self.is_unused();
        self.is_open() && (!self.is_replaced.load(Ordering::Acquire) || is_kept())
    }

    /// Whether requests are counted against credit, and wait for room where they arrive.
    pub(crate) fn has_flow(&self) -> bool {
        self.has_flow
    }

    /// Whether the peer takes part in the membership.
    pub(crate) fn has_gossip(&self) -> bool {
        self.features & GOSSIP != 0
    }

    /// Whether requests say which trace they are part of, if it is sampled.
    pub(crate) fn has_trace(&self) -> bool {
        self.features & TRACE != 0
    }

    /// Whether messages may hold streams.
    pub(crate) fn has_streams(&self) -> bool {
        self.has_flow && self.features & STREAMS != 0
    }

    /// The longest frame that is written whole, in bytes.
    fn whole(&self) -> usize {
        if self.has_flow { PIECE.min(self.limit) } else { self.limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the lock, and wakes the driver if it waits for what was added under it.
    #[inline]
    fn added(&self, mut state: MutexGuard<'_, State>) {
        let was_idle = std::mem::replace(&mut state.is_idle, false);
        drop(state);
        if was_idle {
            self.data.notify_one();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// For who holds it to its bounds.
#[cfg(any(test, fuzzing))]
impl Link {
    /// The requests, the watches and the streams that the peer has opened and that are open, and the bytes that wait for it.
    pub(crate) fn kept(&self) -> [usize; 4] {
        let state = self.state();
        [state.inbound.len(), state.watches.of_peer(), state.streams.read(), state.lanes.len()]
    }
}

fn unsendable(error: PutError) -> CallError {
    match error {
        PutError::Codec(error) => CallError::Codec(error.to_string().into()),
        error @ PutError::TooLarge { .. } => CallError::TooLarge(error.to_string().into()),
    }
}
