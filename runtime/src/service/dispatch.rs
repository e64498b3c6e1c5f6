//! Runs one handler: in its scope, with its panics caught, and with its value sent to whoever waits.
//!
//! Generated code calls these and nothing else, so that the expansion stays thin.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use futures_util::FutureExt;

use crate::error::CallError;
use crate::event::DeadLetterReason;
use crate::service::context::{Context, Scope};
use crate::service::reply::Reply;
use crate::time;

/// How a handler ended.
#[derive(Debug)]
#[must_use]
pub struct Outcome(Result<(), String>);

impl Outcome {
    const DONE: Self = Self(Ok(()));

    /// The panic's message, if the handler panicked.
    pub(crate) fn panic(self) -> Option<String> {
        self.0.err()
    }
}

/// Runs an async handler.
pub async fn answer<T, F>(scope: Scope, reply: Reply<T>, handler: F) -> Outcome
where
    T: Send,
    F: Future<Output = T> + Send,
{
    let Some((reply, name)) = begin(&scope, reply) else { return Outcome::DONE };
    let result = scope.around(AssertUnwindSafe(handler).catch_unwind()).await;
    finish(result, reply, name)
}

/// Runs a handler that takes `&Context`: the context is cancelled when the caller gives up.
pub async fn answer_watched<T, F>(scope: Scope, context: &Context, reply: Reply<T>, handler: F) -> Outcome
where
    T: Send,
    F: Future<Output = T> + Send,
{
    let Some((mut reply, name)) = begin(&scope, reply) else { return Outcome::DONE };
    let mut handler = pin!(scope.around(AssertUnwindSafe(handler).catch_unwind()));
    let mut given_up = false;
    let result = poll_fn(|cx| {
        if !given_up && reply.poll_abandoned(cx).is_ready() {
            given_up = true;
            context.cancel();
        }
        handler.as_mut().poll(cx)
    })
    .await;
    finish(result, reply, name)
}

/// Runs a handler that is not async.
pub fn answer_now<T, F: FnOnce() -> T>(scope: Scope, reply: Reply<T>, handler: F) -> Outcome {
    let Some((reply, name)) = begin(&scope, reply) else { return Outcome::DONE };
    let result = scope.around_now(|| catch_unwind(AssertUnwindSafe(handler)));
    finish(result, reply, name)
}

/// The answer of the arm that no message reaches: `run_shared` gets only messages with `&self`, `run_exclusive` only
/// those with `&mut self`. Dropping the message answers its caller.
pub fn wrong_receiver() -> Outcome {
    debug_assert!(false, "a message was dispatched by the wrong receiver");
    Outcome::DONE
}

/// A stub looks for the reply of its own variant alone.
///
/// # Panics
/// Always; generated code reaches it never.
pub fn wrong_variant() -> ! {
    unreachable!("a stub was asked for the reply of another method's message")
}

/// The handler's interface and method, which cost nothing until they are told.
type HandlerName = (&'static str, &'static str);

/// The last look before a handler begins: what nobody waits for any more is never begun.
fn begin<T>(scope: &Scope, mut reply: Reply<T>) -> Option<(Reply<T>, HandlerName)> {
    let name = scope.names();
    let expired = scope.deadline().is_some_and(|deadline| deadline <= time::now());
    if expired || reply.is_abandoned() {
        let handler = format!("{}.{}", name.0, name.1);
        if expired {
            reply.fail(CallError::Expired(
                format!("`{handler}` waited in its mailbox past its deadline").into(),
            ));
        } else {
            reply.dismiss();
        }
        scope.core().host().dead_letter(handler, true, DeadLetterReason::Expired);
        return None;
    }
    reply.begin();
    Some((reply, name))
}

fn finish<T>(result: Result<T, Box<dyn Any + Send>>, reply: Reply<T>, name: HandlerName) -> Outcome {
    match result {
        Ok(value) => {
            reply.send(value);
            Outcome::DONE
        }
        Err(panic) => {
            let message = panic_message(&*panic);
            let detail = format!("{}.{}: {message}", name.0, name.1);
            reply.fail(CallError::Panicked(detail.into()));
            Outcome(Err(message))
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}

/// Runs a hook, with its panics caught.
pub(crate) async fn hook<F: Future>(scope: Scope, future: F) -> Result<F::Output, String> {
    let result = scope.around(AssertUnwindSafe(future).catch_unwind()).await;
    result.map_err(|panic| panic_message(&*panic))
}
