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

use crate::event::{Down, StopReason};
use crate::port::WatchId;
use crate::service::concurrent::{Concurrent, Step};
use crate::service::context::Scope;
use crate::service::core::Core;
use crate::service::definition::Service;
use crate::service::dispatch;
use crate::service::inbox::Inbox;
use crate::service::message::{Envelope, Item, Message, Meta};
use crate::service::turns::ON_DOWN;

/// Runs messages until the life is to end.
pub(crate) async fn serve<S: Service>(service: &mut S, inbox: &mut Inbox<S::Message>) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    loop {
        if poll_fn(|cx| inbox.poll_peek(cx)).await.is_none() {
            return core.stop_reason();
        }
        let Some(item) = inbox.pop() else { return core.stop_reason() };
        let panicked = match item {
            Item::Envelope(envelope) if envelope.message.method().is_exclusive() => {
                serve_alone(service, inbox, &core, envelope).await
            }
            Item::Envelope(envelope) => serve_beside(service, inbox, &core, envelope).await,
            Item::Down(down) => serve_down(service, inbox, &core, *down).await,
        };
        if let Some(message) = panicked {
            return StopReason::Panicked(message);
        }
    }
}

/// Runs an `&mut self` message; gives the panic's message if it panicked.
async fn serve_alone<S: Service>(
    service: &mut S,
    inbox: &mut Inbox<S::Message>,
    core: &Arc<Core>,
    Envelope { message, meta }: Envelope<S::Message>,
) -> Option<String> {
    let scope = Scope::new(core, message.method(), meta);
    let mut handler = pin!(service.run_exclusive(message, scope));
    poll_fn(|cx| poll_beside(inbox, handler.as_mut(), cx)).await.panic()
}

/// Runs `&self` messages, of which `first` is the first, until the next one is none or the life is to end. They borrow
/// the service until all of them have ended.
async fn serve_beside<S: Service>(
    // Borrowed mutably, though it is shared: a reference that may be sent must not ask that services be `Sync`.
    service: &mut S,
    inbox: &mut Inbox<S::Message>,
    core: &Arc<Core>,
    Envelope { message, meta }: Envelope<S::Message>,
) -> Option<String> {
    let scope = Scope::new(core, message.method(), meta);
    let mut first = pin!(Some(service.run_shared(message, scope)));
    let mut concurrent = Concurrent::new(S::SETTINGS.concurrency);
    loop {
        match poll_fn(|cx| concurrent.poll(cx, first.as_mut(), inbox)).await {
            Step::Start(Envelope { message, meta }) => {
                let scope = Scope::new(core, message.method(), meta);
                let handler = service.run_shared(message, scope);
                if first.is_none() && concurrent.is_empty() {
                    first.set(Some(handler));
                } else {
                    concurrent.push(handler);
                }
            }
            Step::Alone => return None,
            Step::Panicked(message) => return Some(message),
        }
    }
}

/// Runs the `#[on_down]` hook.
async fn serve_down<S: Service>(
    service: &mut S,
    inbox: &mut Inbox<S::Message>,
    core: &Arc<Core>,
    (_watch, down): (WatchId, Down),
) -> Option<String> {
    let scope = Scope::new(core, &ON_DOWN, Meta::default());
    let context = scope.context();
    let mut hook = pin!(dispatch::hook(scope, service.on_down(&context, down)));
    poll_fn(|cx| poll_beside(inbox, hook.as_mut(), cx)).await.err()
}

/// Polls what nothing may run beside. Should the instance be told to stop meanwhile, what waits is answered at once.
#[inline]
fn poll_beside<M: Message, F: Future>(
    inbox: &mut Inbox<M>,
    handler: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let polled = handler.poll(cx);
    if polled.is_pending() {
        inbox.close_if_stopped();
    }
    polled
}
