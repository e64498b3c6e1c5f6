//! The instance: the task that owns a service's value and its mailbox, through one life or many.
//!
//! Invariant: this task waits for its handlers, its mailbox and its supervisor's word, and for nothing else.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use crate::config::Queued;
use crate::error::StartError;
use crate::event::{Event, StopReason};
use crate::id::{Address, InstanceId};

use crate::service::context::Scope;
use crate::service::core::{Core, Kind};
use crate::service::definition::{Service, StartFailure};
use crate::service::deliver::Deliver;
use crate::service::dispatch;
use crate::service::host::{Host, Resident};
use crate::service::inbox::Inbox;
use crate::service::life::{Ended, NextLife};
use crate::service::mailbox::Local;
use crate::service::message::{Message, Meta};
use crate::service::monitor::metered;
use crate::service::queue::queue;
use crate::service::serve::serve;
use crate::service::turns::{ON_START, ON_STOP};

/// How an instance is reached over the network.
pub(crate) type Reach<M> = fn(&Arc<Local<M>>) -> Arc<dyn Deliver>;

/// What makes the value of each life.
pub(crate) type Factory<S> = Arc<Mutex<dyn FnMut() -> S + Send>>;

/// Starts an instance that nobody supervises: it has one life.
pub(crate) fn start<S: Service>(host: &Arc<Host>, name: Arc<str>, service: S) -> Arc<Local<S::Message>> {
    let (local, inbox) = settle::<S>(host, host.next_address(), name, false, None, false);
    host.tasks.spawn(metered(local.core(), live(End::new(inbox, Some(service)))));
    local
}

/// Starts an own instance of the node under its number, which peers reach without that it has a name. It must not run.
pub(crate) fn start_own<S: Service>(
    host: &Arc<Host>,
    instance: InstanceId,
    service: S,
    reach: Reach<S::Message>,
) {
    let name = S::SETTINGS.name.unwrap_or(<S::Message as Message>::INTERFACE);
    let address = Address { instance, ..host.own_address() };
    let (local, inbox) = settle::<S>(host, address, name.into(), false, Some(reach), false);
    host.tasks.spawn(metered(local.core(), live(End::new(inbox, Some(service)))));
}

/// Starts a supervised instance: after each life it waits for the word that begins the next.
pub(crate) fn start_supervised<S: Service>(
    host: &Arc<Host>,
    name: Arc<str>,
    factory: Factory<S>,
    reach: Option<Reach<S::Message>>,
    first: NextLife,
) -> Arc<Local<S::Message>> {
    let (local, inbox) = settle::<S>(host, host.next_address(), name, true, reach, reach.is_some());
    host.tasks.spawn(metered(local.core(), live_again_and_again(factory, End::new(inbox, None), first)));
    local
}

/// Makes the instance known, so that it can be called: its task has yet to be made.
fn settle<S: Service>(
    host: &Arc<Host>,
    address: Address,
    name: Arc<str>,
    supervised: bool,
    reach: Option<Reach<S::Message>>,
    is_named: bool,
) -> (Arc<Local<S::Message>>, Inbox<S::Message>) {
    let kind = const {
        &Kind { interface: S::Message::INTERFACE, methods: S::Message::METHODS, settings: S::SETTINGS }
    };
    let (entrance, exit) = queue(kind.settings.capacity(), kind.settings.overflow);
    let core = Arc::new(Core::new(host, address, name, kind, supervised));
    let local = Arc::new(Local::new(Arc::clone(&core), entrance));
    core.set_local(Arc::downgrade(&local.erased()));
    let deliver = reach.map(|reach| reach(&local));
    host.add_resident(Resident { core, deliver, is_named });
    let inbox = Inbox::new(Arc::clone(&local), exit);
    (local, inbox)
}

/// The task of an instance with one life.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` stores a `mut` argument twice, and there are many of these"
)]
fn live<S: Service>(mut end: End<S>) -> impl Future<Output = ()> + Send {
    async move {
        let reason = life(&mut end.service, &mut end.inbox, None).await;
        end.note(reason);
        end.inbox.close();
    }
}

