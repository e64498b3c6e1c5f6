//! The `&self` handlers of one instance that run beside one another, and when the next message may begin.
//!
//! Invariant: handlers start in the order in which their messages arrived, except for re-entrant ones.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use crate::service::dispatch::Outcome;
use crate::service::inbox::{Inbox, bury};
use crate::service::message::{Envelope, Message};

/// The handlers that run, but for the first, which its owner keeps in place so that it needs no allocation.
pub(crate) struct Concurrent<M, F> {
    others: FuturesUnordered<F>,
    limit: usize,
    /// An `&mut self` message that has arrived and waits for the handlers to end. Nothing overtakes it but what is
    /// re-entrant.
    exclusive: Option<Envelope<M>>,
}

/// What the instance does next.
pub(crate) enum Step<M> {
    /// A `&self` message begins now.
    Start(Envelope<M>),
    /// Every handler has ended, and this `&mut self` message begins.
    Alone(Envelope<M>),
    /// Every handler has ended, and the instance is to stop.
    Stop,
    /// A handler panicked.
    Panicked(String),
}

impl<M: Message, F: Future<Output = Outcome>> Concurrent<M, F> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { others: FuturesUnordered::new(), limit: limit.max(1), exclusive: None }
    }

    /// Whether no handler is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// Adds a handler. It is polled by the next `poll`, before another message is looked at.
    pub(crate) fn push(&mut self, handler: F) {
        self.others.push(handler);
    }

    /// Polls the handlers, then says what may happen next.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut first: Pin<&mut Option<F>>,
        inbox: &mut Inbox<M>,
    ) -> Poll<Step<M>> {
        if inbox.close_if_stopping()
            && let Some(exclusive) = self.exclusive.take()
        {
            bury(inbox.local().core().host(), exclusive);
        }
        if let Some(handler) = first.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = handler.poll(cx)
        {
            first.set(None);
            if let Some(message) = outcome.panic() {
                return Poll::Ready(Step::Panicked(message));
            }
        }
        while let Poll::Ready(Some(outcome)) = Pin::new(&mut self.others).poll_next(cx) {
            if let Some(message) = outcome.panic() {
                return Poll::Ready(Step::Panicked(message));
            }
        }
        let running = usize::from(first.is_some()) + self.others.len();
        // Only a running handler can be waited for in a circle.
        if running > 0
            && let Poll::Ready(envelope) = inbox.poll_reentrant(cx)
        {
            return Poll::Ready(Step::Start(envelope));
        }
        if self.exclusive.is_none() && running < self.limit {
            match inbox.poll_next(cx) {
                Poll::Ready(Some(envelope)) if envelope.message.method().is_exclusive() => {
                    self.exclusive = Some(envelope);
                }
                Poll::Ready(Some(envelope)) => return Poll::Ready(Step::Start(envelope)),
                Poll::Ready(None) if running == 0 => return Poll::Ready(Step::Stop),
                Poll::Ready(None) | Poll::Pending => {}
            }
        }
        if running == 0
            && let Some(envelope) = self.exclusive.take()
        {
            return Poll::Ready(Step::Alone(envelope));
        }
        Poll::Pending
    }
}
