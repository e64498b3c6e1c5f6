//! The call: a message that has not been sent yet, and the future that waits for its reply.
//!
//! A call to a local instance costs one allocation (the reply's slot) and no timer. Only a full mailbox, or a full
//! connection, costs a boxed future.
//!
//! Invariant: whatever happens, the future ends by its deadline; dropping it takes the request back.

mod pending;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::CallError;
use crate::service::context;
use crate::service::handle::Handle;
use crate::service::message::Message;
use crate::service::outbound::{self, Attempt, Delivery, Mode};
use crate::service::reroute::Refusals;
use crate::service::spans::CallSpan;
use crate::service::stub::Stub;

use pending::Pending;

/// A call that has not been made yet. It does nothing until it is awaited or sent.
///
/// * `call.await` is a **call**: it waits for the reply.
/// * `call.send().await` is a **send**: it waits only for room, in the mailbox of a local instance or on the connection
///   to a remote one.
/// * `call.try_send()` never waits.
///
/// Through a handle to a name, a call that an instance certainly did not run, because it has stopped or is overloaded,
/// is made again on another instance: within its deadline, on at most eight instances, and as often as a fifth of the
/// handle's calls of the last 10 s and 100 besides. What may have run is never made again.
///
/// `R` is the method's return type, `M` the service's message enum.
#[must_use = "a call does nothing until it is awaited or sent"]
pub struct Call<R: 'static, M: 'static> {
    handle: Handle<M>,
    message: M,
    stub: &'static Stub<M, R>,
    timeout: Option<Duration>,
}

impl<R: Send + 'static, M: Message> Call<R, M> {
    pub(crate) fn new(handle: Handle<M>, message: M, stub: &'static Stub<M, R>) -> Self {
        Self { handle, message, stub, timeout: None }
    }

    /// `service.method`, for errors.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", M::INTERFACE, self.stub.method.name())
    }

    /// Sets how long this call may take. Default: the node's `call_timeout`, 30 s. Inside a handler the handler's own
    /// deadline counts too: the earlier one ends the call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the message without waiting for a reply. The future waits only for room, at most the timeout; its success
    /// says that the message was handed over, not that it ran.
    pub fn send(self) -> SendFuture<R, M> {
        SendFuture { inner: Pending::new(self, Mode::Send) }
    }

    /// Sends the message if that is possible at once.
    ///
    /// # Errors
    /// [`CallError::Overloaded`] if the mailbox or the connection is full; else as [`Call::send`]. It did not run.
    pub fn try_send(self) -> Result<(), CallError> {
        let span = CallSpan::begin(self.handle.host(), M::INTERFACE, self.stub.method, Mode::Send);
        let result = self.try_send_in(span.as_deref());
        if let Some(span) = span {
            span.end(result.as_ref().err());
        }
        result
    }

    fn try_send_in(self, span: Option<&CallSpan>) -> Result<(), CallError> {
        let Self { handle, message, stub, timeout } = self;
        let message = match span {
            None => match outbound::send_at_once(&handle, message) {
                Ok(()) => return Ok(()),
                Err(message) => message,
            },
            Some(_) => message,
        };
        let inherited = context::inherited();
        let now = handle.host().deadlines.now();
        let deadline = inherited.deadline(now, timeout, handle.host());
        let chain = match span {
            None => inherited.chain,
            Some(span) => span.lead(&inherited.chain, now),
        };
        let delivery = Delivery { stub, mode: Mode::Send, deadline, chain, is_impatient: true };
        let (refusals, flight) = (&mut Refusals::default(), &mut None);
        match outbound::attempt(&handle, message, &delivery, refusals, flight, now) {
            Attempt::Done(_) => Ok(()),
            Attempt::Full(waiting_room) => Err(waiting_room.overloaded()),
            Attempt::Failed(error) => Err(error),
        }
    }
}

impl<R: Send + 'static, M: Message> IntoFuture for Call<R, M> {
    type Output = Result<R, CallError>;
    type IntoFuture = CallFuture<R, M>;

    fn into_future(self) -> CallFuture<R, M> {
        CallFuture { inner: Pending::new(self, Mode::Call) }
    }
}

impl<R: 'static, M: 'static> fmt::Debug for Call<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("to", &self.handle).field("stub", &self.stub).finish_non_exhaustive()
    }
}

/// Waits for the reply of a call. Made by awaiting a [`Call`].
///
/// # Errors
/// A [`CallError`], by the deadline at the latest.
///
/// # Cancel safety
/// Dropping it cancels the call: a request that has not begun never begins, and the `Context` of a handler that runs is
/// cancelled.
#[must_use = "futures do nothing unless polled"]
pub struct CallFuture<R: Send + 'static, M: Message> {
    inner: Pending<R, M>,
}

/// Waits for room for a message. Made by [`Call::send`].
///
/// # Errors
/// A [`CallError`] for which `may_have_run` is false, by the timeout at the latest.
///
/// # Cancel safety
/// Dropping it takes the message back, unless it was handed over already.
#[must_use = "futures do nothing unless polled"]
pub struct SendFuture<R: Send + 'static, M: Message> {
    inner: Pending<R, M>,
}

impl<R: Send + 'static, M: Message> Future for CallFuture<R, M> {
    type Output = Result<R, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(cx).map(|result| match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(CallError::NoReply("the message was sent without a reply".into())),
            Err(error) => Err(error),
        })
    }
}

impl<R: Send + 'static, M: Message> Future for SendFuture<R, M> {
    type Output = Result<(), CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.inner.poll(cx).map_ok(|_| ())
    }
}

impl<R: Send + 'static, M: Message> fmt::Debug for CallFuture<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

impl<R: Send + 'static, M: Message> fmt::Debug for SendFuture<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}
