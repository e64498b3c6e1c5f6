//! Restarting a service, and giving it more instances or fewer, while it is called.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::StartError;
use crate::id::InstanceId;
use crate::node::node::{Group, Node};
use crate::service::context::current_instance;
use crate::service::supervisor::control::{Command, Control, Scale};
use crate::supervision::Pace;

impl Node {
    /// Restarts this node's instances of a name, as a [`Pace`] says, and waits until they are up again. Gives whether there is such a service
    /// on this node.
    ///
    /// Each ends its life as by a stop: the handlers that run end first, for at most its [`stop_within`](crate::ServiceBuilder::stop_within). Its factory makes
    /// another value. Meanwhile it keeps its address, and callers wait in its mailbox, within their deadlines: no call fails for a restart, if the
    /// service [keeps](crate::Queued::Keep) its queue. It is no failure, so that no [`Intensity`](crate::Intensity) counts it and no other child of a
    /// supervisor is touched. An instance that pauses after a failure is started at once. A handler of that service is not made to wait for its
    /// own end.
    ///
    /// # Errors
    /// [`StartError`]: an instance did not come up again, and its supervisor goes on by its restart policy; by [`Pace::Rolling`]
    /// those after it were not restarted. Or it was stopped meanwhile.
    ///
    /// # Cancel safety
    /// What was polled goes on; by [`Pace::Rolling`] no further instance is restarted.
    pub async fn restart_service(&self, name: &str, pace: Pace) -> Result<bool, StartError> {
        let Some((_, supervisor, _)) = self.supervised(name) else { return Ok(false) };
        let mut instances = self.inner().host.instances_of(name);
        let current = current_instance();
        let is_current = |core: &Arc<_>| current.as_ref().is_some_and(|current| Arc::ptr_eq(current, core));
        // By whom this is asked comes last: nobody waits for it.
        instances.sort_by_key(|core| (is_current(core), core.address().instance));
        let mut waits = Vec::new();
        for core in &instances {
            let (done, is_up) = oneshot::channel();
            supervisor.ask(Command::Restart(core.address().instance, done)).await;
            if is_current(core) {
                continue;
            }
            match pace {
                Pace::Rolling => self.came_up(is_up, name).await?,
                Pace::AtOnce => waits.push(is_up),
            }
        }
        for is_up in waits {
            self.came_up(is_up, name).await?;
        }
        Ok(true)
    }

    /// As [`Node::restart_service`], for one instance of a named service, by its number. Gives whether there is one.
    ///
    /// # Errors
    /// [`StartError`], as there.
    ///
    /// # Cancel safety
    /// Once polled it is restarted all the same; only the waiting is cut short.
    pub async fn restart_instance(&self, instance: InstanceId) -> Result<bool, StartError> {
        // An anonymous one may be called as a name is.
        let resident = self.inner().host.resident(instance).filter(|resident| resident.is_named);
        let Some(core) = resident.map(|resident| resident.core) else { return Ok(false) };
        let Some((_, supervisor, _)) = self.supervised(core.service()) else { return Ok(false) };
        let (done, is_up) = oneshot::channel();
        supervisor.ask(Command::Restart(instance, done)).await;
        let is_itself = current_instance().is_some_and(|current| Arc::ptr_eq(&current, &core));
        if !is_itself {
            self.came_up(is_up, core.service()).await?;
        }
        Ok(true)
    }

    /// Has so many instances of a name on this node: starts more, or drains the ones that were started last, whose callers go to the others
    /// before. Waits until it is done. Gives whether there is such a service on this node. A handler of one that is drained is not made to wait for its own end.
    ///
    /// # Errors
    /// [`StartError::InvalidSetting`]: 0 instances; [`Node::drain_service`] ends a service. Others: one of the new instances did not come up, and those that were started with it are
    /// gone again; or the service was stopped meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future before it ends stops what was started; what was told to end does so.
    pub async fn scale_service(&self, name: &str, instances: usize) -> Result<bool, StartError> {
        if instances == 0 {
            let problem = format!("0 instances of {name:?} are not a service; draining it ends it");
            return Err(StartError::InvalidSetting { setting: "instances", problem });
        }
        let Some((group, supervisor, name)) = self.supervised(name) else { return Ok(false) };
        let Some(make) = group.template.get().map(Arc::clone) else { return Ok(false) };
        self.inner().check_running()?;
        let (reply, is_done) = oneshot::channel();
        let (stays, stay) = oneshot::channel();
        let scale = Scale { name: Arc::clone(&name), instances, make, reply, stay };
        supervisor.ask(Command::Scale(scale)).await;
        let is_to_go = current_instance().is_some_and(|current| {
            let mut all: Vec<_> = self.inner().host.instances_of(&name);
            all.sort_by_key(|core| core.address().instance);
            all.iter().skip(instances).any(|core| Arc::ptr_eq(core, &current))
        });
        if !is_to_go {
            self.came_up(is_done, &name).await?;
        }
        let _ = stays.send(()); // it was heard, or nothing was added
        Ok(true)
    }

    /// Waits for a supervisor's answer. Without one the service has ended.
    async fn came_up(
        &self,
        answer: oneshot::Receiver<Result<(), StartError>>,
        service: &str,
    ) -> Result<(), StartError> {
        let Ok(answer) = answer.await else {
            self.inner().check_running()?;
            let reason = crate::event::StopReason::Normal;
            return Err(StartError::Ended { service: service.to_owned(), reason });
        };
        answer
    }

    /// A name that runs here, and who supervises it.
    fn supervised(&self, name: &str) -> Option<(Arc<Group>, Arc<Control>, Arc<str>)> {
        let groups = self.inner().groups();
        let (name, group) = groups.get_key_value(name)?;
        let supervisor = Arc::clone(group.supervisor.get()?);
        Some((Arc::clone(group), supervisor, Arc::clone(name)))
    }
}
