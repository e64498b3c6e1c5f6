//! Supervisors as a user builds them: trees of services and of supervisors.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::StartError;
use crate::id::check_name;
use crate::node::group::{STOP_WITHIN, ServiceBuilder};
use crate::node::lookup;
use crate::node::node::Node;
use crate::service::definition::Service;
use crate::service::handle::{Handle, ServiceHandle, Target, Way};
use crate::service::instance;
use crate::service::life::life;
use crate::service::message::{Message, WireMessage};
use crate::service::supervisor::child::{Halt, Lever, Spec};
use crate::service::supervisor::control::{Addition, Command, Control};
use crate::service::supervisor::run::{self, Plan};
use crate::supervision::{ChildInfo, Intensity, Restart, Strategy};

/// The longest name of a supervisor, in bytes.
const MAX_NAME: usize = 256;

/// How long a supervisor may take to end its children: as long as they are given.
const AS_LONG_AS_ITS_CHILDREN: Duration = Duration::MAX;

/// Starts services and other supervisors in order, starts them again when they fail, and ends them in reverse order.
///
/// ```
/// use skyhold::prelude::*;
/// use skyhold::{Intensity, Restart, Strategy, Supervisor};
/// # #[derive(Default)] struct Store;
/// # #[service] impl Store { pub fn get(&self) -> u8 { 0 } }
/// # #[derive(Default)] struct Cache;
/// # #[service] impl Cache { pub fn get(&self) -> u8 { 0 } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let node = Node::builder("a").start().await?;
/// // The cache holds what the store said: it is started again whenever the store is.
/// let game = Supervisor::new("game", Strategy::RestForOne)
///     .child(node.service("store", Store::default).restart(Restart::always()))
///     .child(node.service("cache", Cache::default))
///     .start(&node)
///     .await?;
/// game.stop().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "a supervisor starts with `.start(&node).await`"]
pub struct Supervisor {
    name: String,
    strategy: Strategy,
    intensity: Intensity,
    restart: Restart,
    children: Vec<Child>,
}

/// A child of a [`Supervisor`]: made from what `Node::service` gives, or from another supervisor.
pub struct Child(MakeSpecs);

type MakeSpecs = Box<dyn FnOnce(&Node) -> Result<Vec<Spec>, StartError> + Send>;

impl Supervisor {
    /// A supervisor of that name, which events and errors tell, with a strategy.
    pub fn new(name: impl Into<String>, strategy: Strategy) -> Self {
        let (intensity, restart) = (Intensity::default(), Restart::always());
        Self { name: name.into(), strategy, intensity, restart, children: Vec::new() }
    }

    /// How many restarts are too many. Then it ends its children and fails itself: a supervisor above it restarts it by
    /// its own policy; without one that is the end. Default: more than 3 within 5 s.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// When a supervisor above this one starts it again. Default: [`Restart::always`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// One more child, after the ones before. A service of many instances is as many children in a row.
    pub fn child(mut self, child: impl Into<Child>) -> Self {
        self.children.push(child.into());
        self
    }

    /// Starts the children in order, each when the one before is up.
    ///
    /// # Errors
    /// [`StartError`]: a name cannot be used or is taken, or a child refused to start. Then the ones before it were
    /// stopped, in reverse order, and nothing runs.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started.
    pub async fn start(self, node: &Node) -> Result<SupervisorHandle, StartError> {
        let plan = self.plan(node)?;
        let control = begin(node, plan).await?;
        Ok(SupervisorHandle { node: node.without_owner(), control })
    }

    fn plan(self, node: &Node) -> Result<Plan, StartError> {
        check_name("supervisor", &self.name, MAX_NAME)?;
        let mut children = Vec::new();
        for Child(specs) in self.children {
            children.extend(specs(node)?);
        }
        let (strategy, intensity) = (self.strategy, self.intensity);
        Ok(Plan { name: self.name.into(), strategy, intensity, ends_when_empty: false, children })
    }
}

impl Child {
    pub(crate) fn new(specs: impl FnOnce(&Node) -> Result<Vec<Spec>, StartError> + Send + 'static) -> Self {
        Self(Box::new(specs))
    }
}

impl From<Supervisor> for Child {
    fn from(supervisor: Supervisor) -> Self {
        Self::new(move |node| {
            let restart = supervisor.restart.clone();
            let plan = supervisor.plan(node)?;
            let host = Arc::clone(&node.inner().host);
            let spec = Spec {
                name: Arc::clone(&plan.name),
                restart,
                stop_within: AS_LONG_AS_ITS_CHILDREN,
                registry: None,
                joins: false,
                begin: Box::new(move |first| run::supervise(&host, plan, first) as _),
            };
            Ok(vec![spec])
        })
    }
}

/// Begins a supervisor that no other supervises, and waits until its children are up.
pub(crate) async fn begin(node: &Node, plan: Plan) -> Result<Arc<Control>, StartError> {
    /// Ends what was begun, unless it came up.
    struct Unfinished(Option<Arc<Control>>);
    impl Drop for Unfinished {
        fn drop(&mut self) {
            if let Some(control) = &self.0 {
                control.pull(Halt::Stop);
            }
        }
    }
    node.inner().check_running()?;
    let (first, life) = life();
    let control = run::supervise(&node.inner().host, plan, first);
    node.inner().add_supervisor(&control);
    let mut unfinished = Unfinished(Some(Arc::clone(&control)));
    // It ends without a word only when the node ends.
    let started = life.started.await.unwrap_or_else(|_| Err(StartError::NodeStopped(node.id().clone())));
    drop(life.ended); // nobody begins another life
    if let Err(error) = started {
        control.ended().await;
        return Err(error);
    }
    node.inner().check_running()?;
    unfinished.0 = None;
    Ok(control)
}

