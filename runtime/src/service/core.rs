//! What everybody may know of an instance, whatever messages it speaks, and how it is told to end.
//!
//! An instance has one address and, under a supervisor, many lives: each begins with a fresh value of the service.
//!
//! Invariant: nobody waits while holding the lock.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::event::StopReason;
use crate::id::Address;
use crate::service::handle::{Handle, Target};
use crate::service::host::Host;
use crate::service::mailbox::Local;
use crate::service::message::Message;
use crate::service::watchers::Watchers;

/// What an instance was told to do. Several may hold at once, and the hardest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Take nothing new, run what is queued, then end for good.
    Drain = 1,
    /// End this life, by its own wish. A supervisor decides whether another follows.
    Finish = 2,
    /// End this life, by its supervisor's wish. What is queued waits for the next.
    Rest = 4,
    /// End for good. What is queued is answered `Stopped`.
    Stop = 8,
    /// End this life at once: drop its handlers at their next await point.
    Kill = 16,
}

/// The orders that say that no life follows, whatever a supervisor says. Nothing takes them back.
const FINAL: u8 = Order::Drain as u8 | Order::Stop as u8;

/// What everybody may know of an instance.
#[derive(Debug)]
pub(crate) struct Core {
    address: Address,
    service: Arc<str>,
    interface: &'static str,
    host: Arc<Host>,
    /// Whether a supervisor decides what follows a life.
    supervised: bool,
    /// The [`Order`]s that hold, as a set of bits.
    orders: AtomicU8,
    ended: AtomicBool,
    state: Mutex<State>,
    watchers: Watchers,
    /// Cancelled when everything about the end is done.
    done: CancellationToken,
    /// The [`Local`] around this core.
    local: OnceLock<Weak<dyn Any + Send + Sync>>,
}

/// Guards what is touched seldom.
#[derive(Debug, Default)]
struct State {
    /// The waker of the instance's task, for what does not come through the mailbox.
    waker: Option<Waker>,
    /// Why this life failed, if not by a handler's panic.
    failure: Option<Box<StopReason>>,
    /// Cancelled at the end of the life: the contexts of its handlers, and its child tasks, hang on it. Made when it is
    /// first asked for: most instances never need one.
    life: Option<CancellationToken>,
    /// How many lives have ended.
    lives: u32,
}

impl Core {
    pub(crate) fn new(
        host: &Arc<Host>,
        service: Arc<str>,
        interface: &'static str,
        supervised: bool,
    ) -> Self {
        Self {
            address: host.next_address(),
            service,
            interface,
            host: Arc::clone(host),
            supervised,
            orders: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            state: Mutex::default(),
            watchers: Watchers::default(),
            done: CancellationToken::new(),
            local: OnceLock::new(),
        }
    }

