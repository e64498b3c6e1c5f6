//! What a handler knows about the message that it handles, and what its own calls inherit from it.
//!
//! The scope of the running handler is ambient, for the handler's polls alone, so that a call made inside a handler
//! inherits the deadline and the chain of callers without an argument.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::event::StopReason;
use crate::id::{Address, NodeId};
use crate::port::{Link, WatchId};
use crate::service::chain::Chain;
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::dispatch::panic_message;
use crate::service::handle::ServiceHandle;
use crate::service::host::Host;
use crate::service::message::{Meta, Method};
use crate::service::monitor::metered_child;
use crate::service::spans::{self, HandlerSpan, Trace};
use crate::service::watch::Watching;

thread_local! {
    /// The scope of the handler that this thread is polling. Set and put back by [`enter`] alone.
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Who made a call.
#[derive(Clone, Debug, Default)]
pub(crate) enum Caller {
    /// Somebody on this node.
    #[default]
    Here,
    /// A peer, over this connection.
    Peer(Arc<Link>),
}

/// What one message brings to its handler.
#[derive(Clone, Debug)]
pub struct Scope {
    core: Arc<Core>,
    method: &'static Method,
    deadline: Option<Tick>,
    caller: Caller,
    chain: Chain,
}

/// What a call inherits from the handler that makes it.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub(crate) deadline: Option<Instant>,
    pub(crate) chain: Chain,
}

impl Inherited {
    /// When a call ends that is made now: at its own deadline, or that of the handler that makes it, whichever comes first.
    #[inline]
    pub(crate) fn deadline(&self, now: Tick, timeout: Option<Duration>, host: &Host) -> Tick {
        let own = now.after(timeout.unwrap_or(host.call_timeout()));
        self.deadline.map_or(own, |parent| host.deadlines.tick(parent).min(own))
    }
}

impl Scope {
    /// The scope of a message's handler; of a hook, if nothing travels beside it.
    #[inline]
    pub(crate) fn new(core: &Arc<Core>, method: &'static Method, mut meta: Meta) -> Self {
        if meta.chain.trace().is_some() {
            spans::begin_handler(core, method, &mut meta);
        }
        let Meta { deadline, caller, chain } = meta;
        Self { core: Arc::clone(core), method, deadline, caller, chain }
    }

    /// The context that the handler gets.
    pub fn context(&self) -> Context {
        Context { scope: self.clone(), life: self.core.life_number(), cancelled: OnceLock::new() }
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// Whether the caller is on this node.
    #[inline]
    pub(crate) fn is_from_here(&self) -> bool {
        matches!(self.caller, Caller::Here)
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    #[inline]
    pub(crate) fn method(&self) -> &'static Method {
        self.method
    }

    /// The handlers that wait for this one.
    #[inline]
    pub(crate) fn chain(&self) -> &Chain {
        self.chain.untraced()
    }

    /// The handler's span, if spans are wanted.
    #[inline]
    pub(crate) fn span(&self) -> Option<&HandlerSpan> {
        match self.chain.trace()? {
            Trace::Handler(span) => Some(span),
            Trace::Message(..) => None,
        }
    }

    /// `service.method`, for errors.
    pub(crate) fn handler(&self) -> String {
        format!("{}.{}", self.core.interface(), self.method.name())
    }
}

/// Runs `f` with the scope as the ambient one, inside of the handler's span if there is one, and puts it back.
#[inline]
pub(crate) fn enter<T>(scope: &mut Option<Scope>, f: impl FnOnce() -> T) -> T {
    /// Puts the scopes back where they were, also in an unwind.
    struct Leave<'a> {
        scope: &'a mut Option<Scope>,
        outer: Option<Scope>,
    }
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            *self.scope = CURRENT.replace(self.outer.take());
        }
    }
    // In a box, so that where there is no span it is a word.
    let _entered = scope.as_ref().and_then(Scope::span).map(|span| Box::new(span.enter()));
    let outer = CURRENT.replace(scope.take());
    let _leave = Leave { scope, outer };
    f()
}

