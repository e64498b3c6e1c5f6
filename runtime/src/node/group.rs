//! A named group of instances of one service.
//!
//! One task watches over the group: it takes an instance that ended out of the directory, and stops them all when asked.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::cluster::coordinator::Register;
use crate::error::StartError;
use crate::id::{InstanceId, check_service_name};
use crate::node::lookup;
use crate::node::node::{Inner, Node};
use crate::service::definition::Service;
use crate::service::deliver;
use crate::service::instance::{self, Core};
use crate::service::message::{Message, WireMessage};

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 256;

/// A named service that is about to be started. Made by `Node::service`.
#[must_use = "a service starts with `.start().await`"]
pub struct ServiceBuilder<S, F> {
    node: Node,
    name: String,
    factory: F,
    instances: usize,
    service: PhantomData<fn() -> S>,
}

/// How a running group is asked to stop, and how its end is seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub(crate) stop: CancellationToken,
    pub(crate) ended: CancellationToken,
}

impl<S, F> ServiceBuilder<S, F>
where
    S: Service,
    S::Message: WireMessage,
    F: FnMut() -> S + Send + 'static,
{
    pub(crate) fn new(node: Node, name: String, factory: F) -> Self {
        Self { node, name, factory, instances: 1, service: PhantomData }
    }

    /// How many instances run under the name. Default 1; at least 1.
    pub fn instances(mut self, instances: usize) -> Self {
        self.instances = instances;
        self
    }

    /// Starts the instances, and makes the name known in the whole cluster. The handle takes turns over the instances
    /// of this node; one from `lookup` takes turns over those of all nodes.
    ///
    /// # Errors
    /// [`StartError`]: the name cannot be used or is taken on this node, or an instance refused to start. Then nothing
    /// runs.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started.
    pub async fn start(mut self) -> Result<<S::Message as Message>::Handle, StartError> {
        check_service_name(&self.name, MAX_NAME)?;
        if self.instances == 0 {
            let problem = "0 instances cannot be started; at least 1 is needed".to_owned();
            return Err(StartError::InvalidSetting { setting: "instances", problem });
        }
        let name: Arc<str> = self.name.as_str().into();
        let node = self.node.clone();
        let group = node.inner().add_group(&name)?;
        // From here on the group ends by its task, or by this guard.
        let mut starting =
            Starting { inner: Arc::clone(node.inner()), name: Arc::clone(&name), group, cores: Vec::new() };
        let mut started = Vec::new();
        for _ in 0..self.instances {
            let service = (self.factory)();
            let reach = deliver::reachable::<S::Message>;
            let (local, hears) = instance::start(&node.inner().host, Arc::clone(&name), service, Some(reach));
            starting.cores.push(Arc::clone(local.core()));
            started.push(hears);
        }
        for hears in started {
            // The instance's task ends without a word only when the node ends.
            let result = hears.await.unwrap_or_else(|_| Err(StartError::NodeStopped(node.id().clone())));
            if let Err(error) = result {
                starting.give_up().await;
                return Err(error);
            }
        }
        let interface = <S::Message as Message>::INTERFACE;
        let inner = Arc::clone(node.inner());
        // Without an answer the group's task was cut off, with its node.
        drop(starting.commit(interface).await);
        inner.check_running()?;
        Ok(lookup::route(&node, name, Some(node.id().clone())))
    }
}

/// A group whose instances are starting. Dropped before `commit`, it stops them.
struct Starting {
    inner: Arc<Inner>,
    name: Arc<str>,
    group: Group,
    cores: Vec<Arc<Core>>,
}

impl Starting {
    /// Stops what was started, and waits for its end.
    async fn give_up(self) {
        let cores = self.cores.clone();
        drop(self);
        for core in cores {
            core.ended().await;
        }
    }

    /// Hands the instances over to the group's task. Answered when the name is registered.
    fn commit(mut self, interface: &'static str) -> oneshot::Receiver<()> {
        let members = Members {
            inner: Arc::clone(&self.inner),
            name: Arc::clone(&self.name),
            interface,
            group: self.group.clone(),
            cores: std::mem::take(&mut self.cores),
        };
        let (registered, is_registered) = oneshot::channel();
        self.inner.host.tasks.spawn(members.watch(registered));
        is_registered
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if !self.cores.is_empty() {
            self.cores.iter().for_each(|core| core.stop());
            self.inner.remove_group(&self.name);
            self.group.ended.cancel();
        }
    }
}

/// The running instances of a group.
struct Members {
    inner: Arc<Inner>,
    name: Arc<str>,
    interface: &'static str,
    group: Group,
    cores: Vec<Arc<Core>>,
}

impl Members {
    /// The group's task.
    async fn watch(mut self, registered: oneshot::Sender<()>) {
        self.register().await;
        let _ = registered.send(()); // who started it may have gone
        let mut ends: FuturesUnordered<_> = self.cores.iter().cloned().map(end_of).collect();
        loop {
            tokio::select! {
                biased;
                ended = ends.next() => match ended {
                    Some(instance) => {
                        self.cores.retain(|core| core.address().instance != instance);
                        self.register().await;
                    }
                    None => break,
                },
                () = self.group.stop.cancelled() => {
                    self.stop().await;
                    break;
                }
            }
        }
    }

    /// First the name goes, so that nobody is sent here any more; then the instances stop, the last one first.
    async fn stop(&mut self) {
        let cores = std::mem::take(&mut self.cores);
        self.register().await;
        for core in cores.iter().rev() {
            core.stop();
            core.ended().await;
        }
    }

    async fn register(&self) {
        let instances: Vec<InstanceId> = self.cores.iter().map(|core| core.address().instance).collect();
        let (done, is_done) = oneshot::channel();
        let register = Register { name: Arc::clone(&self.name), interface: self.interface, instances, done };
        // Without the cluster's task the node has ended, and its names with it.
        if self.inner.register.send(register).await.is_ok() {
            drop(is_done.await);
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.inner.remove_group(&self.name);
        self.group.ended.cancel();
    }
}

async fn end_of(core: Arc<Core>) -> InstanceId {
    core.ended().await;
    core.address().instance
}

impl<S, F> fmt::Debug for ServiceBuilder<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder")
            .field("name", &self.name)
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}
