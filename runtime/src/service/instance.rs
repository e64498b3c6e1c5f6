//! The instance: the task that owns a service's value and its mailbox, through one life or many.
//!
//! Invariant: this task waits for its handlers, its mailbox and its supervisor's word, and for nothing else.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::config::Queued;
use crate::error::StartError;
use crate::event::{Event, StopReason};

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
use crate::service::queue::queue;
use crate::service::serve::serve;
use crate::service::turns::{ON_START, ON_STOP};

/// How an instance is reached over the network.
pub(crate) type Reach<M> = fn(&Arc<Local<M>>) -> Arc<dyn Deliver>;

/// What makes the value of each life.
pub(crate) type Factory<S> = Arc<Mutex<dyn FnMut() -> S + Send>>;

/// Starts an instance that nobody supervises: it has one life.
pub(crate) fn start<S: Service>(host: &Arc<Host>, name: Arc<str>, service: S) -> Arc<Local<S::Message>> {
    let (local, inbox) = settle::<S>(host, name, false, None);
    let end = End::new(inbox);
    host.tasks.spawn(live(service, end, host.owner()));
    local
}

/// Starts a supervised instance: after each life it waits for the word that begins the next.
pub(crate) fn start_supervised<S: Service>(
    host: &Arc<Host>,
    name: Arc<str>,
    factory: Factory<S>,
    reach: Option<Reach<S::Message>>,
    first: NextLife,
) -> Arc<Local<S::Message>> {
    let (local, inbox) = settle::<S>(host, name, true, reach);
    let end = End::new(inbox);
    host.tasks.spawn(live_again_and_again(factory, end, first, host.owner()));
    local
}

/// Makes the instance known, so that it can be called: its task has yet to be made.
fn settle<S: Service>(
    host: &Arc<Host>,
    name: Arc<str>,
    supervised: bool,
    reach: Option<Reach<S::Message>>,
) -> (Arc<Local<S::Message>>, Inbox<S::Message>) {
    let kind = const {
        &Kind { interface: S::Message::INTERFACE, methods: S::Message::METHODS, settings: S::SETTINGS }
    };
    let (entrance, exit) = queue(kind.settings.capacity(), kind.settings.overflow);
    let core = Arc::new(Core::new(host, name, kind, supervised));
    let local = Arc::new(Local::new(Arc::clone(&core), entrance));
    core.set_local(Arc::downgrade(&local.erased()));
    host.add_resident(Resident { core, deliver: reach.map(|reach| reach(&local)) });
    let inbox = Inbox::new(Arc::clone(&local), exit);
    (local, inbox)
}

/// The task of an instance with one life.
async fn live<S: Service>(
    service: S,
    mut end: End<S::Message>,
    // The node outlives its instances.
    _node: Option<Arc<dyn Any + Send + Sync>>,
) {
    let (started, _) = oneshot::channel();
    let reason = life(service, &mut end.inbox, started).await;
    end.finish(reason);
}

/// The task of a supervised instance.
async fn live_again_and_again<S: Service>(
    factory: Factory<S>,
    mut end: End<S::Message>,
    first: NextLife,
    // The node outlives its instances.
    _node: Option<Arc<dyn Any + Send + Sync>>,
) {
    let core = Arc::clone(end.inbox.local().core());
    let mut next = Some(first);
    while let Some(NextLife { started, ended }) = next {
        end.begin(ended);
        if !core.begin_life() {
            return end.finish(core.stop_reason());
        }
        let reason = match make(&core, &factory) {
            Ok(service) => life(service, &mut end.inbox, started).await,
            Err((reason, error)) => {
                drop(started.send(Err(error))); // who waited for this life may have gone
                reason
            }
        };
        if core.is_final() {
            return end.finish(reason);
        }
        next = match end.rest::<S>(reason) {
            Some(next) => wait_for_word(&core, next).await,
            None => None,
        };
    }
}

/// Waits for the word that begins the next life; `None` if there is none.
async fn wait_for_word(core: &Core, mut next: oneshot::Receiver<NextLife>) -> Option<NextLife> {
    let mut registered = None;
    poll_fn(|cx| {
        register(core, &mut registered, cx);
        if core.is_final() { Poll::Ready(None) } else { next.poll_unpin(cx).map(Result::ok) }
    })
    .await
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

/// One life, whatever happens in it.
async fn life<S: Service>(
    service: S,
    inbox: &mut Inbox<S::Message>,
    started: oneshot::Sender<Result<(), StartError>>,
) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    let living = AssertUnwindSafe(until_killed(&core, run(service, inbox, started))).catch_unwind();
    let reason = match living.await {
        Ok(Some(reason)) => reason,
        Ok(None) => core.stop_reason(),
        // A panic outside of every handler and hook: the service's `Drop`.
        Err(panic) => {
            core.host().count_panic();
            StopReason::Panicked(dispatch::panic_message(&*panic))
        }
    };
    core.end_life();
    inbox.refuse_reentrant();
    reason
}