/// The task of a supervised instance.
#[expect(clippy::manual_async_fn, reason = "as above")]
fn live_again_and_again<S: Service>(
    factory: Factory<S>,
    mut end: End<S>,
    first: NextLife,
) -> impl Future<Output = ()> + Send {
    async move {
        let core = Arc::clone(end.inbox.local().core());
        let mut next = Some(first);
        while let Some(NextLife { started, ended }) = next {
            end.ended = Some(ended);
            if !core.begin_life() {
                end.note(core.stop_reason());
                break;
            }
            end.begin();
            let reason = match make(&core, &factory) {
                Ok(service) => {
                    end.service = Some(service);
                    life(&mut end.service, &mut end.inbox, Some(started)).await
                }
                Err((reason, error)) => {
                    core.end_life();
                    drop(started.send(Err(error))); // who waited for this life may have gone
                    reason
                }
            };
            end.note(reason);
            if core.is_final() {
                break;
            }
            next = match end.rest() {
                Some(next) => wait_for_word(&core, next).await,
                None => None,
            };
        }
        // Not left to the drop of `end`: that cannot wait for senders who are about to put their message into the queue.
        end.inbox.close();
    }
}

/// Waits for the word that begins the next life; `None` if there is none.
pub(super) async fn wait_for_word(core: &Core, Word { mut next, waits: _waits }: Word) -> Option<NextLife> {
    let mut registered = None;
    poll_fn(|cx| {
        register(core, &mut registered, cx);
        if core.is_final() { Poll::Ready(None) } else { next.poll_unpin(cx).map(Result::ok) }
    })
    .await
}

/// Where the word for the next life will be heard.
pub(super) struct Word {
    pub(super) next: oneshot::Receiver<NextLife>,
    /// Dropped when nobody waits for it any more.
    pub(super) waits: oneshot::Sender<()>,
}

/// Makes the value of a life. A factory that panics is a start that fails.
fn make<S: Service>(core: &Core, factory: &Factory<S>) -> Result<S, (StopReason, StartError)> {
    let made = catch_unwind(AssertUnwindSafe(|| {
        let mut factory = factory.lock().unwrap_or_else(PoisonError::into_inner);
        factory()
    }));
    made.map_err(|panic| {
        core.host().count_panic();
        let message = dispatch::panic_message(&*panic);
        let error = StartError::Panicked { service: core.service().to_string(), message: message.clone() };
        (StopReason::Panicked(message), error)
    })
}

/// One life, whatever happens in it. Afterwards there is no service any more.
async fn life<S: Service>(
    service: &mut Option<S>,
    inbox: &mut Inbox<S::Message>,
    started: Option<Starter>,
) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    let ended = AssertUnwindSafe(UntilKilled::new(&core, run(service, inbox, started))).catch_unwind().await;
    // A service's `Drop` may panic.
    let dropped = catch_unwind(AssertUnwindSafe(|| *service = None));
    let reason = match ended.and_then(|ended| dropped.map(|()| ended)) {
        Ok(Some(reason)) => reason,
        Ok(None) => core.stop_reason(),
        Err(panic) => {
            core.host().count_panic();
            StopReason::Panicked(dispatch::panic_message(&*panic))
        }
    };
    core.end_life();
    inbox.refuse_reentrant();
    reason
}

pin_project! {
    /// Runs a life; gives `None` if it was killed, after everything in it was dropped.
    pub(super) struct UntilKilled<'c, F> {
        #[pin]
        life: Option<F>,
        core: &'c Core,
        registered: Option<Waker>,
    }
}

impl<'c, F> UntilKilled<'c, F> {
    pub(super) fn new(core: &'c Core, life: F) -> Self {
        Self { life: Some(life), core, registered: None }
    }
}

impl<F: Future> Future for UntilKilled<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // Before anything is looked at, so that no order is missed.
        register(this.core, this.registered, cx);
        if this.core.is_killed() {
            this.life.set(None);
        }
        match this.life.as_pin_mut() {
            Some(life) => life.poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    }
}

/// Makes orders wake the task that polls.
#[inline]
fn register(core: &Core, registered: &mut Option<Waker>, cx: &Context<'_>) {
    if !registered.as_ref().is_some_and(|registered| registered.will_wake(cx.waker())) {
        *registered = Some(cx.waker().clone());
        core.register(Some(cx.waker().clone()));
    }
}

/// An instance, and what must happen at its end, also when its task is dropped.
struct End<S: Service> {
    /// The value of the present life.
    service: Option<S>,
    inbox: Inbox<S::Message>,
    /// Why the present life ended. A task that is dropped never says, and is `Killed`.
    reason: Option<Box<StopReason>>,
    /// Whether the end of the present life was told.
    told: bool,
    /// The supervisor's ear. Dropped last: then everything about the end is done.
    ended: Option<oneshot::Sender<Ended>>,
    /// The node outlives its instances.
    _node: Option<Arc<dyn Any + Send + Sync>>,
}

