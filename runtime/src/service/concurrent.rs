//! The `&self` handlers of one instance that run beside one another, and when the next message may begin.
//!
//! Invariant: handlers start in the order in which their messages arrived, except for re-entrant ones.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;

use crate::service::dispatch::Outcome;
use crate::service::inbox::Inbox;
use crate::service::message::{Message, Parcel};

/// The handlers that run, but for the first, which its owner keeps in place so that it needs no allocation.
pub(crate) struct Concurrent<F> {
    others: FuturesUnordered<F>,
    limit: usize,
}

/// What the instance does next.
pub(crate) enum Step<M> {
    /// A `&self` message begins now.
    Start(Parcel<M>),
    /// Every handler has ended. What is next in the inbox runs alone, or there is nothing and the instance is to stop.
    Alone,
    /// A handler panicked.
    Panicked(String),
}

impl<F: Future<Output = Outcome>> Concurrent<F> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { others: FuturesUnordered::new(), limit: limit.max(1) }
    }

    /// Whether no handler is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty()
    }

    /// Adds a handler, if there is one. It is polled by the next `poll`, before another message is looked at.
    pub(crate) fn extend(&mut self, handler: Option<F>) {
        self.others.extend(handler);
    }

    /// Polls the handlers, then says what may happen next.
    pub(crate) fn poll<M: Message>(
        &mut self,
        cx: &mut Context<'_>,
        mut first: Pin<&mut Option<F>>,
        inbox: &mut Inbox<M>,
    ) -> Poll<Step<M>> {
        inbox.close_if_stopped();
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
            && let Some(parcel) = inbox.pop_reentrant()
        {
            return Poll::Ready(Step::Start(parcel));
        }
        if running < self.limit
            && let Poll::Ready(next_runs_alone) = inbox.poll_peek(cx)
        {
            if next_runs_alone == Some(false)
                && let Some(parcel) = inbox.pop()
            {
                return Poll::Ready(Step::Start(parcel));
            }
            if running == 0 {
                return Poll::Ready(Step::Alone);
            }
        }
        Poll::Pending
    }
}
