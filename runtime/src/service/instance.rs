//! The instance: the task that owns a service's value and runs its handlers.
//!
//! Messages start in the order in which they arrive. An `&mut self` handler runs alone; `&self` handlers run beside one
//! another, up to the service's `concurrency`. The borrow checker holds the rule: the running `&self` handlers are
//! futures that borrow the value, and the value cannot be borrowed mutably before they are gone.
//!
//! Invariant: this task waits for its handlers and its mailbox, and for nothing else.

use std::any::Any;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Waker;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{CallError, StartError};
use crate::event::{Event, StopReason};
use crate::id::Address;
use crate::service::concurrent::{Concurrent, Step};
use crate::service::context::{LazyToken, Scope};
use crate::service::definition::{Service, StartFailure};
use crate::service::deliver::Deliver;
use crate::service::dispatch;
use crate::service::handle::{Handle, Target};
use crate::service::host::{Host, Resident};
use crate::service::inbox::Inbox;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Message, Meta, Method, Receiver};
use crate::service::watchers::Watchers;

/// What everybody may know of an instance, whatever messages it speaks.
#[derive(Debug)]
pub(crate) struct Core {
    address: Address,
    service: Arc<str>,
    interface: &'static str,
    host: Arc<Host>,
    /// Guards the waker of the instance's task, for what does not come through the mailbox.
    waker: Mutex<Option<Waker>>,
    stopping: AtomicBool,
    ended: AtomicBool,
    /// Cancelled when the instance has ended: the contexts of its handlers, and its child tasks, hang on it.
    scope: LazyToken,
    watchers: Watchers,
    /// Cancelled when everything about the end is done.
    done: CancellationToken,
    /// The [`Local`] around this core.
    local: OnceLock<Weak<dyn Any + Send + Sync>>,
}

impl Core {
    #[inline]
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The service's name.
    pub(crate) fn service(&self) -> &str {
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

    /// The token on which child tasks and handlers' contexts hang.
    pub(crate) fn scope_token(&self) -> &CancellationToken {
        self.scope.get()
    }

    /// Who is told of the instance's end.
    pub(crate) fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Something that this instance is linked with has ended. A failure ends this instance too.
    pub(crate) fn linked_ended(&self, other: &Address, reason: &StopReason) {
        if reason.is_failure() {
            tracing::debug!(address = %self.address, %other, %reason, "ends with what it is linked with");
            self.stop();
        }
    }

    /// Asks the instance to stop after the handlers that run now.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends when the instance has ended and every caller is answered. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.done.cancelled().await;
    }

