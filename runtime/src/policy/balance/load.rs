//! What is known of one instance, shared by all handles of the node that lead to it.
//!
//! A call under way holds a [`Flight`]. How many there are is how many references to the state there are: nothing has to be
//! counted, and nothing can be forgotten.
//!
//! Invariant: the state is referred to by its `Load`, once, and by flights.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::error::CallError;
use crate::policy::balance::latency::Latency;
use crate::policy::balance::pool::Pool;
use crate::policy::balance::standing::{Fitness, Standing, is_failure};

/// What answers sooner counts as this slow, in nanoseconds: below 0.1 ms what is measured is the scheduler.
const FLOOR: f32 = 100_000.0;

/// What a call under way at an instance counts that has never answered, in nanoseconds: more than any measured one.
const UNKNOWN: f32 = 1e15;

/// An instance, as far as its calls show it.
pub(crate) struct Load {
    state: Arc<State>,
}

struct State {
    latency: Latency,
    standing: Standing,
    pool: Weak<Pool>,
}

/// A call under way. Dropped it is not under way any more, and nothing is learned from it.
pub(crate) struct Flight {
    state: Arc<State>,
    /// When it began; 0 if its duration is of no interest.
    began: u64,
}

impl Load {
    pub(super) fn new(pool: Weak<Pool>) -> Self {
        let state = State { latency: Latency::default(), standing: Standing::default(), pool };
        Self { state: Arc::new(state) }
    }

    /// A call begins. Whether `measured`, its duration counts if one is wanted now.
    #[inline]
    pub(crate) fn begin(&self, now: u64, measured: bool) -> Flight {
        let is_wanted = measured && self.state.latency.is_due(now);
        Flight { state: Arc::clone(&self.state), began: if is_wanted { now } else { 0 } }
    }

    /// How many calls are under way.
    #[inline]
    pub(crate) fn in_flight(&self) -> usize {
        Arc::strong_count(&self.state) - 1
    }

    /// The latest estimate of how long an answer takes, in nanoseconds.
    pub(crate) fn latency(&self) -> Option<f32> {
        self.state.latency.last()
    }

    /// What the next call is expected to take, with those under way before it. An instance that is not known yet is asked
    /// before all others, by one call at a time.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "not so many calls are under way")]
    pub(super) fn cost(&self, now: u64) -> f32 {
        let in_flight = self.in_flight() as f32;
        match self.state.latency.now(now) {
            Some(latency) => latency.max(FLOOR) * (in_flight + 1.0),
            None => UNKNOWN * in_flight,
        }
    }

    pub(super) fn fitness(&self, now: u64) -> Fitness {
        self.state.standing.fitness(now)
    }

    /// Says that the instance is new.
    pub(super) fn is_new(&self, now: u64) {
        self.state.standing.begin(now);
    }

    /// The instance is passed over from now on. Gives until when.
    pub(super) fn eject(&self, now: u64) -> u64 {
        self.state.standing.eject(now)
    }

    pub(super) fn has(&self, flight: &Flight) -> bool {
        Arc::ptr_eq(&self.state, &flight.state)
    }
}

impl Flight {
    /// The call was answered. The clock is read if its duration is wanted.
    #[inline]
    pub(crate) fn answered(self, clock: impl FnOnce() -> u64) {
        self.state.standing.succeeded();
        if self.began != 0 {
            let now = clock();
            self.state.latency.note(now.saturating_sub(self.began), now);
        }
    }

    /// The call has failed. Whatever the reason, the instance is of less use to callers than one that answers.
    pub(crate) fn failed(self, error: &CallError, now: u64) {
        if !self.state.standing.is_another_moment(now) {
            return;
        }
        self.state.latency.double(FLOOR, now);
        if is_failure(error)
            && self.state.standing.failed(now)
            && let Some(pool) = self.state.pool.upgrade()
        {
            pool.eject(&self, now);
        }
    }

    /// The caller does not wait any longer, for reasons of its own: the answer would have taken longer than this.
    pub(crate) fn given_up(self, clock: impl FnOnce() -> u64) {
        if self.began != 0 {
            let now = clock();
            self.state.latency.note_at_least(now.saturating_sub(self.began), now);
        }
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("in_flight", &self.in_flight())
            .field("latency", &self.latency())
            .finish()
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}
