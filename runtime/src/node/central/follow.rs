//! The tasks that keep a node's knowledge of the central configuration up to what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::CallError;
use crate::event::Event;
use crate::id::NodeId;
use crate::node::manager;
use crate::node::node::Inner;
use crate::service::streaming::Streaming;
use crate::time;

use super::etcd;
use super::known::Known;
use super::place::{Central, Kept};
use super::service::{self, Step};
use super::space::{SettingVersion, Version};

/// How long a follower waits after the holder has not answered.
const AGAIN: Duration = Duration::from_millis(500);

/// Starts the tasks that a node needs.
pub(crate) fn start(inner: &Arc<Inner>) {
    let tasks = &inner.host.tasks;
    match &inner.central.kept {
        Kept::Nowhere => return,
        Kept::Here(_) => {}
        Kept::By(holder) => drop(tasks.spawn(follow(Arc::clone(inner), holder.clone()))),
        Kept::InEtcd(_) => drop(tasks.spawn(etcd::follow(Arc::clone(&inner.central)))),
    }
    tasks.spawn(apply(Arc::clone(&inner.central)));
}

/// Takes what is known to those who watch.
async fn apply(central: Arc<Central>) {
    let mut known = central.known.subscribe();
    while known.changed().await.is_ok() {
        for live in central.watching.now() {
            live.catch_up(&central);
        }
    }
}

/// Follows the holder, through all its lives.
async fn follow(inner: Arc<Inner>, holder: NodeId) {
    let central = &inner.central;
    let mut said = String::new();
    while let Some(incarnation) = manager::connected(&inner, &holder).await {
        let known = central.known.borrow().version;
        let handle = service::on(&inner, holder.clone(), incarnation);
        let problem = match handle.follow(known).await {
            Ok(Ok(steps)) => match central.follow_steps(&holder, steps).await {
                Err(error @ CallError::BadReply(_)) => error.to_string(),
                Ok(()) | Err(_) => String::new(), // it has gone, or this node has
            },
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if !problem.is_empty() && problem != said {
            tracing::warn!(node = %central.host.node, %holder, problem, "cannot follow the holder of the central configuration");
        }
        said = problem;
        time::sleep(AGAIN).await;
    }
}

impl Central {
    /// Until the stream ends.
    async fn follow_steps(&self, holder: &NodeId, mut steps: Streaming<Step>) -> Result<(), CallError> {
        let mut settings = BTreeMap::clone(&self.known.borrow().settings);
        let mut is_whole = false;
        while let Some(step) = steps.next().await {
            match step? {
                Step::Whole => {
                    settings.clear();
                    is_whole = true;
                }
                Step::Set(setting) => drop(settings.insert(setting.key.clone(), Arc::new(setting))),
                Step::Gone(key) => drop(settings.remove(&key)),
                Step::Done(version) => {
                    let before = self.known.borrow().version;
                    if std::mem::take(&mut is_whole) && version < before {
                        let (holder, from, to) = (holder.clone(), before.0, version.0);
                        self.host.publish(Event::ConfigWentBack { holder, from, to });
                    }
                    self.learn(settings.clone(), version);
                }
            }
        }
        Ok(())
    }

    /// This is what is kept now.
    pub(super) fn learn(&self, settings: BTreeMap<String, Arc<SettingVersion>>, version: Version) {
        self.known.send_replace(Arc::new(Known { is_heard: true, version, settings }));
    }
}
