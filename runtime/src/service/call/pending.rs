//! A call on its way, from its first poll to its result.
//!
//! Invariant: nothing in it is pinned in place, and whatever happens it has a result by its deadline.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::config::Monitoring;
use crate::error::{CallError, Detail};
use crate::event::Phase;
use crate::id::Address;
use crate::policy::balance::load::Flight;
use crate::service::chain::Chain;
use crate::service::context::{self, Inherited};
use crate::service::deadlines::{Parked, Tick};
use crate::service::handle::{Handle, Target};
use crate::service::message::Message;
use crate::service::monitor::WaitGuard;
use crate::service::outbound::{self, Attempt, Delivery, Mode, Sent, Waiting};
use crate::service::reroute::{self, Back, Refusals};
use crate::service::room::{Entered, WaitingRoom};
use crate::service::spans::{self, CallSpan};
use crate::service::stub::Stub;

use super::Call;

/// A message on its way, and its sender's place among those who wait for their deadline.
pub(super) struct Pending<R: Send + 'static, M: Message> {
    handle: Handle<M>,
    stub: &'static Stub<M, R>,
    mode: Mode,
    /// Until it is handed over. A call through a name that goes over the network keeps it until its reply comes: it may
    /// have to go to another instance.
    message: Option<M>,
    /// The instances that did not run it.
    refusals: Refusals,
    /// What learns from the end of a call through a name, if there was a choice.
    flight: Option<Flight>,
    timeout: Option<Duration>,
    state: State<R, M>,
    /// Set by the first poll.
    deadline: Option<Tick>,
    parked: Option<Parked>,
    /// Whether a handler makes the call, and shows that it waits once it does.
    is_nested: bool,
    waits: Option<WaitGuard>,
    /// While spans are wanted.
    span: Option<Box<CallSpan>>,
}

/// `Ok(None)` for a send.
pub(super) type Outcome<R> = Result<Option<R>, CallError>;

enum State<R: 'static, M: 'static> {
    /// Not polled yet.
    New,
    /// Waits for room.
    Room(WaitingRoom<R, M>),
    /// Waits for the reply.
    Reply(Waiting<R>),
    /// Has given its result.
    Done,
}

/// Nothing in it is ever pinned in place: what must be is boxed.
impl<R: Send + 'static, M: Message> Unpin for Pending<R, M> {}

