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
use crate::service::definition::Settings;
use crate::service::gauge::Gauge;
use crate::service::handle::{Handle, Target};
use crate::service::host::Host;
use crate::service::mailbox::Local;
use crate::service::message::{Message, Method};
use crate::service::turns::Turns;
use crate::service::watchers::Watchers;

/// What an instance was told to do. Only ever raised within a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Order {
    /// Nothing: go on.
    Go,
    /// Take nothing new, run what is queued, then end for good.
    Drain,
    /// End this life, by its own wish. A supervisor decides whether another follows.
    Finish,
    /// End this life, by its supervisor's wish. What is queued waits for the next.
    Rest,
    /// End for good. What is queued is answered `Stopped`.
    Stop,
    /// End this life at once: drop its handlers at their next await point.
    Kill,
}

impl Order {
    fn from_u8(order: u8) -> Self {
        [Self::Go, Self::Drain, Self::Finish, Self::Rest, Self::Stop]
            .into_iter()
            .find(|known| *known as u8 == order)
            .unwrap_or(Self::Kill)
    }

    /// Whether no life follows, whatever a supervisor says.
    fn is_final(self) -> bool {
        matches!(self, Self::Drain | Self::Stop)
    }
}

/// What everybody may know of an instance.
#[derive(Debug)]
pub(crate) struct Core {
    address: Address,
    service: Arc<str>,
    kind: &'static Kind,
    host: Arc<Host>,
    /// Whether a supervisor decides what follows a life.
    supervised: bool,
    order: AtomicU8,
    ended: AtomicBool,
    state: Mutex<State>,
    watchers: Watchers,
    turns: Turns,
    gauge: Gauge,
    /// Cancelled when everything about the end is done.
    done: CancellationToken,
    /// The [`Local`] around this core.
    local: OnceLock<Weak<dyn Mailbox>>,
}

/// What all instances of a service have in common.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) interface: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) settings: Settings,
}

/// A mailbox, whatever messages are in it.
pub(crate) trait Mailbox: Any + Send + Sync {
    /// How many messages wait.
    fn waiting(&self) -> usize;
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
    pub(crate) fn new(host: &Arc<Host>, service: Arc<str>, kind: &'static Kind, supervised: bool) -> Self {
        Self {
            address: host.next_address(),
            service,
            kind,
            host: Arc::clone(host),
            supervised,
            order: AtomicU8::new(Order::Go as u8),
            ended: AtomicBool::new(false),
            state: Mutex::default(),
            watchers: Watchers::default(),
            turns: Turns::default(),
            gauge: Gauge::default(),
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
        self.kind.interface
    }

    /// The methods of that interface.
    pub(crate) fn methods(&self) -> &'static [Method] {
        self.kind.methods
    }

    #[inline]
    pub(crate) fn settings(&self) -> &'static Settings {
        &self.kind.settings
    }

    /// Which handlers run.
    #[inline]
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// How full the mailbox is.
    #[inline]
    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Looks how full the mailbox is.
    pub(crate) fn note_waiting(&self) {
        if let Some(local) = self.local.get().and_then(Weak::upgrade) {
            self.gauge.note(self, local.waiting());
        }
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
        let local: Arc<dyn Any + Send + Sync> = self.local.get()?.upgrade()?;
        Some(Handle::new(Target::Local(local.downcast::<Local<M>>().ok()?)))
    }

    /// Notes the mailbox around this core.
    pub(crate) fn set_local(&self, local: Weak<dyn Mailbox>) {
        drop(self.local.set(local)); // the core is new: nobody has set this before
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How it is told to end.
impl Core {
    /// Raises the order, and wakes the instance to see it.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Ends this life after the handlers that run now. Without a supervisor that is the end.
    pub(crate) fn finish(&self) {
        self.order(if self.supervised { Order::Finish } else { Order::Stop });
    }

    /// Ends this life as a failure, after the handlers that run now.
    pub(crate) fn fail(&self, reason: StopReason) {
        self.state().failure.get_or_insert_with(|| Box::new(reason));
        self.finish();
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
        self.order.load(Ordering::Acquire) > Order::Drain as u8
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Drain as u8
    }

    #[inline]
    pub(crate) fn is_killed(&self) -> bool {
        self.order.load(Ordering::Acquire) == Order::Kill as u8
    }

    /// Whether no other life will follow this one.
    pub(crate) fn is_final(&self) -> bool {
        !self.supervised || self.current_order().is_final()
    }

    /// Why a life ends that was told to.
    pub(crate) fn stop_reason(&self) -> StopReason {
        if let Some(failure) = &self.state().failure {
            return (**failure).clone();
        }
        match self.current_order() {
            Order::Kill => StopReason::Killed,
            Order::Rest => StopReason::Shutdown,
            _ if self.host.is_shutting_down() => StopReason::Shutdown,
            _ => StopReason::Normal,
        }
    }

    fn current_order(&self) -> Order {
        Order::from_u8(self.order.load(Ordering::Acquire))
    }
}

/// The instance's own side.
impl Core {
    /// Begins another life, unless it was told to end for good meanwhile.
    pub(crate) fn begin_life(&self) -> bool {
        self.state().failure = None;
        let again = |order| (!Order::from_u8(order).is_final()).then_some(Order::Go as u8);
        self.order.fetch_update(Ordering::AcqRel, Ordering::Acquire, again).is_ok()
    }

    /// Ends whatever hangs on the present life.
    pub(crate) fn end_life(&self) {
        let mut state = self.state();
        state.lives = state.lives.wrapping_add(1);
        let life = state.life.take();
        drop(state);
        self.turns.end_all();
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
