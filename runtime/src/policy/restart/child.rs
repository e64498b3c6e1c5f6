//! What is known about one child.

use std::time::{Duration, Instant};

use super::Ended;
use crate::policy::backoff;
use crate::supervision::{Restart, When};

/// A child that has not been forgotten.
#[derive(Debug)]
pub(super) struct Child {
    restart: Restart,
    pub(super) state: State,
    /// It was added to a running supervisor and has not been up: if it does not start, it is forgotten.
    pub(super) is_new: bool,
    /// Forget it when it has ended.
    pub(super) is_removed: bool,
    /// Start it again when it has stopped.
    pub(super) is_restarting: bool,
    /// Failures since it was healthy.
    failures: u32,
}

/// Where a child is. What is *issued* has been polled, so that an answer is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It does not run. A plan or the next life starts it.
    Down,
    /// It failed and is started alone at that time.
    Pausing {
        until: Instant,
    },
    Starting {
        is_issued: bool,
    },
    Running {
        since: Instant,
    },
    /// It is to end; `since` says from when it ran, if it did.
    Stopping {
        is_issued: bool,
        since: Option<Instant>,
    },
    /// It ended by itself, and what follows from that waits for the plan.
    Ended {
        how: Ended,
        at: Instant,
    },
}

impl Child {
    pub(super) fn new(restart: Restart, is_new: bool) -> Self {
        Self { restart, state: State::Down, is_new, is_removed: false, is_restarting: false, failures: 0 }
    }

    /// A life of the supervisor begins; whatever was before does not count.
    pub(super) fn begin(&mut self) {
        (self.is_new, self.is_restarting) = (false, false);
        self.failures = 0;
    }

    /// Whether it is to come back after such an end.
    pub(super) fn comes_back(&self, how: Ended) -> bool {
        match self.restart.when {
            When::Always => true,
            When::OnFailure => how == Ended::Failed,
            When::Never => false,
        }
    }

    /// Whether it comes back when a plan stopped it.
    pub(super) fn comes_back_with_its_siblings(&self) -> bool {
        self.restart.when != When::Never
    }

    /// It does not run any more. After a healthy time its next failure is the first again, whoever ended it.
    pub(super) fn ran(&mut self, since: Instant, now: Instant) {
        if now.saturating_duration_since(since) >= self.restart.healthy_after {
            self.failures = 0;
        }
    }

    /// It failed. How long to wait before it comes back.
    pub(super) fn pause(&mut self, random: &mut fastrand::Rng) -> Duration {
        let Restart { first, longest, .. } = self.restart;
        let pause = match self.failures.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => backoff::pause(first, longest, doublings, random),
        };
        self.failures = self.failures.saturating_add(1);
        pause
    }
}
