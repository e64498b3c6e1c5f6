//! Hands a message over to where its handle leads: into a mailbox, onto a connection, or to whom a name picks.
//!
//! Invariant: `attempt` never waits. What it could not hand over it gives back as a waiting room.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::error::{CallError, ChainLink};
use crate::event::DeadLetterReason;
use crate::id::{Address, RequestId};
use crate::port::{self, Head, Link};
use crate::service::chain::{Chain, Circle};
use crate::service::context::Caller;
use crate::service::deadlines::Tick;
use crate::service::handle::{Handle, Remote, Target};
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Encoder, Envelope, Message, Meta, Method};
use crate::service::reply::Reply;
use crate::service::stub::{Decode, Stub};

/// Whether a reply is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Call,
    Send,
}

/// How a message is to be delivered.
pub(crate) struct Delivery<M: 'static, R: 'static> {
    pub(crate) stub: &'static Stub<M, R>,
    pub(crate) mode: Mode,
    pub(crate) deadline: Tick,
    /// The handlers that wait for it, if it is a call.
    pub(crate) chain: Chain,
}

impl<M, R> Clone for Delivery<M, R> {
    fn clone(&self) -> Self {
        Self { stub: self.stub, mode: self.mode, deadline: self.deadline, chain: self.chain.clone() }
    }
}

/// What came of handing a message over.
pub(crate) enum Attempt<R, M> {
    /// It was; a call waits now.
    Done(Option<Waiting<R>>),
    /// There is no room.
    Full(WaitingRoom<R, M>),
    /// It cannot be. It did not run.
    Failed(CallError),
}

/// Puts a send into the mailbox of a local instance, if that is all there is to it; else gives the message back.
#[inline]
pub(crate) fn send_at_once<M: Message>(handle: &Handle<M>, message: M) -> Result<(), M> {
    let Target::Local(local) = handle.target() else { return Err(message) };
    match local.try_send(Envelope { message, meta: Meta::default() }) {
        Ok(()) => Ok(()),
        Err(Refused::Full(envelope) | Refused::Closed(envelope)) => Err(envelope.message),
    }
}

/// Puts a call for which no handler waits into the mailbox of a local instance, if that is all there is to it; else
/// gives the message back.
#[inline]
pub(crate) fn call_at_once<R, M: Message>(
    handle: &Handle<M>,
    mut message: M,
    stub: &'static Stub<M, R>,
    deadline: Tick,
) -> Result<Waiting<R>, M> {
    let Target::Local(local) = handle.target() else { return Err(message) };
    let (sender, receiver) = oneshot::channel();
    *(stub.reply)(&mut message) = Reply::local(sender);
    let meta = Meta { deadline: Some(deadline), ..Meta::default() };
    match local.try_send(Envelope { message, meta }) {
        Ok(()) => Ok(Waiting::Local(receiver)),
        Err(Refused::Full(envelope) | Refused::Closed(envelope)) => Err(envelope.message),
    }
}

/// Hands a message over, if that is possible at once.
pub(crate) fn attempt<R, M>(handle: &Handle<M>, message: M, delivery: &Delivery<M, R>) -> Attempt<R, M>
where
    R: Send + 'static,
    M: Message,
{
    let routed = match handle.target() {
        Target::Local(local) => {
            return note(handle, delivery, to_local(local, message, delivery).into_attempt());
        }
        Target::Remote(remote) => return to_remote(remote, message, delivery).into_attempt(),
        Target::Routed(routed) => routed,
    };
    // An instance that cannot take the message gives it back: the next one is tried, since nothing ran.
    let mut message = message;
    let mut attempts_left = routed.candidates().clamp(1, MAX_ATTEMPTS);
    loop {
        let tried = match routed.pick() {
            Ok(Target::Local(local)) => to_local(&local, message, delivery),
            Ok(Target::Remote(remote)) => to_remote(&remote, message, delivery),
            Ok(Target::Routed(_)) => {
                Tried::Settled(Attempt::Failed(CallError::NoRoute("a name leads to a name".into())))
            }
            Err(error) => Tried::Settled(Attempt::Failed(error)),
        };
        attempts_left -= 1;
        match tried {
            Tried::NotThere(back, _) if attempts_left > 0 => message = back,
            tried => return note(handle, delivery, tried.into_attempt()),
        }
    }
}

/// Counts a message that an instance which has stopped did not take.
fn note<R, M: Message>(
    handle: &Handle<M>,
    delivery: &Delivery<M, R>,
    attempt: Attempt<R, M>,
) -> Attempt<R, M> {
    if let Attempt::Failed(CallError::Stopped(_)) = &attempt {
        let handler = format!("{}.{}", M::INTERFACE, delivery.stub.method.name());
        handle.host().dead_letter(handler, delivery.mode == Mode::Call, DeadLetterReason::Stopped);
    }
    attempt
}

