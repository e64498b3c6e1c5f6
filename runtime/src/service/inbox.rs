//! The receiving end of a mailbox, owned by its instance.
//!
//! Invariant: whatever was taken in is either handed to the instance or answered.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use crate::event::DeadLetterReason;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Message};

/// The most messages that an instance takes out of its mailbox at once.
const BATCH: usize = 64;

/// How a mailbox of `capacity` messages is divided between the queue and the batch taken out of it. What is taken out
/// and has not begun counts, so that the mailbox never holds more than it says.
pub(crate) fn divide(capacity: usize) -> (usize, usize) {
    let batch = (capacity / 16).clamp(1, BATCH);
    let queue = if batch == 1 { capacity.max(1) } else { capacity - batch };
    (queue, batch)
}

pub(crate) struct Inbox<M: Message> {
    local: Arc<Local<M>>,
    queue: mpsc::Receiver<Envelope<M>>,
    /// Taken out of the queue and not yet begun, the next one last.
    taken: Vec<Envelope<M>>,
    batch: usize,
}

impl<M: Message> Inbox<M> {
    pub(crate) fn new(local: Arc<Local<M>>, queue: mpsc::Receiver<Envelope<M>>, batch: usize) -> Self {
        Self { local, queue, taken: Vec::new(), batch }
    }

    pub(crate) fn local(&self) -> &Arc<Local<M>> {
        &self.local
    }

    /// The next message in order of arrival; `None` when the instance is to stop.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Envelope<M>>> {
        let core = self.local.core();
        if core.is_stopping() {
            return Poll::Ready(None);
        }
        if let Some(envelope) = self.taken.pop() {
            return Poll::Ready(Some(envelope));
        }
        match self.queue.poll_recv_many(cx, &mut self.taken, self.batch) {
            Poll::Ready(0) => Poll::Ready(None),
            Poll::Ready(_) => {
                self.taken.reverse();
                Poll::Ready(self.taken.pop())
            }
            Poll::Pending => {
                core.register(cx.waker());
                // Who asked before the waker was registered woke nobody.
                if core.is_stopping() { Poll::Ready(None) } else { Poll::Pending }
            }
        }
    }

    /// The next message that must begin beside the running handlers.
    pub(crate) fn poll_reentrant(&mut self, cx: &mut Context<'_>) -> Poll<Envelope<M>> {
        self.local.core().register(cx.waker());
        self.local.pop_reentrant().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes no more, and answers what is there `Stopped`.
    pub(crate) fn close(&mut self) {
        self.queue.close();
        self.taken.reverse();
        let mut left = std::mem::take(&mut self.taken);
        left.extend(self.local.end_reentrant());
        loop {
            match self.queue.try_recv() {
                Ok(envelope) => left.push(envelope),
                Err(TryRecvError::Disconnected) => break,
                // A sender has its place and is about to put its message there.
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        }
        let host = self.local.core().host();
        for envelope in left {
            let handler = format!("{}.{}", M::INTERFACE, envelope.message.method().name());
            host.dead_letter(handler, envelope.meta.deadline.is_some(), DeadLetterReason::Stopped);
            drop(envelope); // answers `Stopped`
        }
    }
}
