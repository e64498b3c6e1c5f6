//! What a supervisor knows of one child, be it an instance or another supervisor.
//!
//! Invariant: nothing is decided here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::error::StartError;
use crate::event::StopReason;
use crate::id::InstanceId;
use crate::service::core::{Core, Order};
use crate::service::dispatch::panic_message;
use crate::service::life::{self, Life, NextLife};
use crate::service::supervisor::control::Control;
use crate::supervision::Restart;

/// How a child is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Halt {
    /// This life, and what is queued waits for the next.
    Rest,
    /// For good, after what is queued was run.
    Drain,
    /// For good, and what is queued is answered `Stopped`.
    Stop,
    /// At once.
    Kill,
}

impl Halt {
    /// Whether no other life is to follow.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Drain | Self::Stop)
    }
}

/// What makes a child end.
pub(crate) trait Lever: Send + Sync + fmt::Debug {
    /// Takes back the word that ended the life before, unless it was for good. What is said from now on is for the next.
    fn renew(&self);
    /// Tells it to end. A later, harder word counts.
    fn pull(&self, halt: Halt);
    /// Ends when the child is gone for good.
    fn gone(&self) -> BoxFuture<'_, ()>;
    /// The child's number, if it is an instance.
    fn instance(&self) -> Option<InstanceId>;
    /// The child itself, if it is a supervisor.
    fn control(self: Arc<Self>) -> Option<Arc<Control>>;
}

impl Lever for Core {
    fn renew(&self) {
        Self::renew(self);
    }

    fn pull(&self, halt: Halt) {
        self.order(match halt {
            Halt::Rest => Order::Rest,
            Halt::Drain => Order::Drain,
            Halt::Stop => Order::Stop,
            Halt::Kill => Order::Kill,
        });
    }

    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ended())
    }

    fn instance(&self) -> Option<InstanceId> {
        Some(self.address().instance)
    }

    fn control(self: Arc<Self>) -> Option<Arc<Control>> {
        None
    }
}

/// Who makes a child's name known: a layer above this one.
pub(crate) trait Registry: Send + Sync + fmt::Debug {
    /// Who supervises its instances.
    fn supervised_by(&self, control: &Arc<Control>);
    /// An instance is up for the first time.
    fn up(&self, instance: InstanceId) -> BoxFuture<'_, ()>;
    /// The name is taken back, so that nobody is sent to its instances any more; `Drain` waits until the peers know.
    fn withdraw(&self, halt: Halt) -> BoxFuture<'_, ()>;
    /// These instances are to end while others of the name go on: nobody is sent to them any more. It waits until the peers know.
    fn retire(&self, instances: Vec<InstanceId>) -> BoxFuture<'_, ()>;
    /// An instance is gone for good.
    fn gone(&self, instance: InstanceId) -> BoxFuture<'_, ()>;
}

/// Begins a child's first life.
pub(crate) type Begin = Box<dyn FnOnce(NextLife) -> Arc<dyn Lever> + Send>;

/// A child that is to be supervised.
pub(crate) struct Spec {
    /// The service's or the supervisor's name.
    pub(crate) name: Arc<str>,
    pub(crate) restart: Restart,
    /// How long it may take to end before it is cut off.
    pub(crate) stop_within: Duration,
    pub(crate) registry: Option<Arc<dyn Registry>>,
    /// Whether others of its name run already.
    pub(crate) joins: bool,
    pub(crate) begin: Begin,
}

/// A child that is supervised.
pub(crate) struct Child {
    pub(crate) name: Arc<str>,
    pub(crate) stop_within: Duration,
    pub(crate) registry: Option<Arc<dyn Registry>>,
    /// Whether others of its name ran when it was added.
    pub(crate) joins: bool,
    /// Whether its end is its own, and its name stays.
    pub(crate) retires: bool,
    pub(crate) state: State,
    /// The lives that it had begun after the first.
    pub(crate) restarts: u64,
    /// Whether it has been up.
    pub(crate) was_up: bool,
    pub(crate) lever: Option<Arc<dyn Lever>>,
    /// How it is to end, if it was singled out.
    pub(crate) halt: Option<Halt>,
    /// When it is cut off.
    pub(crate) kill_at: Option<Instant>,
    way: Way,
    /// Why it could not start.
    pub(crate) error: Option<StartError>,
    /// Why the last life ended that was not told to.
    pub(crate) last_end: Option<StopReason>,
    /// With which others it was added, if it was.
    pub(crate) addition: Option<u64>,
}

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no life.
    Down,
    /// A life begins.
    Starting,
    /// A life goes on.
    Up,
    /// It was told to end its life.
    Stopping,
    /// It can have no other life.
    Gone,
}

/// How the next life is begun.
enum Way {
    First(Begin),
    Again(oneshot::Sender<NextLife>),
    /// Not now: a life goes on, or none can follow.
    Closed,
}

impl Child {
    pub(crate) fn new(spec: Spec) -> Self {
        let Spec { name, stop_within, registry, joins, begin, .. } = spec;
        Self {
            name,
            stop_within,
            registry,
            joins,
            retires: false,
            state: State::Down,
            restarts: 0,
            was_up: false,
            lever: None,
            halt: None,
            kill_at: None,
            way: Way::First(begin),
            error: None,
            last_end: None,
            addition: None,
        }
    }

    /// Begins a life. What is heard of it says whether that was possible.
    pub(crate) fn begin(&mut self) -> Life {
        let (next, life) = life::life();
        self.state = State::Starting;
        match std::mem::replace(&mut self.way, Way::Closed) {
            Way::First(begin) => self.lever = Some(begin(next)),
            Way::Again(child) => {
                self.restarts += 1;
                if let Some(lever) = &self.lever {
                    lever.renew();
                }
                drop(child.send(next)); // a child that is gone drops the life, which is heard
            }
            Way::Closed => debug_assert!(false, "a life was begun beside another"),
        }
        life
    }

    /// A life has ended, and `next` begins the next one.
    pub(crate) fn down(&mut self, next: oneshot::Sender<NextLife>) {
        self.state = State::Down;
        self.way = Way::Again(next);
    }

    /// Lets it go for good, and waits for its end. The name goes first.
    pub(crate) async fn forget(mut self) {
        self.way = Way::Closed;
        let Some(lever) = self.lever.take() else { return };
        if let (Some(registry), Some(instance)) = (&self.registry, lever.instance()) {
            registry.gone(instance).await;
        }
        lever.gone().await;
    }

    pub(crate) fn pull(&self, halt: Halt) {
        if let Some(lever) = &self.lever {
            lever.pull(halt);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // A first life that never began drops what its factory holds, which is a user's, and may panic.
        if let Way::First(begin) = std::mem::replace(&mut self.way, Way::Closed)
            && let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(begin)))
        {
            let message = panic_message(&*panic);
            tracing::error!(child = &*self.name, message, "panicked in the drop of its factory");
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").field("name", &self.name).field("state", &self.state).finish_non_exhaustive()
    }
}