impl<R: Send + 'static, M: Message> Pending<R, M> {
    pub(super) fn new(call: Call<R, M>, mode: Mode) -> Self {
        let Call { handle, message, stub, timeout } = call;
        let (message, state) = (Some(message), State::New);
        let refusals = Refusals::default();
        let (flight, deadline, parked, waits) = (None, None, None, None);
        let (is_nested, span) = (false, None);
        Self {
            handle,
            stub,
            mode,
            message,
            refusals,
            flight,
            timeout,
            state,
            deadline,
            parked,
            is_nested,
            waits,
            span,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<R>> {
        let polled = self.advance(cx);
        if let Poll::Ready(result) = &polled
            && let Some(span) = self.span.take()
        {
            span.end(result.as_ref().err());
        }
        polled
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<R>> {
        if matches!(self.state, State::New)
            && let Some(message) = self.message.take()
            && let Some(result) = self.begin(message)
        {
            return Poll::Ready(result);
        }
        loop {
            // What did not run may be on its way again.
            let result = match &mut self.state {
                State::Reply(waiting) => match waiting.poll(cx) {
                    Poll::Ready(Ok(value)) => return self.finish(Ok(Some(value))),
                    Poll::Ready(Err(error)) => {
                        let from = waiting.remote_address();
                        self.unrun(error, from)
                    }
                    Poll::Pending => break,
                },
                State::Room(room) => match room.poll(cx) {
                    Poll::Ready(Entered::Done(sent)) => self.sent(sent),
                    Poll::Ready(Entered::Back(back)) => self.elsewhere(back),
                    Poll::Ready(Entered::Failed(error)) => Some(Err(error)),
                    Poll::Pending => break,
                },
                State::New | State::Done => panic!("a call was polled after it had ended"),
            };
            if let Some(result) = result {
                return self.finish(result);
            }
        }
        self.wait_until_deadline(cx)
    }

    /// Hands the message over, if that is possible at once.
    fn begin(&mut self, message: M) -> Option<Outcome<R>> {
        if spans::are_wanted(self.handle.host()) {
            return self.begin_in_span(message);
        }
        let mut message = match self.mode {
            // Most sends are done here, without a look at the clock.
            Mode::Send => match outbound::send_at_once(&self.handle, message) {
                Ok(()) => return Some(Ok(None)),
                Err(message) => message,
            },
            Mode::Call => message,
        };
        let inherited = context::inherited();
        let (now, deadline) = match self.limit(&inherited) {
            Ok(times) => times,
            Err(error) => return Some(Err(error)),
        };
        if self.mode == Mode::Call && inherited.chain.is_empty() {
            // Most calls are done here: to an instance of this node, from outside any handler.
            match outbound::call_at_once(&self.handle, message, self.stub, deadline) {
                Ok(waiting) => {
                    self.state = State::Reply(waiting);
                    return None;
                }
                Err(back) => message = back,
            }
        }
        self.attempt_first(message, deadline, inherited.chain, now)
    }

    /// As `begin`, where spans are wanted: the general way alone.
    #[cold]
    #[inline(never)]
    fn begin_in_span(&mut self, message: M) -> Option<Outcome<R>> {
        self.span = CallSpan::begin(self.handle.host(), M::INTERFACE, self.stub.method, self.mode);
        let inherited = context::inherited();
        let (now, deadline) = match self.limit(&inherited) {
            Ok(times) => times,
            Err(error) => return Some(Err(error)),
        };
        self.attempt_first(message, deadline, inherited.chain, now)
    }

    /// Sets the deadline, which is the earlier one of its own and of the handler that makes the call. Gives the present and it.
    #[inline]
    fn limit(&mut self, inherited: &Inherited) -> Result<(Tick, Tick), CallError> {
        let deadlines = &self.handle.host().deadlines;
        let now = deadlines.now();
        deadlines.saw(now);
        let deadline = inherited.deadline(now, self.timeout, self.handle.host());
        if deadline <= now {
            self.handle.host().count_expired(Phase::Send);
            return Err(self.expired());
        }
        self.deadline = Some(deadline);
        self.is_nested = !inherited.chain.is_empty();
        Ok((now, deadline))
    }

    /// As `attempt`, for the first time.
    #[inline]
    fn attempt_first(&mut self, message: M, deadline: Tick, chain: Chain, now: Tick) -> Option<Outcome<R>> {
        if self.mode == Mode::Call
            && let Target::Routed(routed) = self.handle.target()
        {
            routed.budget().deposit(now.since_start());
        }
        self.attempt(message, deadline, chain, now)
    }

    /// Hands the message over to an instance that has not refused it; gives the result if there is one already.
    #[inline(never)] // most calls have no need of it
    fn attempt(&mut self, message: M, deadline: Tick, chain: Chain, now: Tick) -> Option<Outcome<R>> {
        let chain = match &self.span {
            None => chain,
            Some(span) => span.lead(&chain, now),
        };
        let delivery = Delivery { stub: self.stub, mode: self.mode, deadline, chain, is_impatient: false };
        let (refusals, flight) = (&mut self.refusals, &mut self.flight);
        match outbound::attempt(&self.handle, message, &delivery, refusals, flight, now) {
            Attempt::Done(sent) => return self.sent(sent),
            Attempt::Full(room) => self.state = State::Room(room),
            Attempt::Failed(error) => return Some(Err(error)),
        }
        None
    }

    /// The message was handed over: the end of a send.
    fn sent(&mut self, sent: Sent<R, M>) -> Option<Outcome<R>> {
        let Some(waiting) = sent.waiting else {
            self.flight = None; // nobody hears how a send ends
            return Some(Ok(None));
        };
        self.state = State::Reply(waiting);
        self.message = sent.message.filter(|_| matches!(self.handle.target(), Target::Routed(_)));
        if self.waits.is_some() {
            self.show_wait(); // now it is known at which instance
        }
        None
    }

    /// The reply is an error. If it says that the call did not run, and the message is still here, the call is made again
    /// on another instance of the name.
    #[cold]
    fn unrun(&mut self, error: CallError, from: Option<Address>) -> Option<Outcome<R>> {
        let (Some(message), Some(from), Target::Routed(routed)) =
            (self.message.take(), from, self.handle.target())
        else {
            return Some(Err(error));
        };
        if !reroute::may_fare_better(&error) {
            return Some(Err(error));
        }
        let now = self.handle.host().deadlines.now();
        if let Some(flight) = self.flight.take() {
            flight.failed(&error, now.nanos());
        }
        let message = self.refusals.note(Back { message, from, error });
        let ask = routed.ask(self.stub.method, now);
        if !self.refusals.leave_any(&**routed, ask) || !routed.budget().withdraw(now.since_start()) {
            return Some(Err(self.refusals.latest()));
        }
        self.again(message, now)
    }

    /// A message that waited for room came back: it goes to another instance, if it leads to a name.
    #[cold]
    fn elsewhere(&mut self, back: Back<M>) -> Option<Outcome<R>> {
        if !matches!(self.handle.target(), Target::Routed(_)) {
            return Some(Err(back.error));
        }
        let now = self.handle.host().deadlines.now();
        if let Some(flight) = self.flight.take() {
            flight.failed(&back.error, now.nanos());
        }
        let message = self.refusals.note(back);
        self.again(message, now)
    }

    fn again(&mut self, message: M, now: Tick) -> Option<Outcome<R>> {
        match self.deadline {
            Some(deadline) if now < deadline => {
                // Whoever polls is who waits.
                self.attempt(message, deadline, context::inherited().chain, now)
            }
            _ => {
                self.handle.host().count_expired(Phase::Send);
                Some(Err(self.refusals.latest()))
            }
        }
    }

    /// Parks until the deadline, or ends if it has passed.
    fn wait_until_deadline(&mut self, cx: &Context<'_>) -> Poll<Outcome<R>> {
        let deadlines = &self.handle.host().deadlines;
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let Some(parked) = &self.parked else {
            self.parked = Some(deadlines.park(deadline, cx.waker()));
            if self.is_nested {
                self.show_wait();
            }
            return Poll::Pending;
        };
        let node_ended = deadlines.is_closed();
        if deadlines.now() < deadline && !node_ended {
            deadlines.repark(parked, cx.waker());
            return Poll::Pending;
        }
        let error = match std::mem::replace(&mut self.state, State::Done) {
            State::Room(_) if node_ended => CallError::Stopped(self.node_ended()),
            State::Room(room) => {
                self.handle.host().count_expired(Phase::Send);
                room.overloaded()
            }
            _ if node_ended => CallError::NoReply(self.node_ended()),
            _ => self.timed_out(),
        };
        self.finish(Err(error))
    }

    /// Shows the handler that makes the call as one that waits, since the call began: that is the time that was noted last.
    #[inline(never)]
    fn show_wait(&mut self) {
        let host = self.handle.host();
        if host.monitor.mode == Monitoring::Off {
            return;
        }
        let (method, since) = (self.stub.method, host.deadlines.seen());
        // Never two for one call: the old one goes first.
        self.waits = None;
        self.waits = match (&self.state, self.handle.target()) {
            (State::Reply(waiting), target) => match waiting.local_instance() {
                Some(instance) => WaitGuard::here(instance, method, since),
                None => WaitGuard::elsewhere(target, waiting.remote_address(), method, since),
            },
            (_, Target::Local(local)) => WaitGuard::here(local.address().instance, method, since),
            (_, target) => WaitGuard::elsewhere(target, None, method, since),
        };
    }

    fn finish(&mut self, result: Outcome<R>) -> Poll<Outcome<R>> {
        self.state = State::Done;
        self.unpark();
        self.waits = None;
        if let Some(flight) = self.flight.take() {
            let deadlines = &self.handle.host().deadlines;
            match &result {
                Ok(_) => flight.answered(|| deadlines.now().nanos()),
                Err(error) => flight.failed(error, deadlines.now().nanos()),
            }
        }
        Poll::Ready(result)
    }

    fn unpark(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.handle.host().deadlines.unpark(parked);
        }
    }

    fn expired(&self) -> CallError {
        CallError::Expired(format!("the deadline had passed before `{}` was called", self.name()).into())
    }

    fn timed_out(&self) -> CallError {
        CallError::Timeout(format!("`{}` of {:?} did not answer in time", self.name(), self.handle).into())
    }

    fn node_ended(&self) -> Detail {
        format!("node {} ended while `{}` was waited for", self.handle.host().node, self.name()).into()
    }

    fn name(&self) -> String {
        format!("{}.{}", M::INTERFACE, self.stub.method.name())
    }
}

impl<R: Send + 'static, M: Message> Drop for Pending<R, M> {
    fn drop(&mut self) {
        self.unpark();
        if let Some(flight) = self.flight.take() {
            let deadlines = &self.handle.host().deadlines;
            flight.given_up(|| deadlines.now().nanos());
        }
    }
}
