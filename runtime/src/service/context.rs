//! What a handler knows about the message that it handles, and what its own calls inherit from it.
//!
//! The scope of the running handler is ambient, for the handler's polls alone, so that a call made inside a handler
//! inherits the deadline and the chain of callers without an argument.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::event::StopReason;
use crate::id::{Address, NodeId};
use crate::port::Link;
use crate::service::chain::Chain;
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::dispatch::panic_message;
use crate::service::handle::ServiceHandle;
use crate::service::message::{Meta, Method};

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

impl Scope {
    /// The scope of a message's handler; of a hook, if nothing travels beside it.
    pub(crate) fn new(core: &Arc<Core>, method: &'static Method, meta: Meta) -> Self {
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

    /// `service.method`, for errors.
    pub(crate) fn handler(&self) -> String {
        format!("{}.{}", self.core.interface(), self.method.name())
    }
}

/// Runs `f` with the scope as the ambient one, and puts it back.
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

/// The instance whose handler makes this call, if it is a handler that does.
pub(crate) fn current_instance() -> Option<Arc<Core>> {
    CURRENT.with_borrow(|scope| scope.as_ref().map(|scope| Arc::clone(&scope.core)))
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
        let core = Arc::clone(&self.scope.core);
        let ends = core.life(self.life);
        self.scope.core.host().tasks.spawn(async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(panic)) = ends.run_until_cancelled(task).await {
                // Counted with the life that it ends.
                core.fail(StopReason::Panicked(panic_message(&*panic)));
            }
        })
    }

    /// Stops this instance after the handlers that run now. What is still queued is answered `Stopped`, unless a
    /// supervisor begins another life.
    pub fn stop(&self) {
        if !self.scope.core.life(self.life).is_cancelled() {
            self.scope.core.finish();
        }
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

    /// The node, as the layer above stored it.
    pub(crate) fn owner(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.scope.core.host().owner()
    }
}
