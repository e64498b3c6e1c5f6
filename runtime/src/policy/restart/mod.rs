//! Supervision: who is started, stopped, restarted and given up, and in which order.
//!
//! Never here: a task, a clock, a child itself. `now` and the source of jitter are arguments; children are keys.
//!
//! The semantics are those of OTP's `supervisor`, from <https://www.erlang.org/doc/system/sup_princ.html> and
//! `lib/stdlib/src/supervisor.erl`.
//!
//! | file | what it is |
//! |---|---|
//! | `mod` | what goes in and what comes out |
//! | `plan` | what is under way: a start in order, a stop in reverse, a restart of several |
//! | `child` | what is known about one child |
//! | `window` | how many restarts are too many |
//!
//! # The contract
//!
//! After any number of inputs the driver drains `poll_action` until `None`, then asks `poll_timeout` and calls
//! `handle_timeout` when that instant has come. To call it earlier does no harm.
//!
//! * Each `Start` is answered once, by `handle_started` or `handle_start_failed`, unless that child's `Stop` comes
//!   first. A child that is up and ends by itself is told by `handle_ended`.
//! * Each `Stop` is answered by exactly one `handle_ended`, also if the child ended by itself at that moment, and
//!   also if it was still starting, or failed to start. A late answer to the `Start` may come before this one and is
//!   ignored. After it nothing comes of that child until it is started again.
//! * A life begins with `start` and ends with one of `StartFailed`, `GaveUp` and `Stopped`. Then nothing runs, and
//!   `start` begins another life, with all children that have not been forgotten and with nothing counted. No key is
//!   used twice.
//!
//! # Where this is not OTP
//!
//! * Between a failure and the restart there may be a pause: see [`Restart`]. A group is stopped before the pause and
//!   not after it, because its members are not to run without one another for so long.
//! * A child that ended and does not come back is forgotten. OTP keeps the specification of a `transient` one, starts
//!   it again with the next restart of its group, and starts even `temporary` ones when the supervisor itself is
//!   restarted (it calls `init` again). A runtime that wants the latter makes a new `Supervision`.
//! * Children added while the supervisor runs are still there in its next life.
//! * A child that is removed while its group waits to be restarted does not keep the others down.
//! * While a group waits to be restarted, further ends are handled at once, as between two tries in OTP. A failure of
//!   a child before the group ([`Strategy::RestForOne`]) so makes it larger, and does not wait for its pause.

mod child;
mod plan;
mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use self::child::{Child, State};
use self::plan::Phase;
use self::window::Window;
use crate::supervision::{Intensity, Restart, Strategy};

/// The supervision of some children.
///
/// Every operation takes O(log n) for n children, with two exceptions, each of which is O(log n) for each child that
/// it starts or stops: `start` and `stop`, and what restarts or stops a group.
#[derive(Debug)]
pub(crate) struct Supervision {
    strategy: Strategy,
    window: Window,
    random: fastrand::Rng,
    /// In their order, which is that of the keys.
    children: BTreeMap<Key, Child>,
    next_key: Key,
    phase: Phase,
    /// When the children that are `Pausing` are started. No others are in it.
    pauses: BTreeSet<(Instant, Key)>,
    /// The children that ended by themselves and wait to be handled, in order of their ends. All of them are `Ended`,
    /// or forgotten.
    ended: VecDeque<Key>,
    actions: VecDeque<Action>,
}

/// A child: never used twice, and ordered as the children are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) usize);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Normal,
    Failed,
}

/// What is to be done, or has come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start this child, which does not run.
    Start(Key),
    /// Stop this child, which runs or is being started.
    Stop(Key),
    /// This child does not run and will not come back, in no life.
    Forget(Key),
    /// All children with which the life began are up. Later ones may follow.
    Up,
    /// The life did not begin, because this child did not start. The others have been stopped.
    StartFailed(Key),
    /// This child's failure was one too many. The others have been stopped.
    GaveUp(Key),
    /// All children have been stopped, because `stop` said so.
    Stopped,
}

