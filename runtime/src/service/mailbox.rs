//! The mailbox: the bounded queue in front of an instance, as its callers see it.
//!
//! Invariant: waiting for room is the only wait here.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use crate::config::Overflow;
use crate::error::CallError;
use crate::event::{DeadLetterReason, Down, StopReason};
use crate::id::Address;
use crate::port::{WatchId, Watcher};
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::host::Host;
use crate::service::message::{Envelope, Item, Message, Method, Parcel};
use crate::service::monitor::Ended;
use crate::service::queue::{self, Entrance};
use crate::service::ring::{NotTaken, Ring};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// One instance of this node, as those see it who speak its messages.
pub(crate) struct Local<M> {
    core: Arc<Core>,
    queue: Entrance<M>,
    /// Guards what must not wait in the queue.
    aside: Mutex<Aside<M>>,
    /// Whether there may be any: most instances never see one, and then nobody locks.
    any_reentrant: AtomicBool,
    any_downs: AtomicBool,
    /// How many peers have requests waiting for room.
    parked: AtomicUsize,
    /// Whether calls are refused whose deadline cannot be met.
    sheds: bool,
}

/// What does not go through the queue.
struct Aside<M> {
    /// Messages that begin beside the running handlers: see [`crate::service::chain`].
    reentrant: VecDeque<Parcel<M>>,
    /// Ends of what the instance watches, for which the queue had no room: at most as many as it watches.
    downs: Vec<Parcel<M>>,
    /// What peers had waiting for room when a drain closed the queue.
    late: Vec<Parcel<M>>,
}

impl<M> Default for Aside<M> {
    fn default() -> Self {
        Self { reentrant: VecDeque::new(), downs: Vec::new(), late: Vec::new() }
    }
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
    pub(crate) fn new(core: Arc<Core>, queue: Entrance<M>) -> Self {
        let (any_reentrant, any_downs) = (AtomicBool::new(false), AtomicBool::new(false));
        let sheds = core.settings().shed;
        let parked = AtomicUsize::new(0);
        Self { core, queue, aside: Mutex::default(), any_reentrant, any_downs, parked, sheds }
    }

    /// How many messages may wait.
    pub(crate) fn capacity(&self) -> usize {
        self.core.settings().capacity()
    }

    /// Whether a message waits for room when there is none, and is not refused.
    pub(crate) fn waits_for_room(&self) -> bool {
        self.core.settings().overflow == Overflow::Wait
    }

    /// Whether calls are refused whose deadline cannot be met.
    #[inline]
    pub(crate) fn sheds(&self) -> bool {
        self.sheds
    }

    /// The error for a call whose deadline will have passed before its turn comes, by what is known now.
    #[inline]
    pub(crate) fn hopeless(&self, method: &Method, deadline: Tick) -> Option<CallError> {
        if self.sheds { self.shed(method, deadline) } else { None }
    }

    #[cold]
    fn shed(&self, method: &Method, deadline: Tick) -> Option<CallError> {
        let expected = self.core.gauge().expected(self.queue.len());
        if expected.is_zero() {
            return None; // and nobody reads the clock
        }
        let left = self.host().deadlines.now().until(deadline);
        if expected <= left {
            return None;
        }
        self.host().count_shed();
        self.core.note_ended(Some(method), Ended::Overloaded);
        let (handler, address) = (format!("{}.{}", M::INTERFACE, method.name()), self.address());
        let detail = format!("`{handler}` at {address} is expected to wait {expected:?}, {left:?} left");
        Some(CallError::Overloaded(detail.into()))
    }

    /// The error for who finds no room.
    pub(crate) fn full(&self, method: &Method) -> CallError {
        self.core.note_ended(Some(method), Ended::Overloaded);
        let (address, capacity) = (self.address(), self.capacity());
        let calls =
            if self.core.settings().overflow == Overflow::DropOldest { ", all of them calls" } else { "" };
        CallError::Overloaded(format!("the mailbox of {address} is full ({capacity} messages{calls})").into())
    }

