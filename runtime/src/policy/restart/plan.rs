//! What is under way. One plan at a time: it waits for one child, and what happens to others meanwhile waits for it.
//!
//! Invariant: a plan only ever moves in one direction, upward when it starts and downward when it stops, so that it
//! touches each child once.

use std::time::Instant;

use super::child::{Child, State};
use super::{Action, Key, Supervision};
use crate::supervision::Strategy;

/// What is under way. Where there is a `child`, it is the one that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no life; no child runs.
    Down,
    /// Nothing is under way but what concerns single children.
    Up,
    /// Children are started in order; `is_first` in the beginning of a life.
    Starting { child: Key, is_first: bool },
    /// The children from `from` on are stopped in reverse order.
    Stopping { from: Key, child: Key, then: Then },
    /// All are being stopped at once, and so many have not ended.
    StoppingAll { left: usize, last_word: Action },
    /// The children from `from` on are down, and started at that time.
    Pause { from: Key, until: Instant },
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Those that were stopped come back, at that time.
    Restart { until: Instant },
    /// The life is over. This says why.
    Over(Action),
}

/// What happens to one child.
impl Supervision {
    pub(super) fn start_child(&mut self, key: Key) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.state = State::Starting { is_issued: false };
        self.actions.push_back(Action::Start(key));
    }

    /// Asks a child to stop. True if it does not run, be it that it never did.
    pub(super) fn stop_child(&mut self, key: Key) -> bool {
        let Some(child) = self.children.get_mut(&key) else { return true };
        let since = match child.state {
            State::Running { since } => Some(since),
            State::Starting { is_issued: true } => None,
            State::Stopping { .. } => return false,
            State::Down | State::Starting { is_issued: false } | State::Ended { .. } => {
                child.state = State::Down;
                return true;
            }
            State::Pausing { until } => {
                child.state = State::Down;
                self.pauses.remove(&(until, key));
                return true;
            }
        };
        child.state = State::Stopping { is_issued: false, since };
        self.actions.push_back(Action::Stop(key));
        false
    }

    /// A child that was asked to stop did.
    pub(super) fn stopped(&mut self, key: Key, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if let State::Stopping { since: Some(since), .. } = child.state {
            child.ran(since, now);
        }
        child.state = State::Down;
        let is_restarting = std::mem::replace(&mut child.is_restarting, false);
        if child.is_removed {
            self.forget(key);
        }
        match &mut self.phase {
            Phase::StoppingAll { left, .. } if *left > 1 => *left -= 1,
            Phase::StoppingAll { last_word, .. } => {
                let then = Then::Over(*last_word);
                self.end_stop(Key::FIRST, then);
            }
            _ => {
                self.go_on_after(key);
                if is_restarting {
                    self.start_again(key);
                }
            }
        }
    }

    /// Starts a child that was stopped for this, unless a plan will, or nobody will any more.
    fn start_again(&mut self, key: Key) {
        let is_down = self.children.get(&key).is_some_and(|child| child.state == State::Down);
        let is_apart = match self.phase {
            Phase::Up => true,
            Phase::Starting { child, .. } => key < child,
            Phase::Stopping { from, .. } | Phase::Pause { from, .. } => key < from,
            Phase::Down | Phase::StoppingAll { .. } => false,
        };
        if is_down && is_apart {
            self.start_child(key);
        }
    }

    /// A child that was to start is down again.
    pub(super) fn start_failed(&mut self, key: Key, now: Instant) {
        if self.children.get(&key).is_some_and(|child| child.is_new) {
            self.forget(key);
            return self.go_on_after(key);
        }
        match self.phase {
            Phase::Starting { is_first: true, .. } => self.end_life(Action::StartFailed(key)),
            // Its turn to be stopped would have come.
            Phase::Stopping { .. } => {}
            _ => self.failed(key, now, now),
        }
    }

    /// A child failed at that time, is down, and is to come back.
    fn failed(&mut self, key: Key, at: Instant, now: Instant) {
        if !self.window.admit(now) {
            return self.end_life(Action::GaveUp(key));
        }
        let Some(child) = self.children.get_mut(&key) else { return };
        // No pause is longer than 584 years, so that this does not overflow.
        let until = at + child.pause(&mut self.random);
        match self.strategy {
            Strategy::OneForOne | Strategy::Dynamic if until <= now => self.start_child(key),
            Strategy::OneForOne | Strategy::Dynamic => {
                child.state = State::Pausing { until };
                self.pauses.insert((until, key));
            }
            Strategy::RestForOne => self.stop_down_to(key, Key::END, Then::Restart { until }),
            Strategy::OneForAll => self.stop_down_to(Key::FIRST, Key::END, Then::Restart { until }),
        }
    }

    pub(super) fn forget(&mut self, key: Key) {
        self.children.remove(&key);
        self.actions.push_back(Action::Forget(key));
    }
}