    #[inline]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The service's name.
    pub(crate) fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// The name of the interface that the instance speaks.
    pub(crate) fn interface(&self) -> &'static str {
        self.interface
    }

    #[inline]
    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The number of the present life.
    pub(crate) fn life_number(&self) -> u32 {
        self.state().lives
    }

    /// The token of a life. Cancelled already if that life has ended.
    pub(crate) fn life(&self, number: u32) -> CancellationToken {
        let mut state = self.state();
        if state.lives == number {
            return state.life.get_or_insert_with(CancellationToken::new).clone();
        }
        drop(state);
        let over = CancellationToken::new();
        over.cancel();
        over
    }

    /// Who is told of the ends of its lives.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    pub(crate) fn stopped_error(&self) -> CallError {
        CallError::Stopped(format!("`{}` at {} has stopped", self.service, self.address).into())
    }

    /// A handle to this instance, if its messages are `M`.
    pub(crate) fn handle<M: Message>(&self) -> Option<Handle<M>> {
        let local = self.local.get()?.upgrade()?;
        Some(Handle::new(Target::Local(local.downcast::<Local<M>>().ok()?)))
    }

    /// Notes the mailbox around this core.
    pub(crate) fn set_local(&self, local: Weak<dyn Any + Send + Sync>) {
        drop(self.local.set(local)); // the core is new: nobody has set this before
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it is told to end.
impl Core {
    /// Gives an order, and wakes the instance to see it.
    pub(crate) fn order(&self, order: Order) {
        self.orders.fetch_or(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Ends the life of that number, unless it is over, after the handlers that run now. Without a supervisor that is the
    /// end. An order of one life must not reach the next.
    pub(crate) fn finish_life(&self, life: u32) {
        self.order_life(life, |_| {});
    }

    /// Ends this life as a failure, after the handlers that run now.
    pub(crate) fn fail(&self, reason: StopReason) {
        let life = self.life_number();
        self.fail_life(life, reason);
    }

    /// As `fail`, unless the life of that number is over.
    pub(crate) fn fail_life(&self, life: u32, reason: StopReason) {
        self.order_life(life, |state| {
            state.failure.get_or_insert_with(|| Box::new(reason));
        });
    }

    fn order_life(&self, life: u32, note: impl FnOnce(&mut State)) {
        let mut state = self.state();
        if state.lives != life {
            return;
        }
        note(&mut state);
        // Under the lock: the life cannot end between the look and the order.
        self.orders.fetch_or(self.finishing() as u8, Ordering::AcqRel);
        drop(state);
        self.wake();
    }

    fn finishing(&self) -> Order {
        if self.supervised { Order::Finish } else { Order::Stop }
    }

    /// Takes back what ended the life before, so that another may begin. Called by the supervisor before it says the word:
    /// what it orders afterwards is for the new life, even before that has begun.
    pub(crate) fn renew(&self) {
        let mut state = self.state();
        state.failure = None;
        self.orders.fetch_and(FINAL, Ordering::AcqRel);
    }

    /// Something that this instance is linked with has ended. A failure ends this life too.
    pub(crate) fn linked_ended(&self, other: &Address, reason: &StopReason) {
        if reason.is_failure() {
            self.fail(StopReason::Error(format!("linked with {other}, which {reason}")));
        }
    }

    /// Whether it was told to begin no further message.
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.orders() > Order::Drain as u8
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.orders() == Order::Drain as u8
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.holds(Order::Kill)
    }

    /// Whether no other life will follow this one.
    pub(crate) fn is_final(&self) -> bool {
        !self.supervised || self.orders() & FINAL != 0
    }

    /// Why a life ends that was told to.
    pub(crate) fn stop_reason(&self) -> StopReason {
        if let Some(failure) = &self.state().failure {
            return (**failure).clone();
        }
        if self.holds(Order::Kill) {
            StopReason::Killed
        } else if self.host.is_shutting_down() || (self.holds(Order::Rest) && !self.is_final()) {
            StopReason::Shutdown
        } else {
            StopReason::Normal
        }
    }

    #[inline]
    fn orders(&self) -> u8 {
        self.orders.load(Ordering::Acquire)
    }

    #[inline]
    fn holds(&self, order: Order) -> bool {
        self.orders() & order as u8 != 0
    }
}

/// The instance's own side.
impl Core {
    /// Whether a life may begin: not when it was told to end for good meanwhile.
    pub(crate) fn may_live(&self) -> bool {
        self.orders() & FINAL == 0
    }

    /// Ends whatever hangs on the present life.
    pub(crate) fn end_life(&self) {
        let mut state = self.state();
        state.lives = state.lives.wrapping_add(1);
        let life = state.life.take();
        drop(state);
        if let Some(life) = life {
            life.cancel();
        }
    }

    /// Wakes the instance's task.
    pub(crate) fn wake(&self) {
        let waker = self.state().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes the waker of the instance's task; `None` when the task has ended.
    pub(crate) fn register(&self, waker: Option<Waker>) {
        let old = std::mem::replace(&mut self.state().waker, waker);
        drop(old); // outside the lock
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn mark_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Everything about the end is done.
    pub(crate) fn mark_done(&self) {
        self.done.cancel();
    }

    /// Ends when the instance has ended for good and every caller is answered. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.done.cancelled().await;
    }
}