/// What a call made here and now inherits: nothing, outside a handler.
#[inline]
pub(crate) fn inherited() -> Inherited {
    CURRENT.with_borrow(|scope| match scope {
        None => Inherited::default(),
        Some(scope) => Inherited {
            deadline: scope.deadline.map(|deadline| scope.core.host().deadlines.instant(deadline)),
            chain: scope.chain.with(scope.core.address(), scope.core.interface(), scope.method),
        },
    })
}

/// Runs `f` with the instance and the method whose handler this thread polls, if it polls one.
pub(crate) fn with_current<T>(f: impl FnOnce(&Arc<Core>, &'static Method) -> Option<T>) -> Option<T> {
    CURRENT.with_borrow(|scope| scope.as_ref().and_then(|scope| f(&scope.core, scope.method)))
}

/// The instance whose handler makes this call, if it is a handler that does.
pub(crate) fn current_instance() -> Option<Arc<Core>> {
    CURRENT.with_borrow(|scope| scope.as_ref().map(|scope| Arc::clone(&scope.core)))
}

/// Who called the handler that is being polled.
pub(crate) fn current_caller() -> Caller {
    CURRENT.with_borrow(|scope| scope.as_ref().map(|scope| scope.caller.clone()).unwrap_or_default())
}

/// What a handler may ask about the message that it handles and about its instance.
///
/// A handler gets it by taking `&Context` as its first parameter after `self`; the parameter is not an argument of the
/// handle's method.
#[derive(Debug)]
pub struct Context {
    scope: Scope,
    /// The number of the instance's life in which it was made.
    life: u32,
    /// Made when it is first asked for: most handlers never ask.
    cancelled: OnceLock<CancellationToken>,
}

impl Context {
    /// Where this instance is.
    pub fn address(&self) -> &Address {
        self.scope.core.address()
    }

    /// A handle to this instance: `context.handle::<CounterHandle>()`.
    ///
    /// # Panics
    /// If `H` is the handle of another service.
    pub fn handle<H: ServiceHandle>(&self) -> H {
        match self.scope.core.handle::<H::Message>() {
            Some(inner) => H::from_inner(inner),
            None => panic!("`{}` is not the handle of this instance", std::any::type_name::<H>()),
        }
    }

    /// The node that called: this node itself for a caller in the same process, and in a hook.
    pub fn caller(&self) -> &NodeId {
        match &self.scope.caller {
            Caller::Here => &self.address().node,
            Caller::Peer(link) => &link.peer().node,
        }
    }

    /// When the caller stops waiting. `None` for a send and in a hook. Calls made by this handler end by then too.
    pub fn deadline(&self) -> Option<Instant> {
        self.scope.deadline.map(|deadline| self.scope.core.host().deadlines.instant(deadline))
    }

    /// Whether the caller has given up (its future was dropped, or its deadline passed) or the instance ends.
    pub fn is_cancelled(&self) -> bool {
        self.token().is_cancelled()
    }

    /// Ends when the caller has given up (its future was dropped, or its deadline passed) or the instance ends.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.token().cancelled()
    }

    /// Runs a child task that ends with this life of the instance: it is dropped at its next await point when the life
    /// ends. Should the task panic, the life ends with it, as if a handler had panicked. A call made by the task inherits
    /// no deadline, and does not count as this handler waiting.
    pub fn spawn<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (core, life) = (Arc::clone(&self.scope.core), self.life);
        let ends = core.life(life);
        let run = async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(panic)) = ends.run_until_cancelled(task).await {
                // Counted with the life that it ends.
                core.fail(life, StopReason::Panicked(panic_message(&*panic)));
            }
        };
        self.scope.core.host().tasks.spawn(metered_child(&self.scope.core, run))
    }

    /// Stops this instance after the handlers that run now. What is still queued is answered `Stopped`, unless a
    /// supervisor begins another life.
    pub fn stop(&self) {
        self.scope.core.finish_life(self.life);
    }

    /// Watches what a handle leads to: `#[on_down]` runs once for each instance when it ends, with a [`Down`](crate::Down)
    /// that says which and why. A handle to a name leads to the instances that it leads to now.
    ///
    /// The word comes through the mailbox, after everything that the instance sent or answered to this one before, and
    /// before anything that its next life sends. It is never lost, and if the mailbox is full it takes nobody's place. If
    /// the instance had ended already, or its node is not connected, it comes at once. Watched twice it comes twice. It
    /// is told of one life: a supervised instance may be watched anew in its next one, also from within `#[on_down]`.
    ///
    /// ```
    /// # use skyhold::prelude::*;
    /// # struct Worker;
    /// # #[service] impl Worker { pub fn work(&self) {} }
    /// #[derive(Default)]
    /// struct Foreman {
    ///     lost: usize,
    /// }
    ///
    /// #[service(local)]
    /// impl Foreman {
    ///     pub fn hire(&mut self, context: &Context, worker: WorkerHandle) {
    ///         context.watch(&worker);
    ///     }
    ///
    ///     #[on_down]
    ///     fn worker_ended(&mut self, down: Down) {
    ///         println!("{}: {}", down.address, down.reason);
    ///         self.lost += 1;
    ///     }
    /// }
    /// ```
    ///
    /// A watch belongs to the life that began it, and what is not told by its end is forgotten. Outside of services, or
    /// to wait for an end in the middle of a handler, there is [`ServiceHandle::watch`].
    pub fn watch<H: ServiceHandle>(&self, handle: &H) -> Watching {
        let targets = handle.as_inner().target().instances();
        let (count, first) = (targets.len(), self.scope.core.host().next_watches(targets.len()));
        self.scope.core.watch(self.life, first, &targets);
        Watching { first, count }
    }

    /// Ends what [`Context::watch`] began: `#[on_down]` does not run for it any more, also if the instance has ended and
    /// the word of it is in the mailbox. Does nothing if the end was told, or if another instance or another life began
    /// it.
    pub fn unwatch(&self, watching: Watching) {
        for watch in (watching.first..).take(watching.count) {
            self.scope.core.unwatch(WatchId(watch));
        }
    }

    /// Links this instance with what a handle leads to, as OTP does: should either fail, then so does the other, with
    /// [`StopReason::Error`], "linked with .., which ..", after its running handlers and without `#[on_down]`. Its
    /// supervisor then does what it does with any failure. An end that is no failure undoes the link and says nothing:
    /// see [`StopReason::is_failure`].
    ///
    /// One link stands between two instances, whoever asked for it and however often. It belongs to the present lives of
    /// both: the next life links itself anew, as a rule in `#[on_start]`. A life that has failed already and is about to
    /// end passes nothing on to whom it is linked with from then on; they are linked with its next life. What has ended
    /// already, or cannot be reached, is a failure at once, and so is the end of a connection for the instances on both
    /// sides. A handle to a name links with every instance to which the name leads now. A link with oneself is none.
    ///
    /// Who wants to survive uses [`Context::watch`].
    pub fn link<H: ServiceHandle>(&self, handle: &H) {
        self.scope.core.link(self.life, &handle.as_inner().target().instances());
    }

    /// Undoes the link with what a handle leads to, whichever side asked for it. A failure that has reached this instance
    /// already still ends it.
    pub fn unlink<H: ServiceHandle>(&self, handle: &H) {
        self.scope.core.unlink(&handle.as_inner().target().instances());
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.scope.core
    }

    /// The caller has given up.
    pub(crate) fn cancel(&self) {
        self.token().cancel();
    }

    fn token(&self) -> &CancellationToken {
        self.cancelled.get_or_init(|| self.scope.core.life(self.life).child_token())
    }
}