    /// Puts a message into the queue if there is room. Where the oldest send makes room, it becomes a dead letter.
    #[inline]
    pub(crate) fn try_send(&self, envelope: Envelope<M>) -> Result<(), Refused<M>> {
        let parcel = Box::new(Item::Envelope(envelope));
        let pushed = match &self.queue {
            Entrance::Channel(sender) => queue::push(sender, parcel),
            Entrance::Ring(ring) => self.push_displacing(ring, parcel),
        };
        pushed.map_err(|refused| self.refused(refused))
    }

    fn push_displacing(&self, ring: &Ring<Parcel<M>>, parcel: Parcel<M>) -> Result<(), NotTaken<Parcel<M>>> {
        let displaced = ring.push(parcel)?.map(|displaced| *displaced);
        if let Some(Item::Envelope(Envelope { message, .. })) = displaced {
            self.core.gauge().note(&self.core, self.capacity());
            let handler = format!("{}.{}", M::INTERFACE, message.method().name());
            // Its arguments are the user's, and their `Drop` may panic: that is not the matter of whoever sends this one.
            if catch_unwind(AssertUnwindSafe(|| drop(message))).is_err() {
                self.host().count_panic();
            }
            self.host().dead_letter(handler, false, DeadLetterReason::Displaced);
        }
        Ok(())
    }

    #[cold]
    fn refused(&self, refused: NotTaken<Parcel<M>>) -> Refused<M> {
        match refused {
            NotTaken::Full(item) => {
                self.core.gauge().note(&self.core, self.capacity());
                self.core.note_most_waiting(self.capacity());
                Refused::Full(sent_back(item))
            }
            NotTaken::Closed(item) => Refused::Closed(sent_back(item)),
        }
    }

    /// Puts a message into the queue when there is room. Cancel safe: a message that was not taken is dropped, which
    /// answers its caller. One that the mailbox closed before comes back.
    pub(crate) async fn send(&self, envelope: Envelope<M>) -> Result<(), Envelope<M>> {
        self.queue.wait_and_push(Box::new(Item::Envelope(envelope))).await.map_err(sent_back)
    }

    /// Tells the instance, after everything that is in the queue, that something it watches has ended. Never refused:
    /// what finds no room waits beside the queue.
    pub(crate) fn push_down(&self, watch: WatchId, down: Down) {
        let parcel = Box::new(Item::Down(watch, Box::new(down)));
        let Err(NotTaken::Full(down)) = self.queue.push_if_room(parcel) else {
            return; // taken in, or the instance has ended
        };
        let mut aside = self.aside();
        if self.core.has_ended() {
            return;
        }
        aside.downs.push(down);
        self.any_downs.store(true, Ordering::Release); // under the lock, as in `take_downs`
        drop(aside);
        self.core.wake();
    }

    /// Whether ends wait beside the queue.
    #[inline]
    pub(crate) fn has_downs(&self) -> bool {
        self.any_downs.load(Ordering::Acquire)
    }

    pub(crate) fn take_downs(&self) -> Vec<Parcel<M>> {
        let mut aside = self.aside();
        self.any_downs.store(false, Ordering::Release); // under the lock, as in `push_down`
        std::mem::take(&mut aside.downs)
    }

    /// Requests of another peer begin to wait for room.
    pub(crate) fn parked_begins(&self) {
        self.parked.fetch_add(1, Ordering::AcqRel);
    }

    /// None of a peer's wait any more.
    pub(crate) fn parked_ends(&self) {
        self.parked.fetch_sub(1, Ordering::AcqRel);
        if self.core.is_draining() {
            self.core.wake(); // it waits for this
        }
    }

    /// Whether requests of peers wait for room.
    pub(crate) fn has_parked(&self) -> bool {
        self.parked.load(Ordering::Acquire) > 0
    }

