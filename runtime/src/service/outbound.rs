//! Hands a message over to where its handle leads: into a mailbox, onto a connection, or to whom a name picks.
//!
//! Invariant: `attempt` never waits. What it could not hand over it gives back as a waiting room.

mod waiting;

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{CallError, ChainLink};
use crate::event::{DeadLetterReason, Phase};
use crate::id::Address;
use crate::policy::balance::load::Flight;
use crate::port::{self, Head, Place};
use crate::proto::codec::Encoder;
use crate::service::chain::{Chain, Circle};
use crate::service::context::Caller;
use crate::service::deadlines::Tick;
use crate::service::handle::{Handle, Remote, Routed, Target, Unreachable};
use crate::service::host::Host;
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Envelope, Message, Meta, Method};
use crate::service::reply::Reply;
use crate::service::reroute::{self, Back, Refusals};
use crate::service::room::{Blocked, WaitingRoom};
use crate::service::spans::Trace;
use crate::service::stub::Stub;

use waiting::RemoteWaiting;

pub(crate) use waiting::Waiting;

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
    /// Whether it goes to another instance, or comes back, rather than that it waits for room at one on another node.
    pub(crate) is_impatient: bool,
}

impl<M, R> Clone for Delivery<M, R> {
    fn clone(&self) -> Self {
        let (chain, is_impatient) = (self.chain.clone(), self.is_impatient);
        Self { stub: self.stub, mode: self.mode, deadline: self.deadline, chain, is_impatient }
    }
}

/// What came of handing a message over.
pub(crate) enum Attempt<R, M> {
    /// It was.
    Done(Sent<R, M>),
    /// There is no room.
    Full(WaitingRoom<R, M>),
    /// It cannot be. It did not run.
    Failed(CallError),
}

/// A message that was handed over.
pub(crate) struct Sent<R, M> {
    /// Where a call waits now.
    pub(crate) waiting: Option<Waiting<R>>,
    /// What went over the network was only read. It is here for who may have to hand it over again.
    pub(crate) message: Option<M>,
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
    if local.sheds() {
        return Err(message); // it takes a look at the mailbox
    }
    let (sender, receiver) = oneshot::channel();
    *(stub.reply)(&mut message) = Reply::local(sender);
    let meta = Meta { deadline: Some(deadline), ..Meta::default() };
    match local.try_send(Envelope { message, meta }) {
        Ok(()) => Ok(Waiting::Local(receiver, local.address().instance)),
        Err(Refused::Full(envelope) | Refused::Closed(envelope)) => Err(envelope.message),
    }
}

/// Hands a message over, if that is possible at once, to nobody who has refused it already. What is to learn from the call's
/// end, if anything, is left in `flight`.
pub(crate) fn attempt<R, M>(
    handle: &Handle<M>,
    message: M,
    delivery: &Delivery<M, R>,
    refusals: &mut Refusals,
    flight: &mut Option<Flight>,
    now: Tick,
) -> Attempt<R, M>
where
    R: Send + 'static,
    M: Message,
{
    let is_first = refusals.is_empty();
    let attempt = match handle.target() {
        Target::Local(local) => to_local(local, message, delivery).into_attempt(),
        Target::Remote(remote) => to_remote(remote, message, delivery).into_attempt(),
        Target::Routed(routed) => route(&**routed, message, delivery.clone(), refusals, flight, now),
    };
    // Whoever refused it before has counted it.
    if is_first && let Attempt::Failed(CallError::Stopped(_)) = &attempt {
        let handler = format!("{}.{}", M::INTERFACE, delivery.stub.method.name());
        handle.host().dead_letter(handler, delivery.mode == Mode::Call, DeadLetterReason::Stopped);
    }
    attempt
}

