//! Makes a service's name known in the cluster while its instances run here.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::cluster::coordinator::{Command, Measure, Register, withdraw};
use crate::cluster::directory::Traits;
use crate::cluster::withdrawal::Withdraw;
use crate::error::StartError;
use crate::id::InstanceId;
use crate::node::node::{Group, Inner, MakeSpec};
use crate::policy::balance::reported::roughly;
use crate::service::host::Host;
use crate::service::supervisor::child::{Halt, Registry};
use crate::service::supervisor::control::Control;

/// How long a drain waits for the peers to route elsewhere.
pub(crate) const PEERS_KNOW_WITHIN: Duration = Duration::from_secs(2);

/// What the peers are told that an instance of this node has to do.
pub(super) fn measure(host: &Arc<Host>) -> Measure {
    let host = Arc::clone(host);
    Box::new(move |instance| host.resident(instance).map_or(0, |resident| roughly(resident.core.load())))
}

/// A name that this node runs. It is taken when this is made, and free again when it is dropped.
pub(crate) struct Registrar {
    inner: Arc<Inner>,
    name: Arc<str>,
    interface: &'static str,
    traits: Traits,
    /// How many instances are up before the name is made known.
    expected: usize,
    group: Arc<Group>,
    state: Mutex<State>,
}

/// Guards what the directory is told.
#[derive(Default)]
struct State {
    instances: BTreeSet<InstanceId>,
    /// How many have been up, be they here still or not.
    ups: usize,
    announced: bool,
    withdrawn: bool,
}

impl Registrar {
    /// Takes a name.
    pub(crate) fn new(
        inner: &Arc<Inner>,
        name: Arc<str>,
        interface: &'static str,
        traits: Traits,
        expected: usize,
    ) -> Result<Arc<Self>, StartError> {
        let group = inner.add_group(&name)?;
        let inner = Arc::clone(inner);
        Ok(Arc::new(Self { inner, name, interface, traits, expected, group, state: Mutex::default() }))
    }

    /// Says how one more instance is begun, for when the service is [scaled](Node::scale_service).
    pub(super) fn set_template(&self, make: MakeSpec) {
        drop(self.group.template.set(make)); // a group is made with its registrar
    }

    /// Tells the directory. What it is told is looked at when it is told, so that the last word is the latest.
    async fn tell(&self) {
        let instances = {
            let state = self.state();
            if state.withdrawn { Vec::new() } else { state.instances.iter().copied().collect() }
        };
        let (done, is_done) = oneshot::channel();
        let (name, traits) = (Arc::clone(&self.name), self.traits.clone());
        let register = Register { name, interface: self.interface, instances, traits, done };
        // Without the cluster's task the node has ended, and its names with it.
        if self.inner.register.send(Command::Register(register)).await.is_ok() {
            drop(is_done.await);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Registrar {
    fn supervised_by(&self, control: &Arc<Control>) {
        drop(self.group.supervisor.set(Arc::clone(control))); // a child has one supervisor
    }

    fn up(&self, instance: InstanceId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            {
                let mut state = self.state();
                state.instances.insert(instance);
                state.ups += 1;
                state.announced |= state.ups >= self.expected;
                if !state.announced || state.withdrawn {
                    return;
                }
            }
            self.tell().await;
        })
    }

    fn withdraw(&self, halt: Halt) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A node that shuts down has told its peers of all names at once.
            let peers_know = self.state().withdrawn || self.inner.host.is_shutting_down();
            if halt == Halt::Drain && !peers_know {
                let names = Withdraw::Names(vec![Arc::clone(&self.name)]);
                withdraw(&self.inner.register, names, PEERS_KNOW_WITHIN).await;
            }
            let was_known = {
                let mut state = self.state();
                !std::mem::replace(&mut state.withdrawn, true) && state.announced
            };
            if was_known {
                self.tell().await;
            }
        })
    }

    fn retire(&self, instances: Vec<InstanceId>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            {
                let mut state = self.state();
                state.instances.retain(|instance| !instances.contains(instance));
                if !state.announced || state.withdrawn {
                    return;
                }
            }
            self.tell().await;
            if !self.inner.host.is_shutting_down() {
                // No name goes: it only waits until the peers route by what they were told just now.
                withdraw(&self.inner.register, Withdraw::Names(Vec::new()), PEERS_KNOW_WITHIN).await;
            }
        })
    }

    fn gone(&self, instance: InstanceId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            {
                let mut state = self.state();
                let was_known = state.instances.remove(&instance);
                if !was_known || !state.announced || state.withdrawn {
                    return;
                }
            }
            self.tell().await;
        })
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.inner.remove_group(&self.name);
        self.group.ended.cancel();
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("name", &self.name).finish_non_exhaustive()
    }
}