    /// Takes in what waited for room when a drain closed the queue; gives it back if there is no drain, or it is over.
    pub(crate) fn push_late(&self, parcel: Parcel<M>) -> Result<(), Parcel<M>> {
        let mut aside = self.aside();
        if self.core.has_ended() || !self.core.is_draining() {
            return Err(parcel);
        }
        aside.late.push(parcel);
        drop(aside);
        self.core.wake();
        Ok(())
    }

    pub(crate) fn take_late(&self) -> Vec<Parcel<M>> {
        std::mem::take(&mut self.aside().late)
    }

    /// Puts a re-entrant message where the running handlers' instance finds it at once.
    pub(crate) fn push_reentrant(&self, envelope: Envelope<M>) -> Result<(), Refused<M>> {
        let mut aside = self.aside();
        if self.core.has_ended() {
            return Err(Refused::Closed(envelope));
        }
        if aside.reentrant.len() >= MAX_REENTRANT {
            return Err(Refused::Full(envelope));
        }
        aside.reentrant.push_back(Box::new(Item::Envelope(envelope)));
        self.any_reentrant.store(true, Ordering::Release);
        drop(aside);
        self.core.wake();
        Ok(())
    }

    pub(crate) fn pop_reentrant(&self) -> Option<Parcel<M>> {
        if !self.any_reentrant.load(Ordering::Acquire) {
            return None;
        }
        let mut aside = self.aside();
        let next = aside.reentrant.pop_front();
        self.any_reentrant.store(!aside.reentrant.is_empty(), Ordering::Release); // under the lock, as in `push_reentrant`
        next
    }

    /// Notes the end, and takes what is left. Afterwards nothing gets in.
    pub(crate) fn end_aside(&self) -> impl Iterator<Item = Parcel<M>> + use<M> {
        let mut aside = self.aside();
        self.core.mark_ended(); // under the lock: a push either is taken here or sees the end
        let Aside { reentrant, late, .. } = std::mem::take(&mut *aside);
        reentrant.into_iter().chain(late)
    }

    /// This mailbox without its messages' type, from which `downcast` leads back.
    pub(crate) fn erased(self: &Arc<Self>) -> Arc<dyn Mailbox> {
        Arc::clone(self) as Arc<dyn Mailbox>
    }

    fn aside(&self) -> MutexGuard<'_, Aside<M>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mailbox, whatever messages are in it.
pub(crate) trait Mailbox: Any + Watcher {
    /// How many messages wait.
    fn waiting(&self) -> usize;
    /// Takes back what [`Watcher::down`] has put beside the queue.
    fn forget_down(&self, watch: WatchId);
}

impl<M: Message> Mailbox for Local<M> {
    fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn forget_down(&self, watch: WatchId) {
        if self.has_downs() {
            self.aside().downs.retain(|down| !matches!(**down, Item::Down(of, _) if of == watch));
        }
    }
}

impl<M: Message> Watcher for Local<M> {
    fn down(&self, watch: WatchId, reason: StopReason) {
        let Some(mut down) = self.core.hear(watch, reason) else { return };
        if self.has_parked()
            && let Some(deliver) =
                self.host().resident(self.address().instance).and_then(|resident| resident.deliver)
        {
            match deliver.hold_back(watch, down) {
                Some(free) => down = free,
                None => return,
            }
        }
        self.push_down(watch, down);
    }
}

/// The message that a queue did not take.
#[expect(clippy::boxed_local, reason = "it comes back in its box")]
fn sent_back<M>(parcel: Parcel<M>) -> Envelope<M> {
    match *parcel {
        Item::Envelope(envelope) => envelope,
        Item::Down(..) => unreachable!("what comes back is what was sent"),
    }
}

impl<M> std::fmt::Debug for Local<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("core", &self.core).finish_non_exhaustive()
    }
}
