//! Runs one handler: in its scope, with its panics caught, and with its value sent to whoever waits.
//!
//! Generated code calls these and nothing else, so that the expansion stays thin. This is the hot path of every message:
//! one future that is moved once, and nothing allocated.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use futures_util::FutureExt;
use pin_project_lite::pin_project;

use crate::error::CallError;
use crate::event::{DeadLetterReason, Phase};
use crate::service::context::{self, Context, Scope};
use crate::service::monitor::Ended;
use crate::service::reply::Reply;
use crate::service::spans;
use crate::service::tap::{self, HandlerEnd};
use crate::service::turns::Place;
use crate::service::verdict::Verdict;

/// How a handler ended.
#[derive(Debug)]
#[must_use]
pub struct Outcome(Result<(), String>);

impl Outcome {
    const DONE: Self = Self(Ok(()));

    /// A hook that ended, by a panic with a message or in order.
    pub(crate) fn of_hook(panic: Option<String>) -> Self {
        Self(panic.map_or(Ok(()), Err))
    }

    /// The panic's message, if the handler panicked.
    pub(crate) fn panic(self) -> Option<String> {
        self.0.err()
    }
}

pin_project! {
    /// An async handler that runs.
    #[must_use = "futures do nothing unless polled"]
    pub struct Answer<'c, T, F, V> {
        #[pin]
        handler: F,
        // In its place but for the handler's polls, in which it is the ambient one.
        scope: Option<Scope>,
        // `None` once answered.
        reply: Option<Reply<T>>,
        // Until the caller has given up.
        context: Option<&'c Context>,
        place: Place,
        verdict: V,
    }
}

/// Runs an async handler.
pub fn answer<T, F, V>(scope: Scope, reply: Reply<T>, verdict: V, handler: F) -> Answer<'static, T, F, V>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
    V: Verdict<T>,
{
    Answer { handler, scope: Some(scope), reply: Some(reply), context: None, place: Place::Ahead, verdict }
}

/// Runs a handler that takes `&Context`: the context is cancelled when the caller gives up.
pub fn answer_watched<T, F, V>(
    scope: Scope,
    context: &Context,
    reply: Reply<T>,
    verdict: V,
    handler: F,
) -> Answer<'_, T, F, V>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
    V: Verdict<T>,
{
    let (scope, reply, context) = (Some(scope), Some(reply), Some(context));
    Answer { handler, scope, reply, context, place: Place::Ahead, verdict }
}

impl<T: 'static, F: Future<Output = T>, V: Verdict<T>> Future for Answer<'_, T, F, V> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Outcome> {
        let mut this = self.project();
        let (Some(scope), Some(reply)) = (&this.scope, &mut this.reply) else {
            panic!("a handler was polled after it had ended");
        };
        if let Place::Ahead = this.place {
            *this.place = Place::Current;
            if let Some(refusal) = late(scope, reply) {
                refuse(scope, this.reply.take(), refusal);
                return Poll::Ready(Outcome::DONE);
            }
            reply.begin();
            begin(scope);
            note_begin(scope);
        }
        loop {
            let polled = context::enter(this.scope, || {
                catch_unwind(AssertUnwindSafe(|| this.handler.as_mut().poll(cx)))
            });
            let result = match polled {
                Ok(Poll::Ready(value)) => Ok(value),
                Err(panic) => Err(panic),
                Ok(Poll::Pending) => {
                    if let (Place::Current, Some(scope)) = (&this.place, this.scope.as_ref()) {
                        *this.place = waits(scope);
                    }
                    let (Some(context), Some(reply)) = (*this.context, &mut this.reply) else {
                        return Poll::Pending;
                    };
                    if reply.poll_abandoned(cx).is_pending() {
                        return Poll::Pending;
                    }
                    *this.context = None;
                    context.cancel();
                    continue; // the handler may be waiting for just this
                }
            };
            if let Some(scope) = this.scope.as_ref() {
                ended(scope, *this.place, result.as_ref().ok(), *this.verdict);
            }
            return Poll::Ready(finish(result, this.reply.take(), this.scope.as_ref()));
        }
    }
}

/// Runs a handler that is not async.
pub fn answer_now<T, F, V>(scope: Scope, mut reply: Reply<T>, verdict: V, handler: F) -> Outcome
where
    T: 'static,
    F: FnOnce() -> T,
    V: Verdict<T>,
{
    if let Some(refusal) = late(&scope, &reply) {
        refuse(&scope, Some(reply), refusal);
        return Outcome::DONE;
    }
    reply.begin();
    begin(&scope);
    note_begin(&scope);
    let mut scope = Some(scope);
    let result = context::enter(&mut scope, || catch_unwind(AssertUnwindSafe(handler)));
    if let Some(scope) = &scope {
        ended(scope, Place::Current, result.as_ref().ok(), verdict);
    }
    finish(result, Some(reply), scope.as_ref())
}

/// Shows the watchdog that a handler begins.
#[inline]
fn begin(scope: &Scope) {
    let core = scope.core();
    if !core.turns().begin(scope.method()) {
        core.host().watchdog.add(core);
    }
    if core.turns().is_traced() {
        tap::begun(core, scope.method());
    }
}

/// Counts a message whose handler begins. A call has a deadline.
#[inline]
fn note_begin(scope: &Scope) {
    scope.core().note_begin(scope.method(), scope.deadline().is_some());
}