impl<S: Service> End<S> {
    fn new(inbox: Inbox<S::Message>, service: Option<S>) -> Self {
        let node = inbox.local().host().owner();
        Self { service, inbox, reason: None, told: false, ended: None, _node: node }
    }

    /// A life begins.
    fn begin(&mut self) {
        (self.reason, self.told) = (None, false);
    }

    /// A life has ended, for this reason.
    fn note(&mut self, reason: StopReason) {
        self.reason = Some(Box::new(reason));
    }

    fn reason(&self) -> StopReason {
        self.reason.as_ref().map_or(StopReason::Killed, |reason| (**reason).clone())
    }

    /// A life has ended, and another may come. Gives where its word will be heard, unless nobody can say it.
    fn rest(&mut self) -> Option<Word> {
        if S::SETTINGS.queued == Queued::Refuse {
            self.inbox.refuse_queued();
        }
        self.tell();
        let core = self.inbox.local().core();
        let reason = self.reason();
        core.end_watches(&reason);
        // After the callers were answered: a `Down` comes after all earlier messages.
        core.watchers().fire(&reason);
        let (word, next) = oneshot::channel();
        let (waits, ends) = oneshot::channel();
        self.ended.take()?.send(Ended { reason, next: word, waits: ends }).ok()?;
        Some(Word { next, waits })
    }

    /// Tells the end of a life, once.
    fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let core = self.inbox.local().core();
        core.host().publish(Event::InstanceEnded {
            address: core.address().clone(),
            service: core.service().to_string(),
            reason: self.reason(),
        });
    }
}

impl<S: Service> Drop for End<S> {
    fn drop(&mut self) {
        // Only a task that is cut off still has its service.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.service = None)) {
            self.note(StopReason::Panicked(dispatch::panic_message(&*panic)));
        }
        self.inbox.close_abruptly();
        let core = Arc::clone(self.inbox.local().core());
        core.end_life();
        core.note_gone();
        core.register(None); // a waker keeps the task's memory
        core.host().remove_resident(core.address().instance);
        self.tell();
        let reason = self.reason();
        core.end_watches(&reason);
        // After the callers were answered: a `Down` comes after all earlier messages.
        core.watchers().end(&reason);
        core.mark_done();
    }
}

/// A life: the hooks, and the messages between them.
async fn run<S: Service>(
    service: &mut Option<S>,
    inbox: &mut Inbox<S::Message>,
    started: Option<Starter>,
) -> StopReason {
    let Some(service) = service else { return StopReason::Killed }; // a life begins with a service
    let core = Arc::clone(inbox.local().core());
    let scope = |hook| Scope::new(&core, hook, Meta::default());

    let outcome = {
        let context = scope(&ON_START).context();
        dispatch::hook(scope(&ON_START), service.on_start(&context)).await
    };
    if let Some(reason) = report_start(&core, outcome, started) {
        return reason;
    }
    let mut reason = serve(service, inbox).await;
    // What is queued is answered before the hook: nobody waits for a service's own tidying.
    if core.is_final() {
        inbox.close();
    }
    if matches!(reason, StopReason::Panicked(_)) {
        core.host().count_panic();
        return reason; // the state may be broken: no more of its code but `Drop`
    }
    let context = scope(&ON_STOP).context();
    let stopped = dispatch::hook(scope(&ON_STOP), service.on_stop(&context, reason.clone())).await;
    if let Err(message) = stopped {
        core.host().count_panic();
        reason = StopReason::Panicked(message);
    }
    reason
}

/// Who waits for a life to be up.
type Starter = oneshot::Sender<Result<(), StartError>>;

/// Tells the starter how the hook ended; gives the reason to end if it failed.
fn report_start(
    core: &Core,
    outcome: Result<Result<(), StartFailure>, String>,
    started: Option<Starter>,
) -> Option<StopReason> {
    let service = core.service().to_string();
    let (result, reason) = match outcome {
        Ok(Ok(())) => (Ok(()), None),
        Ok(Err(failure)) => {
            let text = failure.0.to_string();
            (Err(StartError::Refused { service, source: failure.0 }), Some(StopReason::Error(text)))
        }
        Err(message) => {
            core.host().count_panic();
            (
                Err(StartError::Panicked { service, message: message.clone() }),
                Some(StopReason::Panicked(message)),
            )
        }
    };
    if let Some(started) = started {
        drop(started.send(result)); // who waited may have gone
    }
    reason
}
