//! What everybody may know of an instance, whatever messages it speaks, and how it is told to end.
//!
//! An instance has one address and, under a supervisor, many lives: each begins with a fresh value of the service.
//!
//! Invariant: nobody waits while holding the lock.

use std::any::Any;
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::task::Waker;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::CallError;
use crate::event::StopReason;
use crate::id::Address;
use crate::service::definition::Settings;
use crate::service::gauge::Gauge;
use crate::service::handle::{Handle, Target};
use crate::service::host::Host;
use crate::service::mailbox::{Local, Mailbox};
use crate::service::message::{Message, Method};
use crate::service::monitor;
use crate::service::turns::Turns;
use crate::service::watched::Watched;
use crate::service::watchers::Watchers;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, MutexGuard};

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
    kind: &'static Kind,
    host: Arc<Host>,
    /// Whether a supervisor decides what follows a life.
    supervised: bool,
    /// The [`Order`]s that hold, as a set of bits.
    orders: AtomicU8,
    ended: AtomicBool,
    state: Mutex<State>,
    watchers: Watchers,
    turns: Turns,
    gauge: Gauge,
    monitored: monitor::Place,
    /// Whether everything about the end is done.
    is_done: AtomicBool,
    /// Told when it is.
    done: Notify,
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
    /// Whether the present life has begun and has not ended. Nothing else can fail.
    is_living: bool,
    /// What the present life watches.
    watched: Option<Box<Watched>>,
}

impl State {
    fn living(&self) -> Option<u32> {
        self.is_living.then_some(self.lives)
    }
}

impl Core {
    pub(crate) fn new(
        host: &Arc<Host>,
        address: Address,
        service: Arc<str>,
        kind: &'static Kind,
        supervised: bool,
    ) -> Self {
        let monitored = monitor::Place::new(&host.monitor, &service, kind);
        Self {
            address,
            service,
            kind,
            host: Arc::clone(host),
            supervised,
            orders: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            // Without a supervisor there is no word that begins its life.
            state: Mutex::new(State { is_living: !supervised, ..State::default() }),
            watchers: Watchers::default(),
            turns: Turns::default(),
            gauge: Gauge::default(),
            monitored,
            is_done: AtomicBool::new(false),
            done: Notify::new(),
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

    /// Where its figures are.
    #[inline]
    pub(super) fn monitored(&self) -> &monitor::Place {
        &self.monitored
    }

    /// How many messages it has to do: those that wait, and those whose handlers run.
    pub(crate) fn load(&self) -> usize {
        self.mailbox().map_or(0, |mailbox| mailbox.waiting()) + self.turns.count()
    }

    /// Looks how full the mailbox is.
    pub(crate) fn note_waiting(&self) {
        if let Some(local) = self.local.get().and_then(Weak::upgrade) {
            let waiting = local.waiting();
            self.gauge.note(self, waiting);
            self.note_most_waiting(waiting);
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
        let local: Arc<dyn Any + Send + Sync> = self.mailbox()?;
        Some(Handle::new(Target::Local(local.downcast::<Local<M>>().ok()?)))
    }

    /// The mailbox around this core. There is one as long as the instance runs.
    pub(crate) fn mailbox(&self) -> Option<Arc<dyn Mailbox>> {
        self.local.get()?.upgrade()
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
    /// Gives an order, and wakes the instance to see it.
    pub(crate) fn order(&self, order: Order) {
        self.orders.fetch_or(order as u8, Ordering::AcqRel);
        self.wake();
    }

    /// Ends the life of that number, unless it is over, after the handlers that run now. Without a supervisor that is the
    /// end. An order of one life must not reach the next.
    pub(crate) fn finish_life(&self, life: u32) {
        let state = self.state();
        if state.lives != life {
            return;
        }
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
        self.orders.fetch_and(FINAL, Ordering::AcqRel);
    }

    /// Ends a life as a failure, after the handlers that run now, unless it has ended already.
    pub(crate) fn fail(&self, life: u32, reason: StopReason) {
        let mut state = self.state();
        if state.lives != life || !state.is_living {
            return;
        }
        state.failure.get_or_insert_with(|| Box::new(reason));
        // Under the lock, so that the order and the watchers' word are for this life and no other.
        self.orders.fetch_or(self.finishing() as u8, Ordering::AcqRel);
        self.watchers.doom();
        drop(state);
        self.wake();
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
    /// Begins another life, unless it was told to end for good meanwhile.
    pub(crate) fn begin_life(&self) -> bool {
        let mut state = self.state();
        state.is_living = self.orders() & FINAL == 0;
        state.is_living
    }

    /// Ends whatever hangs on the present life.
    pub(crate) fn end_life(&self) {
        let mut state = self.state();
        state.lives = state.lives.wrapping_add(1);
        state.is_living = false;
        let (life, _failure) = (state.life.take(), state.failure.take());
        drop(state);
        self.note_cut_off(&self.turns.end_all());
        if let Some(life) = life {
            life.cancel();
        }
    }

    /// The number of the life that goes on. Between two lives there is none: whoever took the number of the next one
    /// there could fail that for what happened before it.
    pub(crate) fn living(&self) -> Option<u32> {
        self.state().living()
    }

    /// Runs `f` with the number of the life that goes on and the place of what it watches, under the lock.
    pub(crate) fn with_watched<T>(&self, f: impl FnOnce(Option<u32>, &mut Option<Box<Watched>>) -> T) -> T {
        let state = &mut *self.state();
        f(state.living(), &mut state.watched)
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
        self.is_done.store(true, Ordering::Release);
        self.done.notify_waiters();
    }

    /// Ends when the instance has ended for good and every caller is answered. Cancel safe.
    pub(crate) async fn ended(&self) {
        let done = self.done.notified(); // before the look: from here on it misses nothing
        if !self.is_done.load(Ordering::Acquire) {
            done.await;
        }
    }
}