/// A handler that has just begun has to wait: gives where its turn is from now on, and shows who waits for it. No clock is read: since when
/// it runs is known if it is measured, and else when the watchdog has seen it.
fn waits(scope: &Scope) -> Place {
    let (core, chain) = (scope.core(), scope.chain());
    if scope.method().is_exclusive() {
        if !chain.is_empty() && core.is_monitored() {
            core.note_callers(core.turns().current(), chain);
        }
        return Place::Waits;
    }
    let (since, weight) = core.take_measured().unzip();
    core.turns().set_aside(since, weight.unwrap_or(0), chain.clone())
}

/// Shows a handler's end to whoever wants to see it.
#[inline]
fn show_end(scope: &Scope, place: Place, how: HandlerEnd, value: Option<&dyn Any>) {
    let turns = scope.core().turns();
    if turns.is_traced() {
        tap::ended(scope.core(), turns.at(place), scope.method(), how, value);
    }
}

/// A handler has ended, with a value or by a panic.
#[inline]
fn ended<T: 'static, V: Verdict<T>>(scope: &Scope, place: Place, value: Option<&T>, verdict: V) {
    let core = scope.core();
    let how = match value {
        Some(value) if verdict.is_err(value) => HandlerEnd::Failed,
        Some(_) => HandlerEnd::Done,
        None => HandlerEnd::Panicked,
    };
    show_end(scope, place, how, value.map(|value| value as &dyn Any));
    if let Some(span) = scope.span() {
        span.end(match how {
            HandlerEnd::Done => spans::OK,
            HandlerEnd::Failed => spans::FAILED,
            HandlerEnd::Panicked => spans::PANICKED,
        });
    }
    match place {
        Place::Ahead => {}
        Place::Current | Place::Waits => {
            core.turns().end();
            core.note_end(scope.method(), how);
        }
        Place::Beside(key) => {
            let measured = core.turns().end_beside(key);
            core.note_end_beside(scope.method(), how, measured);
        }
    }
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

/// Why a message must not begin any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    Expired,
    Abandoned,
}

/// The last look before a handler begins: what nobody waits for any more is never begun.
#[inline]
fn late<T>(scope: &Scope, reply: &Reply<T>) -> Option<Late> {
    if reply.is_abandoned() {
        return Some(Late::Abandoned);
    }
    let deadline = scope.deadline()?;
    // The clock costs as much as the rest of this. A caller of this node is parked, so that `deadlines` sees its time come.
    let deadlines = &scope.core().host().deadlines;
    if scope.is_from_here() && deadlines.is_far(deadline) {
        return None;
    }
    (deadline <= deadlines.now()).then_some(Late::Expired)
}

#[cold]
fn refuse<T>(scope: &Scope, reply: Option<Reply<T>>, why: Late) {
    let (handler, host) = (scope.handler(), scope.core().host());
    if let Some(span) = scope.span() {
        span.end(if why == Late::Expired { spans::EXPIRED } else { spans::ABANDONED });
    }
    let now = host.deadlines.now();
    let phase = match why {
        // Its deadline had not passed when it was taken out of the mailbox.
        _ if scope.deadline().is_some_and(|deadline| deadline <= now) => Phase::Invoke,
        Late::Expired => Phase::Invoke,
        Late::Abandoned => Phase::Dispatch,
    };
    match (reply, why) {
        (Some(reply), Late::Expired) => {
            reply.fail(CallError::Expired(
                format!("`{handler}` waited in its mailbox past its deadline").into(),
            ));
        }
        (Some(reply), Late::Abandoned) => reply.dismiss(),
        (None, _) => {}
    }
    scope.core().note_ended(
        Some(scope.method()),
        if why == Late::Expired { Ended::Expired } else { Ended::Abandoned },
    );
    host.count_expired(phase);
    host.dead_letter(handler, true, DeadLetterReason::Expired);
}

#[inline]
fn finish<T>(
    result: Result<T, Box<dyn Any + Send>>,
    reply: Option<Reply<T>>,
    scope: Option<&Scope>,
) -> Outcome {
    match (result, reply) {
        (Ok(value), Some(reply)) => {
            if !reply.answer(value)
                && let Some(scope) = scope
            {
                scope.core().host().count_expired(Phase::Reply);
            }
            Outcome::DONE
        }
        (Ok(_), None) => Outcome::DONE,
        (Err(panic), reply) => panicked(&*panic, reply, scope),
    }
}

#[cold]
fn panicked<T>(panic: &(dyn Any + Send), reply: Option<Reply<T>>, scope: Option<&Scope>) -> Outcome {
    let message = panic_message(panic);
    let handler = scope.map(Scope::handler).unwrap_or_default();
    if let Some(reply) = reply {
        reply.fail(CallError::Panicked(format!("{handler}: {message}").into()));
    }
    Outcome(Err(message))
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
    begin(&scope);
    let mut scope = Some(scope);
    let mut future = std::pin::pin!(AssertUnwindSafe(future).catch_unwind());
    let result = std::future::poll_fn(|cx| context::enter(&mut scope, || future.as_mut().poll(cx))).await;
    if let Some(scope) = &scope {
        let how = if result.is_ok() { HandlerEnd::Done } else { HandlerEnd::Panicked };
        show_end(scope, Place::Current, how, None);
        scope.core().turns().end();
    }
    result.map_err(|panic| panic_message(&*panic))
}
