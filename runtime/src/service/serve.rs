//! Runs the messages of one life, by the borrow checker's rule.
//!
//! Messages start in the order in which they arrive. An `&mut self` handler runs alone; `&self` handlers run beside one
//! another, up to the service's `concurrency`. The borrow checker holds the rule: the running `&self` handlers are
//! futures that borrow the value, and the value cannot be borrowed mutably before they are gone.
//!
//! Invariant: what is in the inbox stays there until it begins, so that it outlives the life.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use pin_project_lite::pin_project;

use crate::event::StopReason;
use crate::service::concurrent::{Concurrent, Step};
use crate::service::context::Scope;
use crate::service::core::Core;
use crate::service::definition::Service;
use crate::service::dispatch::{self, Outcome};
use crate::service::inbox::Inbox;
use crate::service::message::{Envelope, Item, Message, Meta, Parcel};
use crate::service::tap;
use crate::service::turns::ON_DOWN;

/// Runs messages until the life is to end.
pub(crate) async fn serve<S: Service>(service: &mut S, inbox: &mut Inbox<S::Message>) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    loop {
        if poll_fn(|cx| inbox.poll_peek(cx)).await.is_none() {
            return core.stop_reason();
        }
        let Some(parcel) = inbox.pop() else { return core.stop_reason() };
        let panicked = match *parcel {
            // It was given up meanwhile, or an earlier life had it.
            Item::Down(watch, _) if core.has_forgotten(watch) => None,
            Item::Down(..) => Box::pin(serve_down(service, inbox, &core, parcel)).await,
            Item::Envelope(_) if parcel.is_exclusive() => {
                Alone { handler: run_exclusive(service, &core, parcel), inbox }.await
            }
            Item::Envelope(_) => serve_beside(service, inbox, &core, parcel).await,
        };
        if let Some(message) = panicked {
            return StopReason::Panicked(message);
        }
    }
}

/// Runs `&self` messages, of which `parcel` holds the first, until the next one is none or the life is to end. They
/// borrow the service until all of them have ended.
async fn serve_beside<S: Service>(
    // Borrowed mutably, though it is shared: a reference that may be sent must not ask that services be `Sync`.
    service: &mut S,
    inbox: &mut Inbox<S::Message>,
    core: &Arc<Core>,
    parcel: Parcel<S::Message>,
) -> Option<String> {
    let mut first = pin!(run_shared(service, core, parcel));
    let mut concurrent = Concurrent::new(S::SETTINGS.concurrency);
    loop {
        match poll_fn(|cx| concurrent.poll(cx, first.as_mut(), inbox)).await {
            Step::Start(parcel) if first.is_none() && concurrent.is_empty() => {
                first.set(run_shared(service, core, parcel));
            }
            Step::Start(parcel) => concurrent.extend(run_shared(service, core, parcel)),
            Step::Alone => return None,
            Step::Panicked(message) => return Some(message),
        }
    }
}

/// Begins an `&mut self` handler. A function of its own, so that the message is nowhere but in the handler.
#[inline]
#[expect(clippy::boxed_local, reason = "a message is moved once, from its parcel into its handler")]
fn run_exclusive<'s, S: Service>(
    service: &'s mut S,
    core: &Arc<Core>,
    parcel: Parcel<S::Message>,
) -> Option<impl Future<Output = Outcome> + Send + use<'s, S>> {
    let Item::Envelope(Envelope { message, meta }) = *parcel else { return None };
    if core.turns().is_traced() {
        tap::comes(core, &message, &meta);
    }
    let scope = Scope::new(core, message.method(), meta);
    Some(service.run_exclusive(message, scope))
}

/// Begins an `&self` handler, likewise.
#[inline]
#[expect(clippy::boxed_local, reason = "as above")]
fn run_shared<'s, S: Service>(
    service: &'s S,
    core: &Arc<Core>,
    parcel: Parcel<S::Message>,
) -> Option<impl Future<Output = Outcome> + Send + use<'s, S>> {
    let Item::Envelope(Envelope { message, meta }) = *parcel else { return None };
    if core.turns().is_traced() {
        tap::comes(core, &message, &meta);
    }
    let scope = Scope::new(core, message.method(), meta);
    Some(service.run_shared(message, scope))
}

/// Runs the `#[on_down]` hook.
async fn serve_down<S: Service>(
    service: &mut S,
    inbox: &mut Inbox<S::Message>,
    core: &Arc<Core>,
    parcel: Parcel<S::Message>,
) -> Option<String> {
    let Item::Down(_watch, down) = *parcel else { return None };
    let scope = Scope::new(core, &ON_DOWN, Meta::default());
    let context = scope.context();
    let hook = dispatch::hook(scope, service.on_down(&context, *down));
    let hook = hook.map(|ended| Outcome::of_hook(ended.err()));
    Alone { handler: Some(hook), inbox }.await
}

pin_project! {
    /// Runs what nothing may run beside; gives the panic's message if it panicked. Should the instance be told to stop
    /// meanwhile, what waits is answered at once.
    struct Alone<'i, M: Message, F> {
        #[pin]
        handler: Option<F>,
        inbox: &'i mut Inbox<M>,
    }
}

impl<M: Message, F: Future<Output = Outcome>> Future for Alone<'_, M, F> {
    type Output = Option<String>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let this = self.project();
        let Some(handler) = this.handler.as_pin_mut() else { return Poll::Ready(None) };
        let polled = handler.poll(cx);
        if polled.is_pending() {
            this.inbox.close_if_stopped();
        }
        polled.map(Outcome::panic)
    }
}