/// How many instances of a name one call tries, each of which gave the message back at once.
const MAX_ATTEMPTS: usize = 8;

/// What came of handing a message over to one instance.
enum Tried<R, M> {
    Settled(Attempt<R, M>),
    /// The instance cannot take it, but another one of the same name may.
    NotThere(M, CallError),
}

impl<R, M> Tried<R, M> {
    fn into_attempt(self) -> Attempt<R, M> {
        match self {
            Self::Settled(attempt) => attempt,
            Self::NotThere(_, error) => Attempt::Failed(error),
        }
    }
}

fn to_local<R, M>(local: &Arc<Local<M>>, mut message: M, delivery: &Delivery<M, R>) -> Tried<R, M>
where
    R: Send + 'static,
    M: Message,
{
    let method = delivery.stub.method;
    let circle = delivery.chain.circle(local.address(), method.is_exclusive());
    let is_call = delivery.mode == Mode::Call;
    if is_call && circle == Circle::Deadlock {
        return Tried::NotThere(message, deadlock::<M>(&delivery.chain, local.address(), method));
    }
    let (meta, waiting) = if is_call {
        let (sender, receiver) = oneshot::channel();
        *(delivery.stub.reply)(&mut message) = Reply::local(sender);
        let meta =
            Meta { deadline: Some(delivery.deadline), chain: delivery.chain.clone(), caller: Caller::Here };
        (meta, Some(Waiting::Local(receiver)))
    } else {
        (Meta::default(), None)
    };
    let envelope = Envelope { message, meta };
    let sent = if is_call && circle == Circle::Reentrant {
        local.push_reentrant(envelope)
    } else {
        local.try_send(envelope)
    };
    match sent {
        Ok(()) => Tried::Settled(Attempt::Done(waiting)),
        Err(Refused::Closed(envelope)) => Tried::NotThere(envelope.message, local.core().stopped_error()),
        // A re-entrant call waits for a turn of the instance and not for room.
        Err(Refused::Full(_)) if is_call && circle == Circle::Reentrant => {
            let detail = format!("too many re-entrant calls to {} wait to begin", local.address());
            Tried::Settled(Attempt::Failed(CallError::Overloaded(detail.into())))
        }
        // A send by one of the instance's own handlers: it would wait for room that it may itself be keeping.
        Err(Refused::Full(_)) if circle != Circle::None => {
            Tried::Settled(Attempt::Failed(deadlock::<M>(&delivery.chain, local.address(), method)))
        }
        Err(Refused::Full(envelope)) => {
            Tried::Settled(Attempt::Full(WaitingRoom::local(Arc::clone(local), envelope, waiting)))
        }
    }
}

fn to_remote<R, M>(remote: &Arc<Remote<M>>, message: M, delivery: &Delivery<M, R>) -> Tried<R, M>
where
    R: Send + 'static,
    M: Message,
{
    let method = delivery.stub.method;
    let is_call = delivery.mode == Mode::Call;
    if is_call && delivery.chain.circle(&remote.address, method.is_exclusive()) == Circle::Deadlock {
        return Tried::NotThere(message, deadlock::<M>(&delivery.chain, &remote.address, method));
    }
    match delivery.hand_over(remote, &message) {
        Ok(waiting) => Tried::Settled(Attempt::Done(waiting)),
        Err(NotHandedOver::Error(error)) => match error {
            CallError::NoRoute(_) | CallError::Stale(_) => Tried::NotThere(message, error),
            error => Tried::Settled(Attempt::Failed(error)),
        },
        Err(NotHandedOver::Full(link)) => Tried::Settled(Attempt::Full(WaitingRoom::remote(
            Arc::clone(remote),
            message,
            delivery.clone(),
            link,
        ))),
    }
}

/// Why a connection did not take a message.
enum NotHandedOver {
    /// There is no room on this connection.
    Full(Arc<Link>),
    Error(CallError),
}