/// Runs a life; `None` if it was killed, after everything in it was dropped.
async fn until_killed<F: Future>(core: &Core, life: F) -> Option<F::Output> {
    let mut life = pin!(Some(life));
    let mut registered = None;
    poll_fn(|cx| {
        // Before anything is looked at, so that no order is missed.
        register(core, &mut registered, cx);
        if core.is_killed() {
            life.set(None);
        }
        match life.as_mut().as_pin_mut() {
            Some(life) => life.poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    })
    .await
}

/// Makes orders wake the task that polls.
#[inline]
fn register(core: &Core, registered: &mut Option<Waker>, cx: &Context<'_>) {
    if !registered.as_ref().is_some_and(|registered| registered.will_wake(cx.waker())) {
        *registered = Some(cx.waker().clone());
        core.register(Some(cx.waker().clone()));
    }
}

/// What must happen at the end of an instance, also when its task is dropped.
struct End<M: Message> {
    inbox: Inbox<M>,
    /// Why the present life ended. A task that is dropped never says.
    reason: StopReason,
    /// Whether the end of the present life was told.
    told: bool,
    /// The supervisor's ear. Dropped last: then everything about the end is done.
    ended: Option<oneshot::Sender<Ended>>,
}

impl<M: Message> End<M> {
    fn new(inbox: Inbox<M>) -> Self {
        Self { inbox, reason: StopReason::Killed, told: false, ended: None }
    }

    /// A life begins.
    fn begin(&mut self, ended: oneshot::Sender<Ended>) {
        (self.reason, self.told, self.ended) = (StopReason::Killed, false, Some(ended));
    }

    /// The last life has ended.
    fn finish(mut self, reason: StopReason) {
        self.reason = reason;
    }

    /// A life has ended, and another may come. Gives where its word will be heard, unless nobody can say it.
    fn rest<S: Service<Message = M>>(&mut self, reason: StopReason) -> Option<oneshot::Receiver<NextLife>> {
        self.reason = reason.clone();
        if S::SETTINGS.queued == Queued::Refuse {
            self.inbox.refuse_queued();
        }
        self.tell();
        // After the callers were answered: a `Down` comes after all earlier messages.
        self.inbox.local().core().watchers().fire(&self.reason);
        let (next, hears) = oneshot::channel();
        self.ended.take()?.send(Ended { reason, next }).ok()?;
        Some(hears)
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
            reason: self.reason.clone(),
        });
    }
}

impl<M: Message> Drop for End<M> {
    fn drop(&mut self) {
        self.inbox.close_abruptly();
        let core = Arc::clone(self.inbox.local().core());
        core.end_life();
        core.register(None); // a waker keeps the task's memory
        core.host().remove_resident(core.address().instance);
        self.tell();
        // After the callers were answered: a `Down` comes after all earlier messages.
        core.watchers().end(&self.reason);
        core.mark_done();
    }
}

/// A life: the hooks, and the messages between them.
async fn run<S: Service>(
    mut service: S,
    inbox: &mut Inbox<S::Message>,
    started: oneshot::Sender<Result<(), StartError>>,
) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    let hook_scope = |hook| Scope::new(&core, hook, Meta::default());
    let context = hook_scope(&ON_START).context();

    let outcome = dispatch::hook(hook_scope(&ON_START), service.on_start(&context)).await;
    if let Some(reason) = report_start(&core, outcome, started) {
        return reason;
    }
    let mut reason = serve(&mut service, inbox).await;
    // What is queued is answered before the hook: nobody waits for a service's own tidying.
    if core.is_final() {
        inbox.close();
    }
    if matches!(reason, StopReason::Panicked(_)) {
        core.host().count_panic();
        return reason; // the state may be broken: no more of its code but `Drop`
    }
    if let Err(message) =
        dispatch::hook(hook_scope(&ON_STOP), service.on_stop(&context, reason.clone())).await
    {
        core.host().count_panic();
        reason = StopReason::Panicked(message);
    }
    reason
}

/// Tells the starter how the hook ended; gives the reason to end if it failed.
fn report_start(
    core: &Core,
    outcome: Result<Result<(), StartFailure>, String>,
    started: oneshot::Sender<Result<(), StartError>>,
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
    drop(started.send(result)); // nobody waits after `spawn`
    reason
}
