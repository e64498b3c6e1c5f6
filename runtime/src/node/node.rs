//! The node: one running runtime value.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::cluster::coordinator::{self, Names, Seen};
use crate::cluster::membership::Members;
use crate::config::{Access, Labels, Routes, RoutesError, Secret};
use crate::error::{StartError, StopError};
use crate::event::Counters;
use crate::id::{Incarnation, NodeId};
use crate::net::ends::Ends;
use crate::net::news::News;
use crate::net::table::PeerTable;
#[cfg(feature = "tls")]
use crate::net::tls::{Tls, TlsError};
use crate::node::builder::NodeBuilder;
use crate::node::central::Central;
use crate::node::configured::Configured;
use crate::node::dashboard::Shown;
use crate::node::events::Events;
use crate::node::group::ServiceBuilder;
use crate::node::in_force::InForce;
use crate::node::kinds::Kinds;
use crate::node::metrics::Meter;
use crate::node::pools::Pools;
use crate::node::topic::table::Topics;
use crate::service::context::{Context, current_instance};
use crate::service::core::{Core, Order};
use crate::service::definition::Service;
use crate::service::handle::{Handle, ServiceHandle, Target};
use crate::service::host::Host;
use crate::service::instance;
use crate::service::message::{Message, WireMessage};
use crate::service::supervisor::child::{Halt, Lever, Spec};
use crate::service::supervisor::control::{Command, Control};
use crate::service::tasks::Tasks;

/// A node: it runs services, and connects them to those of other nodes.
///
/// Cheap to clone. A process may hold many nodes. A node ends with [`Node::shutdown`], or abruptly when the last `Node`
/// value that its builder gave out is dropped.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
    /// Ends the node with the last of its owners. A handler's `context.node()` is no owner.
    _owner: Option<Arc<Owner>>,
}

/// Cuts the node off when it is dropped.
struct Owner(Tasks);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What all the `Node` values of one node share.
pub(crate) struct Inner {
    pub(crate) host: Arc<Host>,
    pub(crate) names: Arc<Names>,
    pub(crate) members: watch::Receiver<Members>,
    pub(crate) register: mpsc::Sender<coordinator::Command>,
    pub(crate) peers: mpsc::Sender<News>,
    pub(crate) table: Arc<PeerTable>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) in_force: InForce,
    /// Those of the node, which its services have too.
    pub(crate) labels: Labels,
    pub(crate) kinds: Kinds,
    pub(crate) is_client: bool,
    pub(crate) central: Arc<Central>,
    pub(crate) pools: Arc<Pools>,
    ends: Arc<Ends>,
    /// Its metrics, as far as they are kept.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "there are none"))]
    pub(crate) meter: Meter,
    #[cfg_attr(not(feature = "dashboard"), expect(dead_code, reason = "there is none"))]
    pub(crate) shown: Shown,
    pub(crate) address: Option<SocketAddr>,
    /// The file from which the node was started, if it was.
    pub(crate) configured: Option<Configured>,
    /// Guards the making of the manager.
    pub(super) managing: Mutex<()>,
    /// Guards the names that run here.
    groups: Mutex<HashMap<Arc<str>, Arc<Group>>>,
    /// Guards the supervisors that no other supervises, in the order of their start.
    supervisors: Mutex<Vec<Arc<Control>>>,
}

/// Makes one more child of a name, unless the name is about to go.
pub(crate) type MakeSpec = Arc<dyn Fn() -> Option<Spec> + Send + Sync>;

/// A name that runs here.
#[derive(Default)]
pub(crate) struct Group {
    /// Who can end its instances.
    pub(crate) supervisor: OnceLock<Arc<Control>>,
    /// How one more is begun.
    pub(crate) template: OnceLock<MakeSpec>,
    /// Cancelled when they are gone.
    pub(crate) ended: CancellationToken,
}