impl<M: Message, R: Send + 'static> Delivery<M, R> {
    /// Encodes the message into the connection to `remote`.
    fn hand_over(&self, remote: &Remote<M>, message: &M) -> Result<Option<Waiting<R>>, NotHandedOver> {
        let link = remote.link().map_err(NotHandedOver::Error)?;
        let (slot, receiver, remaining) = match self.mode {
            Mode::Send => (None, None, None),
            Mode::Call => {
                let (slot, receiver) = oneshot::channel();
                let remaining = remote.host.deadlines.now().until(self.deadline);
                (Some(slot), Some(receiver), Some(remaining))
            }
        };
        let head = Head {
            instance: remote.address.instance,
            method: remote.method_id(self.stub.method),
            remaining,
            chain: self.chain.to_wire(),
        };
        let encode = |out: &mut BytesMut| remote.encode(message, &mut Encoder::new(out));
        match (link.request(head, slot, &encode), receiver, self.stub.decode) {
            (Ok(id), Some(receiver), Some(decode)) => {
                Ok(Some(Waiting::Remote(RemoteWaiting { receiver, link, id, decode, answered: false })))
            }
            (Ok(_), ..) => Ok(None),
            (Err(port::Refused::Full), ..) => Err(NotHandedOver::Full(link)),
            (Err(port::Refused::Closed), ..) => {
                let detail = format!("the connection to node {} has ended", remote.address.node);
                Err(NotHandedOver::Error(CallError::NoRoute(detail.into())))
            }
            (Err(port::Refused::Unsendable(error)), ..) => Err(NotHandedOver::Error(error)),
        }
    }
}

/// Where a call waits for its reply.
pub(crate) enum Waiting<R> {
    Local(oneshot::Receiver<Result<R, CallError>>),
    Remote(RemoteWaiting<R>),
}

/// A request on a connection. Dropped before its answer it is cancelled.
pub(crate) struct RemoteWaiting<R> {
    receiver: oneshot::Receiver<Result<Bytes, CallError>>,
    link: Arc<Link>,
    id: RequestId,
    decode: Decode<R>,
    answered: bool,
}

impl<R> Waiting<R> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<R, CallError>> {
        let lost = || CallError::NoReply("the reply's place was dropped".into());
        match self {
            Self::Local(receiver) => {
                Poll::Ready(ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| Err(lost())))
            }
            Self::Remote(waiting) => {
                let answer = ready!(Pin::new(&mut waiting.receiver).poll(cx));
                waiting.answered = true;
                let payload = answer.unwrap_or_else(|_| Err(lost()));
                Poll::Ready(payload.and_then(|payload| (waiting.decode)(&payload)))
            }
        }
    }
}

impl<R> Drop for RemoteWaiting<R> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.cancel(self.id);
        }
    }
}

/// Hands the message over when there is room.
type Entry<R> = dyn Future<Output = Result<Option<Waiting<R>>, CallError>> + Send;

/// A message that waits for room. The one place where a call is boxed.
pub(crate) struct WaitingRoom<R, M> {
    entry: Pin<Box<Entry<R>>>,
    /// What is full.
    full: Full<M>,
}

enum Full<M> {
    Mailbox(Arc<Local<M>>),
    Connection(Arc<Link>),
}

impl<R: Send + 'static, M: Message> WaitingRoom<R, M> {
    fn local(local: Arc<Local<M>>, envelope: Envelope<M>, waiting: Option<Waiting<R>>) -> Self {
        let full = Full::Mailbox(Arc::clone(&local));
        let entry = Box::pin(async move {
            local.send(envelope).await?;
            Ok(waiting)
        });
        Self { entry, full }
    }

    fn remote(remote: Arc<Remote<M>>, message: M, delivery: Delivery<M, R>, link: Arc<Link>) -> Self {
        let full = Full::Connection(Arc::clone(&link));
        let entry = Box::pin(async move {
            let mut link = link;
            loop {
                link.room().await;
                match delivery.hand_over(&remote, &message) {
                    Ok(waiting) => return Ok(waiting),
                    Err(NotHandedOver::Full(still_full)) => link = still_full,
                    Err(NotHandedOver::Error(error)) => return Err(error),
                }
            }
        });
        Self { entry, full }
    }

    /// Ready when the message was handed over, or cannot be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Waiting<R>>, CallError>> {
        self.entry.as_mut().poll(cx)
    }

    /// The error for who cannot, or can no longer, wait.
    pub(crate) fn overloaded(&self) -> CallError {
        let detail = match &self.full {
            Full::Mailbox(local) => {
                format!("the mailbox of {} is full ({} messages)", local.address(), local.capacity())
            }
            Full::Connection(link) => format!("the connection to node {} is full", link.peer().node),
        };
        CallError::Overloaded(detail.into())
    }
}

fn deadlock<M: Message>(chain: &Chain, callee: &Address, method: &Method) -> CallError {
    CallError::Deadlock(chain.describe(ChainLink {
        address: callee.clone(),
        handler: format!("{}.{}", M::INTERFACE, method.name()).into(),
        exclusive: method.is_exclusive(),
    }))
}