/// Hands a message to the first instance of a name that does not give it back at once.
fn route<R, M>(
    routed: &dyn Routed<M>,
    mut message: M,
    mut delivery: Delivery<M, R>,
    refusals: &mut Refusals,
    flight: &mut Option<Flight>,
    now: Tick,
) -> Attempt<R, M>
where
    R: Send + 'static,
    M: Message,
{
    let never_waits = delivery.is_impatient;
    let ask = routed.ask(delivery.stub.method, now);
    if refusals.is_empty()
        && let Some(target) = routed.mirror(ask)
    {
        mirror(routed, &target, &message, &delivery);
    }
    loop {
        let picked = match refusals.pick(routed, ask) {
            Ok(picked) => picked,
            Err(error) => return Attempt::Failed(error),
        };
        let tried = match picked.target {
            Target::Local(local) => to_local(&local, message, &delivery),
            Target::Remote(remote) => {
                // The last one that there is to try is waited for.
                delivery.is_impatient = never_waits || refusals.leave_others(routed, ask, &remote.address);
                to_remote(&remote, message, &delivery)
            }
            Target::Routed(_) => {
                return Attempt::Failed(CallError::NoRoute("a name leads to a name".into()));
            }
        };
        let error = match &tried {
            Tried::Back(Back { error, .. }) | Tried::Settled(Attempt::Failed(error)) => Some(error),
            Tried::Settled(_) => None,
        };
        match (picked.flight, error) {
            (Some(failed), Some(error)) => failed.failed(error, now.nanos()),
            (picked, _) => *flight = picked,
        }
        match tried {
            Tried::Back(back) => message = refusals.note(back),
            Tried::Settled(attempt) => return attempt,
        }
    }
}

/// Sends a copy of a message to another instance, if that is possible at once. Nobody hears of it if it is not.
#[cold]
fn mirror<R, M>(routed: &dyn Routed<M>, target: &Target<M>, message: &M, delivery: &Delivery<M, R>)
where
    R: Send + 'static,
    M: Message,
{
    match target {
        Target::Local(local) => {
            if let Some(message) = routed.copy(message) {
                drop(local.try_send(Envelope { message, meta: Meta::of_send(&delivery.chain) }));
            }
        }
        Target::Remote(remote) => {
            let delivery = Delivery { mode: Mode::Send, is_impatient: true, ..delivery.clone() };
            drop(delivery.hand_over(remote, message, None));
        }
        Target::Routed(_) => {}
    }
}

/// What came of handing a message over to one instance.
enum Tried<R, M> {
    Settled(Attempt<R, M>),
    Back(Back<M>),
}

impl<R, M> Tried<R, M> {
    fn into_attempt(self) -> Attempt<R, M> {
        match self {
            Self::Settled(attempt) => attempt,
            Self::Back(back) => Attempt::Failed(back.error),
        }
    }

