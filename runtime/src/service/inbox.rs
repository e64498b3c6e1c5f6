//! The receiving end of a mailbox, owned by its instance.
//!
//! Invariant: whatever was taken in is either handed to the instance or answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::event::DeadLetterReason;
use crate::service::host::Host;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Message};

/// The most messages that an instance takes out of its mailbox at once.
const BATCH: usize = 64;

/// How many messages an instance takes out of a mailbox of `capacity` at once. What it has taken out does not count as
/// waiting, so a small mailbox is emptied one by one.
fn batch_of(capacity: usize) -> usize {
    (capacity / 16).clamp(1, BATCH)
}

pub(crate) struct Inbox<M: Message> {
    local: Arc<Local<M>>,
    /// `None` once closed.
    queue: Option<mpsc::Receiver<Envelope<M>>>,
    /// Taken out of the queue and not yet begun, the next one last.
    taken: Vec<Envelope<M>>,
    batch: usize,
    /// The waker that is registered with the core, so that it is registered once and not for every message.
    registered: Option<Waker>,
}

impl<M: Message> Inbox<M> {
    pub(crate) fn new(local: Arc<Local<M>>, queue: mpsc::Receiver<Envelope<M>>) -> Self {
        let batch = batch_of(local.capacity());
        Self { local, queue: Some(queue), taken: Vec::new(), batch, registered: None }
    }

    pub(crate) fn local(&self) -> &Arc<Local<M>> {
        &self.local
    }

    /// The next message in order of arrival; `None` when the instance is to stop.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope<M>>> {
        if self.local.core().is_stopping() {
            return Poll::Ready(None);
        }
        // The handlers that this one was re-entrant to may have ended meanwhile.
        if let Some(envelope) = self.local.pop_reentrant() {
            return Poll::Ready(Some(envelope));
        }
        if let Some(envelope) = self.taken.pop() {
            return Poll::Ready(Some(envelope));
        }
        let Some(queue) = &mut self.queue else { return Poll::Ready(None) };
        match queue.poll_recv_many(cx, &mut self.taken, self.batch) {
            Poll::Ready(0) => Poll::Ready(None),
            Poll::Ready(_) => {
                self.taken.reverse();
                Poll::Ready(self.taken.pop())
            }
            Poll::Pending if self.register(cx.waker()) => {
                cx.waker().wake_by_ref(); // who came before the waker was there woke nobody
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next message that must begin beside the running handlers.
    pub(crate) fn poll_reentrant(&mut self, cx: &mut Context<'_>) -> Poll<Envelope<M>> {
        self.register(cx.waker());
        self.local.pop_reentrant().map_or(Poll::Pending, Poll::Ready)
    }

    /// Polls a handler that nothing may run beside. Should the instance be asked to stop meanwhile, what waits is
    /// answered at once.
    #[inline]
    pub(crate) fn poll_beside<F: Future>(
        &mut self,
        handler: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let polled = handler.poll(cx);
        if polled.is_pending() {
            self.register(cx.waker());
            self.close_if_stopping();
        }
        polled
    }

    /// Closes if the instance was asked to stop; gives whether it was.
    pub(crate) fn close_if_stopping(&mut self) -> bool {
        let stopping = self.local.core().is_stopping();
        if stopping {
            self.close();
        }
        stopping
    }

    /// Takes no more, and answers what is there `Stopped`.
    pub(crate) fn close(&mut self) {
        if let Some(stragglers) = self.drain() {
            // Senders that have their place in the queue, and are about to put their message there: each does so when it
            // is next polled, which nobody here can wait for.
            let host = Arc::clone(self.local.core().host());
            self.local.core().host().tasks.spawn(async move {
                let mut stragglers = stragglers;
                while let Some(envelope) = stragglers.recv().await {
                    bury(&host, envelope);
                }
            });
        }
    }

    /// As `close`, when the task is cut off: no other task can be made then.
    pub(crate) fn close_abruptly(&mut self) {
        drop(self.drain());
    }

    /// Answers what is there. Gives the queue back if more may come.
    fn drain(&mut self) -> Option<mpsc::Receiver<Envelope<M>>> {
        let mut queue = self.queue.take()?;
        queue.close();
        let host = self.local.core().host();
        for envelope in std::mem::take(&mut self.taken).into_iter().rev().chain(self.local.end_reentrant()) {
            bury(host, envelope);
        }
        loop {
            match queue.try_recv() {
                Ok(envelope) => bury(host, envelope),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => return Some(queue),
            }
        }
    }

    /// Registers the task's waker, unless it is registered already. Gives whether it was new.
    fn register(&mut self, waker: &Waker) -> bool {
        if self.registered.as_ref().is_some_and(|registered| registered.will_wake(waker)) {
            return false;
        }
        self.registered = Some(waker.clone());
        self.local.core().register(waker);
        true
    }
}

/// Answers a message `Stopped`, and notes that it reached nobody.
pub(crate) fn bury<M: Message>(host: &Host, envelope: Envelope<M>) {
    let handler = format!("{}.{}", M::INTERFACE, envelope.message.method().name());
    host.dead_letter(handler, envelope.meta.deadline.is_some(), DeadLetterReason::Stopped);
    drop(envelope);
}