impl Supervision {
    pub(crate) fn new(strategy: Strategy, intensity: Intensity, random: fastrand::Rng) -> Self {
        Self {
            strategy,
            window: Window::new(intensity),
            random,
            children: BTreeMap::new(),
            next_key: Key::FIRST,
            phase: Phase::Down,
            pauses: BTreeSet::new(),
            ended: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Adds a child at the end of the order. In a life that goes on it is started at once, or after the plan that is
    /// under way, and forgotten if it does not start.
    pub(crate) fn add(&mut self, restart: Restart) -> Key {
        let key = self.next_key;
        self.next_key = Key(key.0 + 1);
        self.children.insert(key, Child::new(restart, self.phase != Phase::Down));
        if self.phase == Phase::Up {
            self.start_child(key);
        }
        key
    }

    /// Begins a life, unless one goes on: all children are started in order.
    pub(crate) fn start(&mut self) {
        if self.phase == Phase::Down {
            self.window.clear();
            self.children.values_mut().for_each(Child::begin);
            self.start_from(Key::FIRST, true);
        }
    }

    /// Ends this life, whatever goes on. `Stopped` follows, also if there is no life, and instead of a `StartFailed`
    /// or `GaveUp` that nobody has heard yet.
    pub(crate) fn stop(&mut self) {
        if self.phase != Phase::Down {
            return self.end_life(Action::Stopped);
        }
        let is_last_word = |action: &&mut Action| {
            matches!(action, Action::StartFailed(_) | Action::GaveUp(_) | Action::Stopped)
        };
        match self.actions.iter_mut().rfind(is_last_word) {
            Some(last_word) => *last_word = Action::Stopped,
            None => self.actions.push_back(Action::Stopped),
        }
    }

    /// Stops one child for good; `Forget` follows. The others are not touched.
    pub(crate) fn remove(&mut self, key: Key, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.is_removed = true;
        if self.stop_child(key) {
            self.forget(key);
            self.go_on_after(key);
        }
        self.settle(now);
    }

    /// Stops one child and starts it again, by somebody's wish: that is no failure, is not counted, and touches no other child. One that
    /// pauses after a failure is started at once. Where it is on the way to another start already, or to its end, nothing changes.
    pub(crate) fn restart(&mut self, key: Key, now: Instant) {
        match self.children.get_mut(&key).map(|child| (child.state, child)) {
            Some((State::Running { .. }, child)) => {
                child.is_restarting = true;
                self.stop_child(key);
            }
            Some((State::Pausing { until }, _)) => {
                self.pauses.remove(&(until, key));
                self.start_child(key);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// A child that was to start is up.
    pub(crate) fn handle_started(&mut self, key: Key, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.state == (State::Starting { is_issued: true }) {
            child.state = State::Running { since: now };
            child.is_new = false;
            self.go_on_after(key);
            self.settle(now);
        }
    }

    /// A child that was to start did not, and does not run.
    pub(crate) fn handle_start_failed(&mut self, key: Key, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.state {
            State::Starting { is_issued: true } => {
                child.state = State::Down;
                self.start_failed(key, now);
            }
            // Whoever was to stop it has not been told so yet.
            State::Stopping { is_issued: false, .. } => self.stopped(key, now),
            _ => return,
        }
        self.settle(now);
    }

    /// A child that was up does not run any more, or one that was to stop does not.
    pub(crate) fn handle_ended(&mut self, key: Key, how: Ended, now: Instant) {
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.state {
            State::Running { since } => {
                child.ran(since, now);
                child.state = State::Ended { how, at: now };
                self.ended.push_back(key);
            }
            State::Stopping { .. } => self.stopped(key, now),
            _ => return,
        }
        self.settle(now);
    }

    /// The time is now at or after what `poll_timeout` said.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((until, key)) = self.pauses.first().copied().filter(|(until, _)| *until <= now) {
            self.pauses.remove(&(until, key));
            self.start_child(key);
        }
        self.settle(now);
    }

    /// What to do next. `None` until there is another input.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        loop {
            let action = self.actions.pop_front()?;
            if self.issue(action) {
                return Some(action);
            }
        }
    }

    /// When to call `handle_timeout`.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Pause { until, .. } => Some(until),
            _ => self.pauses.first().map(|(until, _)| *until),
        }
    }

    /// Notes that an answer is owed. False if the action is out of date: what happened since it was queued took it
    /// back.
    fn issue(&mut self, action: Action) -> bool {
        let (Action::Start(key) | Action::Stop(key)) = action else { return true };
        let Some(child) = self.children.get_mut(&key) else { return false };
        match (action, &mut child.state) {
            (Action::Start(_), State::Starting { is_issued })
            | (Action::Stop(_), State::Stopping { is_issued, .. }) => !std::mem::replace(is_issued, true),
            _ => false,
        }
    }
}

impl Key {
    /// Not after any other.
    const FIRST: Self = Self(0);

    /// After all others.
    const END: Self = Self(usize::MAX);
}
