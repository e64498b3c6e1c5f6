//! The mailbox: the bounded queue in front of an instance, as its callers see it.
//!
//! Invariant: waiting for room is the only wait here.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::id::Address;
use crate::service::host::Host;
use crate::service::instance::Core;
use crate::service::message::{Envelope, Message};

/// One instance of this node, as those see it who speak its messages.
pub(crate) struct Local<M> {
    core: Arc<Core>,
    queue: mpsc::Sender<Envelope<M>>,
    /// Guards the messages that must not wait in the queue: see [`crate::service::chain`].
    reentrant: Mutex<VecDeque<Envelope<M>>>,
    /// Whether there may be any: most instances never see one, and then nobody locks.
    any_reentrant: AtomicBool,
    capacity: usize,
}

/// The most re-entrant messages of one instance that wait to begin. They wait for one turn of the instance's task.
const MAX_REENTRANT: usize = 1024;

/// Why the mailbox did not take a message, and the message.
pub(crate) enum Refused<M> {
    Full(Envelope<M>),
    Closed(Envelope<M>),
}

impl<M> Local<M> {
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(crate) fn address(&self) -> &Address {
        self.core.address()
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        self.core.host()
    }
}

impl<M: Message> Local<M> {
    pub(crate) fn new(core: Arc<Core>, queue: mpsc::Sender<Envelope<M>>, capacity: usize) -> Self {
        let (reentrant, any_reentrant) = (Mutex::default(), AtomicBool::new(false));
        Self { core, queue, reentrant, any_reentrant, capacity }
    }

    /// How many messages may wait.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Puts a message into the queue if there is room.
    pub(crate) fn try_send(&self, envelope: Envelope<M>) -> Result<(), Refused<M>> {
        self.queue.try_send(envelope).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(envelope) => Refused::Full(envelope),
            mpsc::error::TrySendError::Closed(envelope) => Refused::Closed(envelope),
        })
    }

    /// Puts a message into the queue when there is room. Cancel safe: a message that was not taken is dropped, which
    /// answers its caller. One that the mailbox closed before comes back.
    pub(crate) async fn send(&self, envelope: Envelope<M>) -> Result<(), Envelope<M>> {
        self.queue.send(envelope).await.map_err(|refused| refused.0)
    }

    /// Puts a re-entrant message where the running handlers' instance finds it at once.
    pub(crate) fn push_reentrant(&self, envelope: Envelope<M>) -> Result<(), Refused<M>> {
        let mut reentrant = self.reentrant();
        if self.core.has_ended() {
            return Err(Refused::Closed(envelope));
        }
        if reentrant.len() >= MAX_REENTRANT {
            return Err(Refused::Full(envelope));
        }
        reentrant.push_back(envelope);
        self.any_reentrant.store(true, Ordering::Release);
        drop(reentrant);
        self.core.wake();
        Ok(())
    }

    pub(crate) fn pop_reentrant(&self) -> Option<Envelope<M>> {
        if !self.any_reentrant.load(Ordering::Acquire) {
            return None;
        }
        let mut reentrant = self.reentrant();
        let next = reentrant.pop_front();
        self.any_reentrant.store(!reentrant.is_empty(), Ordering::Release); // under the lock, as in `push_reentrant`
        next
    }

    /// Notes the end, and takes what is left. Afterwards nothing gets in.
    pub(crate) fn end_reentrant(&self) -> VecDeque<Envelope<M>> {
        let mut reentrant = self.reentrant();
        self.core.mark_ended(); // under the lock: a push either is taken here or sees the end
        std::mem::take(&mut *reentrant)
    }

    /// This instance without its messages' type, from which `downcast` leads back.
    pub(crate) fn erased(self: &Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(self) as Arc<dyn Any + Send + Sync>
    }

    fn reentrant(&self) -> MutexGuard<'_, VecDeque<Envelope<M>>> {
        self.reentrant.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> std::fmt::Debug for Local<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("core", &self.core).finish_non_exhaustive()
    }
}