    fn back(message: M, from: &Address, error: CallError) -> Self {
        Self::Back(Back { message, from: from.clone(), error })
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
        let error = deadlock::<M>(&delivery.chain, local.address(), method);
        return Tried::back(message, local.address(), error);
    }
    if is_call
        && circle == Circle::None
        && let Some(error) = local.hopeless(method, delivery.deadline)
    {
        return Tried::back(message, local.address(), error);
    }
    let (meta, waiting) = if is_call {
        let (sender, receiver) = oneshot::channel();
        *(delivery.stub.reply)(&mut message) = Reply::local(sender);
        let meta =
            Meta { deadline: Some(delivery.deadline), chain: delivery.chain.clone(), caller: Caller::Here };
        (meta, Some(Waiting::Local(receiver, local.address().instance)))
    } else {
        (Meta::of_send(&delivery.chain), None)
    };
    let envelope = Envelope { message, meta };
    let sent = if is_call && circle == Circle::Reentrant {
        local.push_reentrant(envelope)
    } else {
        local.try_send(envelope)
    };
    match sent {
        Ok(()) => Tried::Settled(Attempt::Done(Sent { waiting, message: None })),
        Err(Refused::Closed(envelope)) => {
            Tried::back(envelope.message, local.address(), local.core().stopped_error())
        }
        // A re-entrant call waits for a turn of the instance and not for room.
        Err(Refused::Full(_)) if is_call && circle == Circle::Reentrant => {
            let detail = format!("too many re-entrant calls to {} wait to begin", local.address());
            Tried::Settled(Attempt::Failed(CallError::Overloaded(detail.into())))
        }
        Err(Refused::Full(envelope)) if !local.waits_for_room() => {
            Tried::back(envelope.message, local.address(), local.full(method))
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
        let error = deadlock::<M>(&delivery.chain, &remote.address, method);
        return Tried::back(message, &remote.address, error);
    }
    match delivery.hand_over(remote, &message, None) {
        Ok(waiting) => Tried::Settled(Attempt::Done(Sent { waiting, message: Some(message) })),
        Err(NotHandedOver::Error(error)) if reroute::may_fare_better(&error) => {
            Tried::back(message, &remote.address, error)
        }
        Err(NotHandedOver::Error(error)) => Tried::Settled(Attempt::Failed(error)),
        Err(NotHandedOver::Blocked(blocked)) if delivery.is_impatient => {
            Tried::back(message, &remote.address, blocked.error(&remote.address))
        }
        Err(NotHandedOver::Blocked(blocked)) => {
            let (remote, delivery) = (Arc::clone(remote), delivery.clone());
            Tried::Settled(Attempt::Full(WaitingRoom::remote(remote, message, delivery, blocked)))
        }
    }
}

/// Why a connection did not take a message.
pub(crate) enum NotHandedOver {
    /// It may be taken later.
    Blocked(Blocked),
    Error(CallError),
}

impl<M: Message, R: Send + 'static> Delivery<M, R> {
    /// Encodes the message into the connection to `remote`. Who has waited says so by its `place`.
    pub(crate) fn hand_over(
        &self,
        remote: &Remote<M>,
        message: &M,
        place: Option<&Place>,
    ) -> Result<Option<Waiting<R>>, NotHandedOver> {
        let link = remote.link().map_err(|unreachable| match unreachable {
            Unreachable::Away => NotHandedOver::Blocked(Blocked::Away),
            Unreachable::Error(error) => NotHandedOver::Error(error),
        })?;
        let place = place.filter(|place| Arc::ptr_eq(place.link(), &link));
        let (slot, receiver, remaining) = match self.mode {
            Mode::Send => (None, None, None),
            Mode::Call => {
                let (slot, receiver) = oneshot::channel();
                let remaining = remote.host.deadlines.now().until(self.deadline);
                if remaining.is_zero() {
                    return Err(NotHandedOver::Error(self.too_late(&remote.host)));
                }
                (Some(slot), Some(receiver), Some(remaining))
            }
        };
        let method = self.stub.method;
        let is_ahead = self.mode == Mode::Call
            && self.chain.circle(&remote.address, method.is_exclusive()) == Circle::Reentrant;
        let head = Head {
            instance: remote.address.instance,
            method: remote.method_id(method),
            remaining,
            // Nobody waits for a send.
            chain: if self.mode == Mode::Call { self.chain.to_wire() } else { Vec::new() },
            is_ahead,
            is_impatient: self.is_impatient && self.mode == Mode::Call,
            trace: self.chain.trace().and_then(|trace| match trace {
                Trace::Message(origin, _) => origin.parent(),
                Trace::Handler(_) => None,
            }),
            order: remote.order(),
            is_likely_long: remote.is_likely_long(),
        };
        let encode = |out: &mut Encoder<'_>| remote.encode(message, out);
        let handed = match link.request(head, slot, &encode, place) {
            Ok(handed) => handed,
            Err(port::Refused::Full) => return Err(NotHandedOver::Blocked(Blocked::Full(link))),
            Err(port::Refused::NoCredit) => return Err(NotHandedOver::Blocked(Blocked::NoCredit(link))),
            Err(port::Refused::Gone) => {
                let detail = format!("the instance {} has stopped", remote.address);
                return Err(NotHandedOver::Error(CallError::Stopped(detail.into())));
            }
            // It has ended just now.
            Err(port::Refused::Closed) => return Err(NotHandedOver::Blocked(Blocked::Away)),
            Err(port::Refused::Unsendable(error)) => return Err(NotHandedOver::Error(error)),
        };
        remote.was_long(handed.is_long);
        let (Some(receiver), Some(decode)) = (receiver, self.stub.decode) else { return Ok(None) };
        let (host, id, instance) = (Arc::clone(&remote.host), handed.id, remote.address.instance);
        Ok(Some(Waiting::Remote(RemoteWaiting {
            receiver,
            link,
            host,
            id,
            instance,
            decode,
            answered: false,
        })))
    }
}

impl<M: Message, R> Delivery<M, R> {
    /// The deadline passed before the message was handed over.
    #[cold]
    fn too_late(&self, host: &Host) -> CallError {
        host.count_expired(Phase::Send);
        let handler = format!("{}.{}", M::INTERFACE, self.stub.method.name());
        CallError::Expired(format!("the deadline passed before `{handler}` was handed over").into())
    }
}

/// The call could never begin.
#[cold]
pub(crate) fn deadlock<M: Message>(chain: &Chain, callee: &Address, method: &Method) -> CallError {
    CallError::Deadlock(chain.describe(ChainLink {
        address: callee.clone(),
        handler: format!("{}.{}", M::INTERFACE, method.name()).into(),
        exclusive: method.is_exclusive(),
    }))
}
