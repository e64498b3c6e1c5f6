//! What a supervisor makes of what it hears of its children.
//!
//! Invariant: an ear that has heard something is replaced here, as long as there is more to hear.

use std::time::Instant;

use crate::error::StartError;
use crate::event::{Event, StopReason};
use crate::policy::restart::{Ended as How, Key};
use crate::service::life::Ended;
use crate::service::supervisor::child::State;
use crate::service::supervisor::ear::{Ear, Heard};
use crate::service::supervisor::run::Supervisor;
use crate::time;

impl Supervisor {
    pub(super) async fn heard(&mut self, heard: Heard) {
        let now = time::now();
        match heard {
            Heard::Started(key, result, ended) => {
                self.ears.push(Ear::End(key, ended));
                let Some(child) = self.children.get_mut(&key) else { return };
                match result {
                    Ok(()) if child.state == State::Starting => self.is_up(key).await,
                    Ok(()) => {}
                    Err(error) => child.error = error,
                }
            }
            Heard::Ended(key, ended) => {
                self.unkill(key);
                self.has_ended(key, ended, now);
            }
            Heard::Left(key, life) => self.has_left(key, life, now),
            Heard::Stays(addition, stays) => self.addition_stays(addition, stays, now),
        }
    }

    /// A life is up. A first one makes the child known.
    async fn is_up(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.state = State::Up;
        let is_again = std::mem::replace(&mut child.was_up, true);
        let instance = child.lever.as_ref().and_then(|lever| lever.instance());
        if is_again {
            self.host.publish(Event::Restarted {
                supervisor: self.control.name.to_string(),
                child: child.name.to_string(),
                instance,
            });
        } else {
            if let (Some(registry), Some(instance)) = (child.registry.clone(), instance) {
                registry.up(instance).await;
            }
            self.added_is_up(key);
        }
        let is_to_follow = self.restarted(key);
        self.policy.handle_started(key, time::now());
        if is_to_follow {
            self.policy.restart(key, time::now());
        }
    }

    fn has_ended(&mut self, key: Key, ended: Option<Ended>, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let was = child.state;
        let Some(Ended { reason, next, waits }) = ended else {
            // It was stopped for good by somebody else, or cut off with its node.
            child.state = State::Gone;
            if was == State::Stopping {
                self.policy.handle_ended(key, How::Normal, now);
            }
            return self.policy.remove(key, now);
        };
        child.down(next);
        self.ears.push(Ear::Wait(key, child.restarts, waits));
        let how = if reason.is_failure() { How::Failed } else { How::Normal };
        match was {
            State::Starting => {
                let early = || StartError::Ended { service: child.name.to_string(), reason: reason.clone() };
                child.error.get_or_insert_with(early);
                self.policy.handle_start_failed(key, now);
            }
            _ => self.policy.handle_ended(key, how, now),
        }
        if was != State::Stopping {
            child.last_end = Some(reason);
        }
        if was == State::Starting {
            self.restart_failed(key);
        }
    }

    /// A child that was down was stopped for good by somebody else, unless it left for the life that it waited for.
    fn has_left(&mut self, key: Key, life: u64, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state == State::Down && child.restarts == life {
            child.state = State::Gone;
            self.policy.remove(key, now);
        }
    }

    /// A child failed once too often. Gives why the supervisor ends.
    pub(super) fn gave_up(&self, key: Key) -> StopReason {
        let child = self.children.get(&key);
        let name = child.map(|child| child.name.to_string()).unwrap_or_default();
        let reason = child.and_then(|child| child.last_end.as_ref()).map(ToString::to_string);
        let reason = reason.unwrap_or_default();
        let why = StopReason::Error(format!("too many restarts: `{name}` {reason}"));
        self.host.publish(Event::GaveUp { supervisor: self.control.name.to_string(), child: name, reason });
        why
    }

    /// Why a child did not come up, if it did not say so itself.
    pub(super) fn never_up(&self, service: &str) -> StartError {
        if self.host.is_shutting_down() || self.host.tasks.is_aborted() {
            return StartError::NodeStopped(self.host.node.clone());
        }
        StartError::Ended { service: service.to_owned(), reason: StopReason::Normal }
    }
}