    /// Wakes the instance's task.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes the waker of the instance's task.
    pub(crate) fn register(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn mark_ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(crate) fn stopped_error(&self) -> CallError {
        CallError::Stopped(format!("`{}` at {} has stopped", self.service, self.address).into())
    }

    /// A handle to this instance, if its messages are `M`.
    pub(crate) fn handle<M: Message>(&self) -> Option<Handle<M>> {
        let local = self.local.get()?.upgrade()?;
        Some(Handle::new(Target::Local(local.downcast::<Local<M>>().ok()?)))
    }

    /// Why an instance that was asked to stop stops.
    fn stop_reason(&self) -> StopReason {
        if self.host.is_shutting_down() { StopReason::Shutdown } else { StopReason::Normal }
    }
}

/// What the starter of an instance hears of its `#[on_start]` hook.
pub(crate) type Started = oneshot::Receiver<Result<(), StartError>>;

/// How an instance is reached over the network.
pub(crate) type Reach<M> = fn(&Arc<Local<M>>) -> Arc<dyn Deliver>;

/// Starts an instance. Its `#[on_start]` hook runs in its own task.
pub(crate) fn start<S: Service>(
    host: &Arc<Host>,
    service_name: Arc<str>,
    service: S,
    reach: Option<Reach<S::Message>>,
) -> (Arc<Local<S::Message>>, Started) {
    let settings = S::SETTINGS;
    let capacity = settings.mailbox.max(1);
    let (sender, receiver) = mpsc::channel(capacity);
    let core = Arc::new(Core {
        address: host.next_address(),
        service: service_name,
        interface: S::Message::INTERFACE,
        host: Arc::clone(host),
        waker: Mutex::default(),
        stopping: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        scope: LazyToken::default(),
        watchers: Watchers::default(),
        done: CancellationToken::new(),
        local: OnceLock::new(),
    });
    let local = Arc::new(Local::new(Arc::clone(&core), sender, capacity));
    // The core is new: nobody has set this before.
    drop(core.local.set(Arc::downgrade(&local.erased())));
    host.add_resident(Resident { core, deliver: reach.map(|reach| reach(&local)) });
    let inbox = Inbox::new(Arc::clone(&local), receiver);
    // Made before the task is: a task that is dropped before its first poll must end the instance too.
    let end = End { inbox, reason: StopReason::Killed };
    let (started, hears) = oneshot::channel();
    host.tasks.spawn(live(service, end, started, host.owner()));
    (local, hears)
}

/// The task of an instance: its whole life, whatever happens in it.
async fn live<S: Service>(
    service: S,
    mut end: End<S::Message>,
    started: oneshot::Sender<Result<(), StartError>>,
    // The node outlives its instances.
    _node: Option<Arc<dyn Any + Send + Sync>>,
) {
    let core = Arc::clone(end.inbox.local().core());
    end.reason = match AssertUnwindSafe(run(service, &mut end.inbox, started)).catch_unwind().await {
        Ok(reason) => reason,
        // A panic outside of every handler and hook: the service's `Drop`.
        Err(panic) => {
            core.host.count_panic();
            StopReason::Panicked(dispatch::panic_message(&*panic))
        }
    };
}

/// What must happen at the end of an instance, also when its task is dropped.
struct End<M: Message> {
    inbox: Inbox<M>,
    reason: StopReason,
}

impl<M: Message> Drop for End<M> {
    fn drop(&mut self) {
        self.inbox.close_abruptly();
        let core = self.inbox.local().core();
        core.scope.cancel();
        core.host.remove_resident(core.address.instance);
        core.host.publish(Event::InstanceEnded {
            address: core.address.clone(),
            service: core.service.to_string(),
            reason: self.reason.clone(),
        });
        // After the callers were answered: a `Down` comes after all earlier messages.
        core.watchers.end(&self.reason);
        core.done.cancel();
    }
}

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
    inbox.close();
    if matches!(reason, StopReason::Panicked(_)) {
        core.host.count_panic();
        return reason; // the state may be broken: no more of its code but `Drop`
    }
    if let Err(message) =
        dispatch::hook(hook_scope(&ON_STOP), service.on_stop(&context, reason.clone())).await
    {
        core.host.count_panic();
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
    let service = core.service.to_string();
    let (result, reason) = match outcome {
        Ok(Ok(())) => (Ok(()), None),
        Ok(Err(failure)) => {
            let text = failure.0.to_string();
            (Err(StartError::Refused { service, source: failure.0 }), Some(StopReason::Error(text)))
        }
        Err(message) => {
            core.host.count_panic();
            (
                Err(StartError::Panicked { service, message: message.clone() }),
                Some(StopReason::Panicked(message)),
            )
        }
    };
    drop(started.send(result)); // nobody waits after `spawn`
    reason
}

/// The hooks, as links of a chain of calls: the instance waits for them as for an exclusive handler.
static ON_START: Method = Method::new("on_start", 0, 0, Receiver::Exclusive);
static ON_STOP: Method = Method::new("on_stop", 0, 0, Receiver::Exclusive);

/// Runs messages until the instance is to end.
async fn serve<S: Service>(service: &mut S, inbox: &mut Inbox<S::Message>) -> StopReason {
    let core = Arc::clone(inbox.local().core());
    let scope_of = |method, meta| Scope::new(&core, method, meta);
    let mut alone = None;
    loop {
        let envelope = match alone.take() {
            Some(envelope) => envelope,
            None => match poll_fn(|cx| inbox.poll_next(cx)).await {
                Some(envelope) => envelope,
                None => return core.stop_reason(),
            },
        };
        let method = envelope.message.method();
        if method.is_exclusive() {
            let scope = scope_of(method, envelope.meta);
            let mut handler = pin!(service.run_exclusive(envelope.message, scope));
            let outcome = poll_fn(|cx| inbox.poll_beside(handler.as_mut(), cx)).await;
            if let Some(message) = outcome.panic() {
                return StopReason::Panicked(message);
            }
            continue;
        }
        // `&self` handlers: they borrow the service until all of them have ended.
        let mut first = pin!(Some(service.run_shared(envelope.message, scope_of(method, envelope.meta))));
        let mut concurrent = Concurrent::new(S::SETTINGS.concurrency);
        alone = loop {
            match poll_fn(|cx| concurrent.poll(cx, first.as_mut(), inbox)).await {
                Step::Start(Envelope { message, meta }) => {
                    let method = message.method();
                    let handler = service.run_shared(message, scope_of(method, meta));
                    if first.is_none() && concurrent.is_empty() {
                        first.set(Some(handler));
                    } else {
                        concurrent.push(handler);
                    }
                }
                Step::Alone(envelope) => break Some(envelope),
                Step::Stop => return core.stop_reason(),
                Step::Panicked(message) => return StopReason::Panicked(message),
            }
        };
    }
}