/// A supervisor that runs. Cheap to clone; it goes on when all of these are dropped. It does not keep its node alive: a
/// service may hold one.
#[derive(Clone)]
pub struct SupervisorHandle {
    node: Node,
    control: Arc<Control>,
}

impl SupervisorHandle {
    /// The supervisor's name.
    pub fn name(&self) -> &str {
        &self.control.name
    }

    /// Starts one more child: an anonymous instance that is started again by `restart`. It ends with the supervisor. This is
    /// what [`Strategy::Dynamic`] is for.
    ///
    /// # Errors
    /// [`StartError`]: it refused to start, and is not supervised; or the supervisor has ended.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started.
    pub async fn spawn<S, F>(
        &self,
        restart: Restart,
        factory: F,
    ) -> Result<<S::Message as Message>::Handle, StartError>
    where
        S: Service,
        F: FnMut() -> S + Send + 'static,
    {
        let name: Arc<str> = S::SETTINGS.name.unwrap_or(<S::Message as Message>::INTERFACE).into();
        let host = Arc::clone(&self.node.inner().host);
        let begun = Arc::new(OnceLock::new());
        let (begun_here, service) = (Arc::clone(&begun), Arc::clone(&name));
        let spec = Spec {
            name,
            restart,
            stop_within: STOP_WITHIN,
            registry: None,
            joins: false,
            begin: Box::new(move |first| {
                let factory = Arc::new(Mutex::new(factory));
                let local = instance::start_supervised(&host, service, factory, None, first);
                let core = Arc::clone(local.core());
                drop(begun_here.set(local)); // a first life is begun once
                core as _
            }),
        };
        self.add(vec![spec]).await?;
        let Some(local) = begun.get() else { return Err(self.has_ended()) };
        let handle = Handle::new(Target::Local(Arc::clone(local)));
        Ok(<S::Message as Message>::Handle::from_inner(handle))
    }

    /// Starts one more child, or children: a named service. It ends with the supervisor, or by `Node::stop`. It waits as
    /// [`SupervisorHandle::spawn`] does.
    ///
    /// # Errors
    /// [`StartError`]: as [`ServiceBuilder::start`]; or the supervisor has ended.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started.
    pub async fn start<S, F>(
        &self,
        service: ServiceBuilder<S, F>,
    ) -> Result<<S::Message as Message>::Handle, StartError>
    where
        S: Service,
        S::Message: WireMessage,
        F: FnMut() -> S + Send + 'static,
    {
        let specs = service.specs(&self.node)?;
        let Some(name) = specs.first().map(|spec| Arc::clone(&spec.name)) else {
            return Err(self.has_ended());
        };
        self.add(specs).await?;
        Ok(lookup::route(self.node.inner(), name, Some(self.node.id().clone()), Way::default()))
    }

    /// How the children fare, in their order. Empty if the supervisor has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn children(&self) -> Vec<ChildInfo> {
        let (reply, hears) = oneshot::channel();
        self.control.ask(Command::Children(reply)).await;
        hears.await.unwrap_or_default().into_iter().map(|(child, _)| child).collect()
    }

    /// Ends the supervisor and its children in reverse order, and waits for it. What is queued is answered `Stopped`. A
    /// handler of one of the children waits for its own end here, until it is cut off.
    ///
    /// # Cancel safety
    /// Once polled it stops all the same; only the waiting is cut short.
    pub async fn stop(&self) {
        self.control.pull(Halt::Stop);
        self.control.ended().await;
    }

    /// As [`SupervisorHandle::stop`], but what is queued is run first. A child that is down at that moment runs nothing any
    /// more: what is queued there is answered `Stopped`.
    ///
    /// # Cancel safety
    /// Once polled it drains all the same; only the waiting is cut short.
    pub async fn drain(&self) {
        self.control.pull(Halt::Drain);
        self.control.ended().await;
    }

    /// Ends when the supervisor has ended, by [`SupervisorHandle::stop`] or because it gave up.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ended(&self) {
        self.control.ended().await;
    }

    /// Cancel safe: what was added goes again unless the answer is taken.
    async fn add(&self, specs: Vec<Spec>) -> Result<(), StartError> {
        let (reply, hears) = oneshot::channel();
        let (stays, stay) = oneshot::channel();
        self.control.ask(Command::Add(Addition { specs, reply, stay })).await;
        hears.await.unwrap_or_else(|_| Err(self.has_ended()))?;
        // A supervisor that has ended meanwhile took them with it.
        stays.send(()).map_err(|()| self.has_ended())
    }

    fn has_ended(&self) -> StartError {
        StartError::SupervisorEnded(self.control.name.to_string())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child").finish_non_exhaustive()
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle").field("name", &self.control.name).finish_non_exhaustive()
    }
}
