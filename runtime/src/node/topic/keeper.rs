//! The task that has one topic in the directory while it has subscribers on this node.
//!
//! Invariant: there is one at most for a topic, and only it registers. However it ends, nobody waits for it in vain.

use std::any::type_name;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::cluster::coordinator::{Command, Register};
use crate::cluster::directory::Traits;
use crate::id::InstanceId;
use crate::node::topic::fanout::Fanout;
use crate::node::topic::handle::TopicItem;

pub(super) struct Keeper<T> {
    fanout: Arc<Fanout<T>>,
    has_finished: bool,
}

impl<T> Keeper<T> {
    pub(super) fn new(fanout: Arc<Fanout<T>>) -> Self {
        Self { fanout, has_finished: false }
    }
}

impl<T: TopicItem> Keeper<T> {
    /// Runs until nobody subscribes any more.
    pub(super) async fn run(mut self) {
        let fanout = Arc::clone(&self.fanout);
        let topics = &fanout.inner.topics;
        loop {
            // Before the peers are told: what they send at once is to be found.
            topics.add_hub(fanout.hub(), Arc::clone(&fanout) as _);
            self.register(vec![fanout.hub()]).await;
            fanout.until_left().await;
            self.register(Vec::new()).await;
            topics.remove_hub(fanout.hub());
            if fanout.is_settled() {
                self.has_finished = true;
                return;
            }
        }
    }

    async fn register(&self, instances: Vec<InstanceId>) {
        let fanout = &self.fanout;
        let (done, is_done) = oneshot::channel();
        // The interface of a topic is its items' type.
        let interface = type_name::<T>();
        let (name, traits) = (Arc::clone(&fanout.name), Traits::default());
        let register = Register { name, interface, instances, traits, done };
        // Without the cluster's task the node has ended, and its names with it.
        if fanout.inner.register.send(Command::Register(register)).await.is_ok() {
            drop(is_done.await);
        }
    }
}

/// Dropped before it has finished, it was cut off with its node.
impl<T> Drop for Keeper<T> {
    fn drop(&mut self) {
        if !self.has_finished {
            self.fanout.inner.topics.remove_hub(self.fanout.hub());
            self.fanout.end();
        }
    }
}
