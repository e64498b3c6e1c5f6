//! Calls by the name of a method, with arguments and a reply as JSON.
//!
//! Invariant: it is the message that a typed call would be, in the same mailbox, with the same bounds, deadline and errors.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::nearest;
use crate::error::CallError;
use crate::service::chain::Circle;
use crate::service::context;
use crate::service::dispatch::panic_message;
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Envelope, Meta, Method, WireMessage};
use crate::service::outbound::{Mode, deadlock};
use crate::service::spans::CallSpan;
use crate::service::spoken::{Arguments, TextAnswer, TextPath};
use crate::time;

/// A call that is made by the name of its method.
#[derive(Debug)]
pub(crate) struct ByName {
    pub(crate) method: String,
    /// An object by name or an array in order.
    pub(crate) arguments: String,
    /// How long it may take, if not as long as the node says.
    pub(crate) timeout: Option<Duration>,
    /// Whether nobody waits for the reply.
    pub(crate) is_send: bool,
}

/// Makes it. The reply to a send is empty.
///
/// Cancel safe: dropped, it takes the request back.
pub(crate) async fn call<M: WireMessage>(local: Arc<Local<M>>, call: ByName) -> TextAnswer {
    let method = find(M::INTERFACE, M::METHODS, &call.method)?;
    let mode = if call.is_send { Mode::Send } else { Mode::Call };
    let span = CallSpan::begin(local.host(), M::INTERFACE, method, mode);
    let answer = call_in(span.as_deref(), &local, method, call).await;
    if let Some(span) = span {
        span.end(answer.as_ref().err());
    }
    answer
}

async fn call_in<M: WireMessage>(
    span: Option<&CallSpan>,
    local: &Local<M>,
    method: &'static Method,
    call: ByName,
) -> TextAnswer {
    let handler = format!("{}.{}", M::INTERFACE, method.name());
    let (sender, receiver) = oneshot::channel();
    let message: M = build(method, &handler, &call.arguments, TextPath((!call.is_send).then_some(sender)))?;

    let deadlines = &local.host().deadlines;
    let inherited = context::inherited();
    let now = deadlines.now();
    let deadline = inherited.deadline(now, call.timeout, local.host());
    let chain = inherited.chain;
    let circle = chain.circle(local.address(), method.is_exclusive());
    if !call.is_send && circle == Circle::Deadlock {
        return Err(deadlock::<M>(&chain, local.address(), method));
    }
    if let Some(error) = local.hopeless(method, deadline) {
        return Err(error);
    }
    let caller = context::current_caller();
    let chain = match span {
        None => chain,
        Some(span) => span.lead(&chain, now),
    };
    let meta =
        if call.is_send { Meta::of_send(&chain) } else { Meta { deadline: Some(deadline), chain, caller } };
    let envelope = Envelope { message, meta };
    let is_reentrant = !call.is_send && circle == Circle::Reentrant;
    let sent = if is_reentrant { local.push_reentrant(envelope) } else { local.try_send(envelope) };
    match sent {
        Ok(()) => {}
        Err(Refused::Closed(_)) => return Err(local.core().stopped_error()),
        Err(Refused::Full(envelope)) if local.waits_for_room() && circle == Circle::None => {
            match time::timeout(now.until(deadline), local.send(envelope)).await {
                Some(Ok(())) => {}
                Some(Err(_)) => return Err(local.core().stopped_error()),
                None => return Err(local.full(method)),
            }
        }
        Err(Refused::Full(_)) => return Err(local.full(method)),
    }
    if call.is_send {
        return Ok(String::new());
    }
    let left = deadlines.now().until(deadline);
    match time::timeout(left, receiver).await {
        Some(Ok(answer)) => answer,
        Some(Err(_)) => Err(CallError::NoReply("the reply's place was dropped".into())),
        None => Err(CallError::Timeout(format!("`{handler}` did not answer in time").into())),
    }
}

/// The method of that name.
pub(crate) fn find(
    interface: &str,
    methods: &'static [Method],
    name: &str,
) -> Result<&'static Method, CallError> {
    let names = || methods.iter().map(Method::name);
    let Some(method) = methods.iter().find(|method| method.name() == name) else {
        let hint = match nearest(name, names()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; it has {}", names().collect::<Vec<_>>().join(", ")),
        };
        return Err(CallError::Incompatible(format!("`{interface}` has no method `{name}`{hint}").into()));
    };
    if method.has_stream() {
        let detail = format!("`{interface}.{name}` gives a stream, and JSON carries none");
        return Err(CallError::Incompatible(detail.into()));
    }
    Ok(method)
}

/// Builds a message. A `Deserialize` of the user's may panic: that is this call's matter.
fn build<M: WireMessage>(
    method: &Method,
    handler: &str,
    arguments: &str,
    path: TextPath,
) -> Result<M, CallError> {
    let refused = |problem: &dyn std::fmt::Display| {
        CallError::Codec(format!("the arguments of `{handler}`: {problem}").into())
    };
    let arguments = Arguments::parse(method, arguments).map_err(|error| refused(&error))?;
    let read = || M::read(method.id().name, arguments, path);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(message) => message.map_err(|error| refused(&error)),
        Err(panic) => Err(refused(&format_args!("panicked in `Deserialize`: {}", panic_message(&*panic)))),
    }
}
