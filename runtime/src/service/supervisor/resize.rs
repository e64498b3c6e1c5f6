//! Another life for one child, and another number of children of a name, because somebody wishes it.
//!
//! Invariant: neither is a failure: nothing is counted, and no other child is touched.

use std::collections::BTreeSet;

use crate::error::StartError;
use crate::event::StopReason;
use crate::id::InstanceId;
use crate::policy::restart::Key;
use crate::service::supervisor::child::{Child, Halt, State};
use crate::service::supervisor::control::{Addition, Answer, Scale};
use crate::service::supervisor::run::Supervisor;
use crate::time;

/// Somebody who waits for another life of a child.
pub(super) struct Restarting {
    pub(super) key: Key,
    /// Whether the life that is beginning was made before this was asked for.
    is_early: bool,
    done: Answer,
}

impl Supervisor {
    /// Ends an instance's life and begins another. Who is no child any more is not answered.
    pub(super) fn restart(&mut self, instance: InstanceId, done: Answer) {
        let is_it = |child: &Child| child.lever.as_ref().and_then(|lever| lever.instance()) == Some(instance);
        let key = self.children.iter().find(|(_, child)| is_it(child)).map(|(key, _)| *key);
        if let Some(key) = key {
            // A life that is beginning was made before this: another one is to follow it.
            let is_early = self.children.get(&key).is_some_and(|child| child.state == State::Starting);
            self.restarting.push(Restarting { key, is_early, done });
            if !is_early {
                self.policy.restart(key, time::now());
            }
        }
    }

    /// A child's life has begun. Gives whether another one is to follow it.
    pub(super) fn restarted(&mut self, key: Key) -> bool {
        for done in self.take_restarting(key) {
            drop(done.send(Ok(()))); // who asked may have gone
        }
        self.restarting.iter().any(|restarting| restarting.key == key)
    }

    /// A child's next life did not begin. Its supervisor tries again, by its restart policy.
    pub(super) fn restart_failed(&mut self, key: Key) {
        let mut waiting = self.take_restarting(key).into_iter();
        let Some(first) = waiting.next() else { return };
        let error = self.children.get_mut(&key).and_then(|child| child.error.take());
        let error = error.unwrap_or_else(|| self.never_up(&self.control.name));
        let service = self.children.get(&key).map(|child| child.name.to_string()).unwrap_or_default();
        let reason = StopReason::Error(error.to_string());
        drop(first.send(Err(error))); // who asked may have gone
        // An error cannot be cloned: the others hear its text.
        for done in waiting {
            let ended = StartError::Ended { service: service.clone(), reason: reason.clone() };
            drop(done.send(Err(ended)));
        }
    }

    /// Those who have waited for the life that has begun, or has not. Who asked too early for it waits for the next one from now on.
    fn take_restarting(&mut self, key: Key) -> Vec<Answer> {
        let has_waited = |restarting: &mut Restarting| restarting.key == key && !restarting.is_early;
        let waiting = self.restarting.extract_if(.., has_waited).map(|restarting| restarting.done).collect();
        for early in self.restarting.iter_mut().filter(|restarting| restarting.key == key) {
            early.is_early = false;
        }
        waiting
    }

    /// Starts more children of a name, or drains the ones that were started last.
    pub(super) async fn scale(&mut self, Scale { name, instances, make, reply, stay }: Scale) {
        let is_meant =
            |child: &Child| child.registry.is_some() && *child.name == *name && child.halt.is_none();
        let mut keys: Vec<Key> =
            self.children.iter().filter(|(_, child)| is_meant(child)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        if keys.len() < instances {
            let specs: Vec<_> = (keys.len()..instances).map_while(|_| make()).collect();
            if !specs.is_empty() {
                self.add_together(Addition { specs, reply, stay });
            }
            return;
        }
        let left: BTreeSet<_> = keys.split_off(instances).into_iter().collect();
        self.retire(&left).await;
        for key in left.iter().rev() {
            self.policy.remove(*key, time::now());
        }
        self.await_end(left, reply);
    }

    /// Lets nobody be sent to these any more, whose name stays, and says how they are to end.
    async fn retire(&mut self, keys: &BTreeSet<Key>) {
        let mut instances = Vec::new();
        let mut registry = None;
        for child in keys.iter().filter_map(|key| self.children.get(key)) {
            instances.extend(child.lever.as_ref().and_then(|lever| lever.instance()));
            registry = registry.or_else(|| child.registry.clone());
        }
        if let Some(registry) = registry {
            registry.retire(instances).await;
        }
        for key in keys {
            if let Some(child) = self.children.get_mut(key) {
                (child.halt, child.retires) = (Some(Halt::Drain), true);
            }
        }
    }
}
