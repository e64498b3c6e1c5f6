//! A named service: a supervised group of instances.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cluster::directory::Traits;
use crate::config::Labels;
use crate::error::StartError;
use crate::id::check_service_name;
use crate::node::lookup;
use crate::node::node::Node;
use crate::node::registrar::Registrar;
use crate::node::supervisor::{self, Child};
use crate::node::unique;
use crate::service::definition::Service;
use crate::service::deliver;
use crate::service::dispatch::panic_message;
use crate::service::handle::Way;
use crate::service::host::Host;
use crate::service::instance::{self, Factory};
use crate::service::message::{Message, WireMessage, method_ids};
use crate::service::supervisor::child::{Registry, Spec};
use crate::service::supervisor::run::Plan;
use crate::supervision::{Intensity, Restart, Strategy};
use crate::time;

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 256;

/// How long an instance may take to end before it is cut off, unless it is said.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A named service that is about to be started. Made by `Node::service`.
///
/// Started with [`ServiceBuilder::start`] it is supervised on its own, one for one. As a child of a
/// [`Supervisor`](crate::Supervisor) it is supervised with the others there.
#[must_use = "a service starts with `.start().await`"]
pub struct ServiceBuilder<S, F> {
    node: Node,
    name: String,
    factory: F,
    instances: usize,
    restart: Restart,
    intensity: Intensity,
    stop_within: Duration,
    is_unique: bool,
    labels: Labels,
    service: PhantomData<fn() -> S>,
}

impl<S, F> ServiceBuilder<S, F>
where
    S: Service,
    S::Message: WireMessage,
    F: FnMut() -> S + Send + 'static,
{
    pub(crate) fn new(node: Node, name: String, factory: F) -> Self {
        let (restart, intensity) = (Restart::default(), Intensity::default());
        let stop_within = STOP_WITHIN;
        let (is_unique, labels) = (false, Labels::default());
        let service = PhantomData;
        Self {
            node,
            name,
            factory,
            instances: 1,
            restart,
            intensity,
            stop_within,
            is_unique,
            labels,
            service,
        }
    }

    /// How many instances run under the name. Default 1; at least 1.
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// When an instance that ended is started again, and how fast. It keeps its address: handles to it go on working, and
    /// callers meanwhile wait in its mailbox, within their deadlines. Default: [`Restart::on_failure`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How many restarts of all instances together are too many. Then the service ends, and its name is free. Default: more
    /// than 3 within 5 s. Under a [`Supervisor`](crate::Supervisor) that one's intensity counts instead.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// How long an instance that was told to end may take before its handlers are dropped and what is queued is
    /// answered `Stopped`, in a drain as well. Default: 5 s.
    pub fn stop_within(mut self, limit: Duration) -> Self {
        self.stop_within = limit;
        self
    }

    /// A label of the instances, which the whole cluster sees: [`KnownInstance::labels`](crate::KnownInstance::labels). It goes before one of the
    /// [node](crate::NodeBuilder::label) with the same key. At most [`Labels::MAX`], those of the node included. Default: none.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.set(key.into(), value.into());
        self
    }

    /// All labels at once.
    pub(super) fn labels(self, labels: Labels) -> Self {
        Self { labels, ..self }
    }

    /// Whether no other node of the cluster is to run a service of this name. Default: `false`.
    ///
    /// It is not started where another node is known to have the name: [`StartError::NameTakenBy`]. When two nodes have it all the same, since
    /// they began at one moment or on two sides of a partition, one keeps it as soon as they hear of each other: the one that took it first by
    /// the nodes' clocks, of two that took it in one millisecond the one with the smaller name. The other one's service is stopped
    /// at once, with [`Event::NameLost`](crate::Event::NameLost): what is queued there is answered `Stopped`, and calls through the name go to the one that
    /// keeps it. So there is one on each side of a partition; whoever wants none on the smaller side starts it where there is a
    /// [quorum](crate::Cluster::has_quorum). While a node claims a name, services of that name on nodes that do not are passed over.
    pub fn unique(mut self, is_unique: bool) -> Self {
        self.is_unique = is_unique;
        self
    }

    /// Starts the instances, one after the other, and makes the name known in the whole cluster. The handle leads to
    /// the instances of this node; one from `lookup` to those of all nodes.
    ///
    /// # Errors
    /// [`StartError`]: the name cannot be used or is taken, on this node or as a [unique](Self::unique) one on another, or an instance refused to start. Then nothing
    /// runs.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started.
    pub async fn start(self) -> Result<<S::Message as Message>::Handle, StartError> {
        let (node, name) = (self.node.clone(), Arc::<str>::from(self.name.as_str()));
        let intensity = self.intensity.clone();
        let children = self.specs(&node)?;
        let strategy = Strategy::OneForOne;
        let plan = Plan { name: Arc::clone(&name), strategy, intensity, ends_when_empty: true, children };
        supervisor::begin(&node, plan).await?;
        Ok(lookup::route(node.inner(), name, Some(node.id().clone()), Way::default()))
    }

    /// Takes the name, and says how the instances are begun.
    pub(crate) fn specs(self, node: &Node) -> Result<Vec<Spec>, StartError> {
        check_service_name(&self.name, MAX_NAME)?;
        if self.instances == 0 {
            let problem = "0 instances cannot be started; at least 1 is needed".to_owned();
            return Err(StartError::InvalidSetting { setting: "instances", problem });
        }
        if self.node.id() != node.id() {
            let problem = format!(
                "of {:?} is node {}, and its supervisor's is {}",
                self.name,
                self.node.id(),
                node.id()
            );
            return Err(StartError::InvalidSetting { setting: "node", problem });
        }
        let labels = self.labels.over(&node.inner().labels);
        if let Some(problem) = labels.problem() {
            let problem = format!("of {:?}: {problem}", self.name);
            return Err(StartError::InvalidSetting { setting: "label", problem });
        }
        unique::check(node.inner(), &self.name, self.is_unique)?;
        let claim = self.is_unique.then(time::unix_millis);
        let methods = Some(method_ids::<S::Message>().into());
        let traits = Traits { claim, labels: Arc::new(labels), methods };
        let name: Arc<str> = self.name.into();
        let interface = <S::Message as Message>::INTERFACE;
        let registrar = Registrar::new(node.inner(), Arc::clone(&name), interface, traits, self.instances)?;
        let template = Arc::new(Template {
            host: Arc::clone(&node.inner().host),
            name,
            factory: Some(Arc::new(Mutex::new(self.factory))),
            restart: self.restart,
            stop_within: self.stop_within,
        });
        let children = (0..self.instances).filter_map(|_| template.spec(&registrar, false)).collect();
        // The registrar holds the template: it must not be held by it.
        let weak = Arc::downgrade(&registrar);
        registrar.set_template(Arc::new(move || template.spec(&weak.upgrade()?, true)));
        Ok(children)
    }
}

