//! The vocabulary between services and sockets: a [`Link`] is one established connection as both sides of this process
//! see it. Services encode into it and wait on it; its driver writes out what they encoded and hands in what arrived.
//!
//! Invariant: no socket and no service here, and nobody waits while holding a lock.

mod watches;

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, oneshot};

use crate::error::{CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Incarnation, InstanceId, MethodId, NodeId, RequestId};
use crate::proto::codec::CodecError;
use crate::proto::frame::{self, Frame, PutError, Request, RequestHead};
use crate::proto::in_flight::{DEFAULT_MAX_IN_FLIGHT, InFlight};
use crate::proto::inbound::{CancelOutcome, Inbound, Insert};
use crate::proto::watch::Watch;

use watches::Watches;

pub(crate) use watches::{WatchId, Watcher};

/// How many bytes may wait for the socket before callers wait for room.
const SEND_BUFFER: usize = 1024 * 1024;

/// How many bytes may wait for the socket in all, replies and control frames included, which nobody waits to write. A
/// peer that lets more gather asks without reading, and is cut off.
const OVERRUN: usize = 256 * 1024 * 1024;

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

/// Appends a payload.
pub(crate) type Encode<'a> = &'a dyn Fn(&mut BytesMut) -> Result<(), CodecError>;

/// Takes the peer's requests to whoever they are for. It never waits.
pub(crate) trait Inbox: Send + Sync + fmt::Debug + 'static {
    /// Takes one request. A refusal goes back through the link.
    fn request(&self, link: &Arc<Link>, request: Request);

    /// Takes one watch: the instance's end goes back through the link, also if there is no such instance.
    fn watch(&self, link: &Arc<Link>, watch: Watch);

    /// The peer ends a watch, or the connection has ended. With a `reason` the watcher itself has ended and the two
    /// were linked: the instance here is to learn it.
    fn unwatch(&self, link: &Arc<Link>, watch: Watch, reason: Option<StopReason>);
}

/// The connections that stand, by node.
pub(crate) trait Links: Send + Sync + fmt::Debug + 'static {
    /// The connection to `node`.
    fn link(&self, node: &NodeId) -> Option<Arc<Link>>;
}

/// What a request carries beside its payload.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) instance: InstanceId,
    pub(crate) method: MethodId,
    pub(crate) remaining: Option<Duration>,
    pub(crate) chain: Vec<ChainLink>,
}

/// Why a request could not be handed over. It did not run.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Too many bytes wait for the socket, or too many requests for their replies.
    Full,
    /// The connection has ended.
    Closed,
    /// The message cannot be sent at all.
    Unsendable(CallError),
}

/// One established connection.
pub(crate) struct Link {
    peer: Peer,
    limit: usize,
    state: Mutex<State>,
    /// Something waits to be written, or the link was closed.
    data: Notify,
    /// What waited was taken, a request was answered, or the link was closed.
    room: Notify,
    open: AtomicBool,
    /// Whether the peer has ever cancelled a request: most never do, and then nobody looks.
    any_cancel: AtomicBool,
}

/// Guards what both sides of the link touch: the bytes on their way out, and who waits for what.
struct State {
    out: BytesMut,
    in_flight: InFlight<ReplySlot>,
    inbound: Inbound,
    watches: Watches,
}

impl State {
    fn is_full(&self) -> bool {
        self.out.len() >= SEND_BUFFER || self.in_flight.is_full()
    }
}