/// What happens to several.
impl Supervision {
    /// Does what has waited for the plan, unless that still goes on: a pause that is over, then the ends, in order of
    /// their arrival, until one of them makes another plan.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            match self.phase {
                Phase::Pause { from, until } if until <= now => self.start_from(from, false),
                Phase::Up | Phase::Pause { .. } => match self.ended.pop_front() {
                    Some(key) => self.decide(key, now),
                    None => return,
                },
                _ => return,
            }
        }
    }

    /// The plan goes on if it waited for this child, which is up, down or forgotten.
    pub(super) fn go_on_after(&mut self, key: Key) {
        match self.phase {
            Phase::Starting { child, is_first } if child == key => self.start_from(key, is_first),
            Phase::Stopping { from, child, then } if child == key => {
                self.leave_out(key, then);
                self.stop_down_to(from, key, then);
            }
            _ => {}
        }
    }

    /// Starts the first child at or after `from` that is down; the others follow it.
    pub(super) fn start_from(&mut self, from: Key, is_first: bool) {
        let down = self.children.range(from..).find(|(_, child)| child.state == State::Down);
        if let Some((&key, _)) = down {
            self.phase = Phase::Starting { child: key, is_first };
            return self.start_child(key);
        }
        self.phase = Phase::Up;
        if is_first {
            self.actions.push_back(Action::Up);
        }
    }

    /// Stops the last child below `below` that runs; the others follow it, down to `from`.
    fn stop_down_to(&mut self, from: Key, mut below: Key, then: Then) {
        while let Some((&key, child)) = self.children.range(from..below).next_back() {
            let ran = !matches!(child.state, State::Down | State::Starting { is_issued: false });
            if !self.stop_child(key) {
                self.phase = Phase::Stopping { from, child: key, then };
                return;
            }
            if ran {
                self.leave_out(key, then);
            }
            below = key;
        }
        self.end_stop(from, then);
    }

    /// A child that a plan has stopped, and that is not to come back with the others, is forgotten.
    fn leave_out(&mut self, key: Key, then: Then) {
        let stays = self.children.get(&key).is_none_or(Child::comes_back_with_its_siblings);
        if matches!(then, Then::Restart { .. }) && !stays {
            self.forget(key);
        }
    }

    /// All children from `from` on are down. What they did before does not count any more.
    fn end_stop(&mut self, from: Key, then: Then) {
        self.ended.retain(|key| *key < from);
        match then {
            Then::Restart { until } => self.phase = Phase::Pause { from, until },
            Then::Over(last_word) => {
                self.phase = Phase::Down;
                self.actions.push_back(last_word);
            }
        }
    }

    /// Stops all children; then comes the last word of this life.
    pub(super) fn end_life(&mut self, last_word: Action) {
        for (_, key) in std::mem::take(&mut self.pauses) {
            self.stop_child(key);
        }
        let then = Then::Over(last_word);
        if self.strategy != Strategy::Dynamic {
            return self.stop_down_to(Key::FIRST, Key::END, then);
        }
        let keys: Vec<Key> = self.children.keys().copied().collect();
        let left = keys.into_iter().filter(|key| !self.stop_child(*key)).count();
        self.phase = Phase::StoppingAll { left, last_word };
        if left == 0 {
            self.end_stop(Key::FIRST, then);
        }
    }

    /// It is the turn of a child that ended by itself.
    fn decide(&mut self, key: Key, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let State::Ended { how, at } = child.state else { return };
        child.state = State::Down;
        if child.comes_back(how) { self.failed(key, at, now) } else { self.forget(key) }
    }
}