/// What all instances of a name have in common.
struct Template<S> {
    host: Arc<Host>,
    name: Arc<str>,
    /// There until it is dropped.
    factory: Option<Factory<S>>,
    restart: Restart,
    stop_within: Duration,
}

impl<S> Template<S>
where
    S: Service,
    S::Message: WireMessage,
{
    fn spec(&self, registrar: &Arc<Registrar>, joins: bool) -> Option<Spec> {
        let (host, name, factory) = (Arc::clone(&self.host), Arc::clone(&self.name), self.factory.clone()?);
        let reach = deliver::reachable::<S::Message>;
        Some(Spec {
            name: Arc::clone(&self.name),
            restart: self.restart.clone(),
            stop_within: self.stop_within,
            registry: Some(Arc::clone(registrar) as Arc<dyn Registry>),
            joins,
            begin: Box::new(move |first| {
                Arc::clone(instance::start_supervised(&host, name, factory, Some(reach), first).core()) as _
            }),
        })
    }
}

impl<S> Drop for Template<S> {
    fn drop(&mut self) {
        // What a factory holds is a user's, and may panic.
        let factory = self.factory.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(factory))) {
            let message = panic_message(&*panic);
            tracing::error!(service = &*self.name, message, "panicked in the drop of its factory");
        }
    }
}

impl<S, F> From<ServiceBuilder<S, F>> for Child
where
    S: Service,
    S::Message: WireMessage,
    F: FnMut() -> S + Send + 'static,
{
    fn from(service: ServiceBuilder<S, F>) -> Self {
        Self::new(|node| service.specs(node))
    }
}

impl<S, F> fmt::Debug for ServiceBuilder<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder")
            .field("name", &self.name)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}