/// What a handle leads to on this node.
enum Here<'h> {
    Instance(&'h Arc<Core>),
    Name(&'h str),
}

impl Node {
    /// Begins a node of this name. A node without `listen` and `seed` is local: it opens no socket.
    pub fn builder(name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(name.into())
    }

    /// Starts a node from a configuration file: [`NodeBuilder::from_config`], then [`NodeBuilder::start`]. [`Cluster::reload`]
    /// reads it again.
    ///
    /// [`Cluster::reload`]: crate::Cluster::reload
    ///
    /// # Errors
    /// [`StartError::Config`] names the file, the line and the key; others as of [`NodeBuilder::start`]. Then nothing runs.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends leaves nothing behind.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn from_config(file: impl AsRef<Path>) -> Result<Self, StartError> {
        NodeBuilder::from_config(file)?.start().await
    }

    pub(crate) fn owner(inner: Arc<Inner>) -> Self {
        let owner = Some(Arc::new(Owner(inner.host.tasks.clone())));
        Self { inner, _owner: owner }
    }

    /// The node of which this is a part, without keeping it alive.
    pub(crate) fn without_owner_of(inner: Arc<Inner>) -> Self {
        Self { inner, _owner: None }
    }

    /// This node, without keeping it alive.
    pub(crate) fn without_owner(&self) -> Self {
        Self::without_owner_of(Arc::clone(&self.inner))
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.inner.host.node
    }

    /// The node's life: greater than that of any earlier node of the same name.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.host.incarnation
    }

    /// Where the node listens, with the real port if port 0 was asked for; `None` if it does not listen.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.address
    }

    /// Starts an anonymous instance. It lives until it is stopped, by [`Node::stop`] or by its own `Context::stop`, or
    /// until the node ends, whether or not somebody holds a handle. It cannot be found by other nodes.
    ///
    /// Should its `#[on_start]` hook fail, its callers are answered `Stopped`. On a node that has shut down it never
    /// starts.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<S: Service>(&self, service: S) -> <S::Message as Message>::Handle {
        let name = S::SETTINGS.name.unwrap_or(<S::Message as Message>::INTERFACE);
        let local = instance::start(&self.inner.host, name.into(), service);
        if self.inner.host.is_shutting_down() {
            local.core().order(Order::Stop);
        }
        <S::Message as Message>::Handle::from_inner(Handle::new(Target::Local(local)))
    }

    /// Begins a named group of instances, which the whole cluster can find: `node.service("counter",
    /// Counter::default).instances(4).start().await`. The factory makes each instance's value.
    pub fn service<S, F>(&self, name: impl Into<String>, factory: F) -> ServiceBuilder<S, F>
    where
        S: Service,
        S::Message: WireMessage,
        F: FnMut() -> S + Send + 'static,
    {
        ServiceBuilder::new(self.clone(), name.into(), factory)
    }

    /// As [`NodeBuilder::kind`], for a node that runs: for services that are started from now on.
    pub fn kind<S, C, F>(&self, name: impl Into<String>, make: F)
    where
        S: Service,
        S::Message: WireMessage,
        C: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&C) -> S + Send + Sync + 'static,
    {
        self.inner.kinds.add(name.into(), make);
    }

    /// Stops what the handle leads to on this node, and waits for its end: one instance, or a name's group. The handlers
    /// that run end first; what is queued is answered `Stopped`. No supervisor starts it again. What had ended already is
    /// fine. A handler of what is stopped is not made to wait for its own end.
    ///
    /// The instances of a name are cut off after their [`stop_within`](ServiceBuilder::stop_within). A single instance takes the
    /// time that its handlers take; [`Node::abort`] hurries it, and does not bring it back.
    ///
    /// # Errors
    /// [`StopError::Elsewhere`]: the handle leads to another node.
    ///
    /// # Cancel safety
    /// Once polled it stops all the same; only the waiting is cut short.
    pub async fn stop<H: ServiceHandle>(&self, handle: &H) -> Result<(), StopError> {
        self.end(handle, Halt::Stop).await
    }

    /// As [`Node::stop`], but what is queued is run first, and with a name's group its peers are told before, so that routed
    /// callers are elsewhere by then. What has not ended in its time is cut off as by [`Node::stop`].
    ///
    /// # Errors
    /// [`StopError::Elsewhere`]: the handle leads to another node.
    ///
    /// # Cancel safety
    /// Once polled it drains all the same; only the waiting is cut short.
    pub async fn drain<H: ServiceHandle>(&self, handle: &H) -> Result<(), StopError> {
        self.end(handle, Halt::Drain).await
    }

    /// Cuts off what the handle leads to on this node: its handlers are dropped at their next await point, and their callers
    /// are answered `NoReply`. That is a failure ([`StopReason::Killed`](crate::StopReason)): what is supervised is started
    /// again by its restart policy.
    ///
    /// # Errors
    /// [`StopError::Elsewhere`]: the handle leads to another node.
    pub fn abort<H: ServiceHandle>(&self, handle: &H) -> Result<(), StopError> {
        match self.target(handle)? {
            Here::Instance(core) => core.order(Order::Kill),
            Here::Name(name) => {
                self.inner.host.instances_of(name).iter().for_each(|core| core.order(Order::Kill));
            }
        }
        Ok(())
    }

    /// Stops this node's instances of a name, takes the name back, and waits until it is done. Gives whether there was
    /// such a service on this node. A handler of that service is not made to wait for its own end.
    ///
    /// # Cancel safety
    /// Once polled it stops all the same; only the waiting is cut short.
    pub async fn stop_service(&self, name: &str) -> bool {
        self.end_service(name, Halt::Stop).await
    }

    /// As [`Node::stop_service`], but what is queued is run first, and peers are told before. What takes longer than
    /// [`stop_within`](ServiceBuilder::stop_within) (5 s unless set) is cut off all the same.
    ///
    /// # Cancel safety
    /// Once polled it drains all the same; only the waiting is cut short.
    pub async fn drain_service(&self, name: &str) -> bool {
        self.end_service(name, Halt::Drain).await
    }

    async fn end<H: ServiceHandle>(&self, handle: &H, halt: Halt) -> Result<(), StopError> {
        match self.target(handle)? {
            Here::Name(name) => {
                self.end_service(name, halt).await;
            }
            Here::Instance(core) => {
                core.pull(halt);
                let is_itself = current_instance().is_some_and(|current| Arc::ptr_eq(&current, core));
                if !is_itself {
                    core.ended().await;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn end_service(&self, name: &str, halt: Halt) -> bool {
        let group = self.inner.groups().get(name).cloned();
        let Some((name, group)) = group.map(|group| (Arc::from(name), group)) else { return false };
        let Some(supervisor) = group.supervisor.get() else { return false };
        let is_itself = current_instance().is_some_and(|core| {
            let instances = self.inner.host.instances_of(&name);
            instances.iter().any(|instance| Arc::ptr_eq(instance, &core))
        });
        let (done, _) = oneshot::channel();
        supervisor.ask(Command::End(name, halt, done)).await;
        if !is_itself {
            group.ended.cancelled().await;
        }
        true
    }

    /// What a handle leads to on this node.
    fn target<'h, H: ServiceHandle>(&self, handle: &'h H) -> Result<Here<'h>, StopError> {
        let inner = handle.as_inner();
        match inner.target() {
            Target::Local(local) if local.address().node == *self.id() => Ok(Here::Instance(local.core())),
            Target::Routed(route) if route.only_on().is_none_or(|node| node == self.id()) => {
                Ok(Here::Name(route.name()))
            }
            Target::Local(_) | Target::Remote(_) | Target::Routed(_) => {
                Err(StopError::Elsewhere { handle: format!("{inner:?}"), node: self.id().clone() })
            }
        }
    }

    /// Puts another secret in the place of the one in force, for connections to come. Those that stand are not touched.
    /// [`Secret::also_accept`] says how a cluster changes it.
    pub fn set_secret(&self, secret: Secret) {
        self.inner.in_force.security.set_secret(Some(secret));
    }

    /// Puts other certificates in the place of those in force, for connections to come. Those that stand are not touched. A node
    /// that was started without certificates speaks TLS from then on.
    ///
    /// # Errors
    /// [`TlsError::OtherNode`]: the certificate is not for this node. Then nothing has changed.
    #[cfg(feature = "tls")]
    pub fn set_tls(&self, tls: Tls) -> Result<(), TlsError> {
        tls.check(self.id())?;
        self.inner.in_force.security.set_tls(Some(tls));
        Ok(())
    }

    /// Says anew which peers may call which services of this node, on connections that stand as well: what arrives from now on
    /// is judged by it.
    pub fn set_access(&self, access: Access) {
        self.inner.in_force.access.store(Arc::new(access));
    }

    /// Says anew by which rules the calls of this node's handles to names go to their instances. Each call that is made from now on goes by
    /// all of the new ones.
    ///
    /// # Errors
    /// [`RoutesError`] names the rule that cannot be used. Then nothing has changed.
    pub fn set_routes(&self, routes: Routes) -> Result<(), RoutesError> {
        routes.check()?;
        self.inner.in_force.routing.set(routes);
        Ok(())
    }

    /// The nodes that are connected with this one, by name.
    pub fn peers(&self) -> Vec<NodeId> {
        let mut peers: Vec<_> = self.inner.table.nodes().into_iter().map(|(node, _)| node).collect();
        peers.sort();
        peers
    }

    /// What happens in this node from now on.
    pub fn events(&self) -> Events {
        Events::new(self.inner.host.subscribe())
    }

    /// What has been counted since the node's start.
    pub fn counters(&self) -> Counters {
        Counters { ended_connections: self.inner.ends.counts(), ..self.inner.host.counters() }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Inner {
    #[expect(clippy::too_many_arguments, reason = "the builder calls it, and nobody else")]
    pub(crate) fn new(
        host: Arc<Host>,
        seen: Seen,
        peers: mpsc::Sender<News>,
        table: Arc<PeerTable>,
        topics: Arc<Topics>,
        in_force: InForce,
        labels: Labels,
        kinds: Kinds,
        is_client: bool,
        central: Arc<Central>,
        ends: Arc<Ends>,
        address: Option<SocketAddr>,
        configured: Option<Configured>,
    ) -> Arc<Self> {
        let Seen { names, members, commands: register } = seen;
        let inner = Arc::new(Self {
            host,
            members,
            names,
            register,
            peers,
            table,
            topics,
            in_force,
            labels,
            kinds,
            is_client,
            central,
            pools: Arc::default(),
            ends,
            meter: Meter::default(),
            shown: Shown::default(),
            address,
            configured,
            managing: Mutex::default(),
            groups: Mutex::default(),
            supervisors: Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        inner.host.set_owner(weak);
        inner
    }

    /// The node to which a host belongs, unless it has ended.
    pub(crate) fn of(host: &Host) -> Option<Arc<Self>> {
        host.owner()?.downcast().ok()
    }

    /// Takes a name on this node.
    pub(crate) fn add_group(&self, name: &Arc<str>) -> Result<Arc<Group>, StartError> {
        let mut groups = self.groups();
        // Under the lock: a shutdown either finds the group or is seen here.
        self.check_running()?;
        if self.is_client {
            return Err(StartError::Client(self.host.node.clone()));
        }
        if groups.contains_key(name) {
            return Err(StartError::NameTaken(name.to_string()));
        }
        let group = Arc::new(Group::default());
        groups.insert(Arc::clone(name), Arc::clone(&group));
        Ok(group)
    }

    pub(crate) fn remove_group(&self, name: &str) {
        self.groups().remove(name);
    }

    /// Notes a supervisor that no other supervises.
    pub(crate) fn add_supervisor(&self, control: &Arc<Control>) {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are gone go when the list would grow: in sum that costs each start a few looks.
        if supervisors.len() == supervisors.capacity() {
            supervisors.retain(|control| !control.is_gone());
        }
        supervisors.push(Arc::clone(control));
        // Under the lock: a shutdown either finds it or is seen here.
        if self.host.is_shutting_down() {
            control.pull(Halt::Stop);
        }
    }

    /// The supervisors that no other supervises, in the order of their start.
    pub(crate) fn supervisors(&self) -> Vec<Arc<Control>> {
        self.supervisors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn check_running(&self) -> Result<(), StartError> {
        if self.host.is_shutting_down() || self.host.tasks.is_aborted() {
            return Err(StartError::NodeStopped(self.host.node.clone()));
        }
        Ok(())
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// The node on which this instance runs.
    ///
    /// # Panics
    /// If a context was kept beyond its instance, and the node has ended.
    pub fn node(&self) -> Node {
        match Inner::of(self.core().host()) {
            Some(inner) => Node::without_owner_of(inner),
            None => panic!("the node of this context has ended"),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("id", self.id())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}