impl Link {
    pub(crate) fn new(peer: Peer, limit: usize) -> Self {
        let state = State {
            out: BytesMut::new(),
            in_flight: InFlight::new(DEFAULT_MAX_IN_FLIGHT),
            inbound: Inbound::new(DEFAULT_MAX_IN_FLIGHT),
            watches: Watches::default(),
        };
        Self {
            peer,
            limit,
            state: Mutex::new(state),
            data: Notify::new(),
            room: Notify::new(),
            open: AtomicBool::new(true),
            any_cancel: AtomicBool::new(false),
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' side.
impl Link {
    /// Hands a request over. With a `waiter` it is a call, and the waiter is always answered.
    pub(crate) fn request(
        &self,
        head: Head,
        waiter: Option<ReplySlot>,
        payload: Encode<'_>,
    ) -> Result<RequestId, Refused> {
        let wants_reply = waiter.is_some();
        let mut state = self.state();
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        if state.is_full() {
            return Err(Refused::Full);
        }
        let id = state.in_flight.number();
        let head = RequestHead {
            id,
            instance: head.instance,
            method: head.method,
            remaining: head.remaining,
            wants_reply,
            chain: head.chain,
        };
        let was_empty = state.out.is_empty();
        // The user's `Serialize` may refuse or panic: the waiter is noted only after it.
        if let Err(error) = frame::put_request(&mut state.out, &head, self.limit, payload) {
            return Err(Refused::Unsendable(unsendable(error)));
        }
        if let Some(waiter) = waiter {
            state.in_flight.hold(id, waiter);
        }
        drop(state);
        if was_empty {
            self.data.notify_one();
        }
        Ok(id)
    }

    /// Ends when there may be room again. Cancel safe.
    pub(crate) async fn room(&self) {
        let room = self.room.notified();
        let mut room = std::pin::pin!(room);
        room.as_mut().enable(); // before the look, so that no room between the two is missed
        let is_full = self.state().is_full();
        if is_full && self.is_open() {
            room.await;
        }
    }

    /// The caller of `id` gave up: its reply is not wanted, and the peer is told.
    pub(crate) fn cancel(&self, id: RequestId) {
        let mut state = self.state();
        let Some(waiter) = state.in_flight.remove(id) else { return };
        let was_empty = state.out.is_empty();
        if self.is_open() {
            Frame::Cancel { id }.encode(&mut state.out);
        }
        drop(state);
        drop(waiter);
        if was_empty {
            self.data.notify_one();
        }
        self.room.notify_waiters();
    }
}

/// The handlers' side.
impl Link {
    /// Answers a request of the peer.
    pub(crate) fn reply(&self, id: RequestId, payload: Encode<'_>) -> bool {
        self.answer(id, |out| {
            // A `Serialize` of the user's may panic: the caller is answered all the same.
            let put = catch_unwind(AssertUnwindSafe(|| frame::put_reply(out, id, self.limit, payload)));
            let problem = match put {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the reply's `Serialize` panicked".to_owned(),
            };
            frame::put_failure(out, id, &CallError::BadReply(problem.into()));
        })
    }

    /// Answers a request of the peer with an error.
    pub(crate) fn fail(&self, id: RequestId, error: &CallError) {
        let _wanted = self.answer(id, |out| frame::put_failure(out, id, error));
    }

    /// Notes that a request of the peer needs no answer any more.
    pub(crate) fn finish_inbound(&self, id: RequestId) {
        self.state().inbound.finish(id);
    }

    /// Whether the peer has cancelled a request.
    pub(crate) fn is_cancelled(&self, id: RequestId) -> bool {
        !self.is_open() || (self.any_cancel.load(Ordering::Acquire) && self.state().inbound.is_cancelled(id))
    }

    /// Ready when the peer cancels a request, or the connection ends.
    pub(crate) fn poll_cancelled(&self, id: RequestId, cx: &mut Context<'_>) -> Poll<()> {
        let cancelled = self.state().inbound.register(id, cx.waker());
        if cancelled || !self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn answer(&self, id: RequestId, put: impl FnOnce(&mut BytesMut)) -> bool {
        let mut state = self.state();
        let wanted = state.inbound.finish(id);
        if !wanted || !self.is_open() {
            return false;
        }
        let was_empty = state.out.is_empty();
        put(&mut state.out);
        drop(state);
        if was_empty {
            self.data.notify_one();
        }
        true
    }
}

/// The driver's side.
impl Link {
    /// Exchanges what waits to be written for `empty`, which must be empty. `false` if nothing waits.
    pub(crate) fn take_outgoing(&self, empty: &mut BytesMut) -> bool {
        debug_assert!(empty.is_empty(), "bytes would be lost");
        let mut state = self.state();
        if state.out.is_empty() {
            return false;
        }
        let was_full = state.is_full();
        std::mem::swap(&mut state.out, empty);
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        true
    }

    /// Whether so much waits to be written that the peer must be cut off.
    pub(crate) fn is_overrun(&self) -> bool {
        self.state().out.len() > OVERRUN
    }

    /// Ends when something may wait to be written. Cancel safe.
    pub(crate) async fn outgoing(&self) {
        self.data.notified().await;
    }

    /// Appends a control frame, whatever waits already.
    pub(crate) fn put(&self, frame: &Frame) {
        let mut state = self.state();
        let was_empty = state.out.is_empty();
        frame.encode(&mut state.out);
        drop(state);
        if was_empty {
            self.data.notify_one();
        }
    }

    /// A request of this side has its answer. An answer that nobody waits for is dropped.
    pub(crate) fn answered(&self, id: RequestId, answer: Result<Bytes, CallError>) {
        let mut state = self.state();
        let was_full = state.is_full();
        let waiter = state.in_flight.remove(id);
        drop(state);
        if was_full {
            self.room.notify_waiters();
        }
        if let Some(waiter) = waiter {
            drop(waiter.send(answer)); // the caller gave up at this very moment
        }
    }

    /// Answers a request that was never taken in.
    pub(crate) fn refuse(&self, id: RequestId, error: &CallError) {
        let mut state = self.state();
        let was_empty = state.out.is_empty();
        frame::put_failure(&mut state.out, id, error);
        drop(state);
        if was_empty {
            self.data.notify_one();
        }
    }

    /// Notes a request of the peer that wants a reply.
    pub(crate) fn begin_inbound(&self, id: RequestId) -> Insert {
        self.state().inbound.insert(id)
    }

    /// The peer cancels one of its requests.
    pub(crate) fn cancel_inbound(&self, id: RequestId) {
        self.any_cancel.store(true, Ordering::Release);
        let outcome = self.state().inbound.cancel(id);
        if let CancelOutcome::Cancelled(Some(waker)) = outcome {
            waker.wake();
        }
    }

    /// Whether more than one request is under way.
    pub(crate) fn is_shared(&self) -> bool {
        let (own, peers) = self.open_requests();
        own + peers > 1
    }

    /// How many requests wait for an answer: of this side, and of the peer.
    pub(crate) fn open_requests(&self) -> (usize, usize) {
        let state = self.state();
        (state.in_flight.len(), state.inbound.len())
    }

    /// Ends the link: whoever waits is answered `Disconnected`, whoever works for the peer is cancelled. Whoever watches
    /// is told by the driver, when all that arrived is dealt with: [`Link::end_watches`].
    pub(crate) fn close(&self, reason: &str) {
        let mut state = self.state();
        // Under the lock: a request either is found below or sees the end.
        if !self.open.swap(false, Ordering::AcqRel) {
            return;
        }
        let waiters: Vec<_> = state.in_flight.drain().collect();
        let wakers = state.inbound.cancel_all();
        drop(state);
        for waiter in waiters {
            let detail =
                format!("the connection to {} ended before the reply came: {reason}", self.peer.node);
            drop(waiter.send(Err(CallError::Disconnected(detail.into()))));
        }
        wakers.into_iter().for_each(std::task::Waker::wake);
        self.data.notify_one();
        self.room.notify_waiters();
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

fn unsendable(error: PutError) -> CallError {
    match error {
        PutError::Codec(error) => CallError::Codec(error.to_string().into()),
        error @ PutError::TooLarge { .. } => CallError::TooLarge(error.to_string().into()),
    }
}
