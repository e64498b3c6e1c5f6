//! What a supervisor is asked while it runs: more children, fewer children, other lives, and how they fare.
//!
//! Invariant: an addition is up as a whole, or gone as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::error::StartError;
use crate::policy::restart::Key;
use crate::service::supervisor::child::{Child, Halt, Lever, State};
use crate::service::supervisor::control::{Addition, Answer, Command, Control};
use crate::service::supervisor::ear::Ear;
use crate::service::supervisor::run::Supervisor;
use crate::supervision::{ChildInfo, ChildState};
use crate::time;

/// Children that were added together. Forgotten when whoever asked has taken the answer, or has gone.
pub(super) struct Added {
    keys: BTreeSet<Key>,
    /// How many have not been up.
    coming: usize,
    /// `None` once answered.
    reply: Option<Answer>,
    /// Why the first one that did not come up did not.
    error: Option<StartError>,
}

/// Somebody who waits until some children are gone.
pub(super) struct Ending {
    left: BTreeSet<Key>,
    done: Answer,
}

impl Supervisor {
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Add(addition) => self.add_together(addition),
            Command::End(name, halt, done) => self.end(&name, halt, done).await,
            Command::Restart(instance, done) => self.restart(instance, done),
            Command::Scale(scale) => self.scale(scale).await,
            Command::Children(reply) => drop(reply.send(self.children())), // who asked may have gone
        }
    }

    pub(super) fn add_together(&mut self, Addition { specs, reply, stay }: Addition) {
        let number = self.next_addition;
        self.next_addition += 1;
        let keys: BTreeSet<_> = specs.into_iter().map(|spec| self.add(spec)).collect();
        for key in &keys {
            if let Some(child) = self.children.get_mut(key) {
                child.addition = Some(number);
            }
        }
        let added = Added { coming: keys.len(), keys, reply: Some(reply), error: None };
        self.additions.insert(number, added);
        self.ears.push(Ear::Stay(number, stay));
    }

    /// A child is up for the first time.
    pub(super) fn added_is_up(&mut self, key: Key) {
        let number = self.children.get(&key).and_then(|child| child.addition);
        let Some(added) = number.and_then(|number| self.additions.get_mut(&number)) else { return };
        added.coming -= 1;
        if added.coming == 0
            && let Some(reply) = added.reply.take()
        {
            drop(reply.send(Ok(()))); // whether it stays is heard
        }
    }

    /// A child is gone. If it was never up, those that were added with it go too.
    pub(super) fn added_is_gone(&mut self, key: Key, number: u64, error: Option<StartError>, now: Instant) {
        let Some(added) = self.additions.get_mut(&number) else { return };
        added.keys.remove(&key);
        if let Some(error) = error {
            added.error.get_or_insert(error);
            for key in added.keys.iter().rev() {
                self.policy.remove(*key, now);
            }
        }
        if added.keys.is_empty()
            && let Some(Added { reply: Some(reply), error: Some(error), .. }) = self.additions.remove(&number)
        {
            drop(reply.send(Err(error))); // who asked may have gone
        }
    }

    /// Whoever asked for an addition has it, or has gone.
    pub(super) fn addition_stays(&mut self, number: u64, stays: bool, now: Instant) {
        let Some(added) = self.additions.remove(&number) else { return };
        if !stays {
            for key in added.keys.iter().rev() {
                if let Some(child) = self.children.get_mut(key) {
                    child.halt = Some(Halt::Stop);
                    child.retires = child.joins;
                }
                self.policy.remove(*key, now);
            }
        }
    }

    /// Ends all children of a name for good.
    async fn end(&mut self, name: &str, halt: Halt, done: Answer) {
        let is_meant = |child: &Child| child.registry.is_some() && *child.name == *name;
        let left: BTreeSet<_> =
            self.children.iter().filter(|(_, child)| is_meant(child)).map(|(key, _)| *key).collect();
        let first = left.first().and_then(|key| self.children.get(key));
        if let Some(registry) = first.and_then(|child| child.registry.clone()) {
            registry.withdraw(halt).await; // nobody is to be sent to what ends
        }
        for key in left.iter().rev() {
            if let Some(child) = self.children.get_mut(key) {
                child.halt = child.halt.max(Some(halt));
                if child.state == State::Stopping {
                    child.pull(halt); // it was to rest, and is to end
                }
            }
            self.policy.remove(*key, time::now());
        }
        self.await_end(left, done);
    }

    /// Answers when these are gone.
    pub(super) fn await_end(&mut self, left: BTreeSet<Key>, done: Answer) {
        if left.is_empty() {
            drop(done.send(Ok(()))); // who asked may have gone
        } else {
            self.ending.push(Ending { left, done });
        }
    }

    /// A child is gone: whoever waited for it may go on.
    pub(super) fn ended(&mut self, key: Key) {
        for ending in &mut self.ending {
            ending.left.remove(&key);
        }
        for ending in self.ending.extract_if(.., |ending| ending.left.is_empty()) {
            drop(ending.done.send(Ok(()))); // who asked may have gone
        }
    }

    fn children(&self) -> Vec<(ChildInfo, Option<Arc<Control>>)> {
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_by_key(|(key, _)| **key);
        let info = |child: &Child| ChildInfo {
            name: child.name.to_string(),
            instance: child.lever.as_ref().and_then(|lever| lever.instance()),
            state: match child.state {
                State::Down | State::Gone => ChildState::Down,
                State::Starting => ChildState::Starting,
                State::Up => ChildState::Up,
                State::Stopping => ChildState::Stopping,
            },
            restarts: child.restarts,
        };
        let control = |child: &Child| child.lever.clone().and_then(Lever::control);
        children.into_iter().map(|(_, child)| (info(child), control(child))).collect()
    }
}
