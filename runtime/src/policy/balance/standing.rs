//! Whether an instance is passed over, and how much of its share one gets that has just come.
//!
//! Both are one number, the time from which the instance is *fresh*: if that is still to come it is passed over until
//! then; for [`SLOW_START`] after it its share grows; if it is none, or long ago, nothing is the matter.
//!
//! The rules are those of Envoy's outlier detection and slow start, with its defaults
//! (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier>,
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start>), where those
//! count consecutive failures: its rules by rates are left out, as is jitter. Envoy has no [`MOMENT`], begins and ends an
//! ejection at its next look, and leaves the length of a slow start to its user.
//!
//! Invariant: decides about one instance alone; how many may be passed over is the pool's matter.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::CallError;

/// After so many failures without a success between them an instance is to be passed over.
pub(super) const FAILURES: u32 = 5;

/// Failures within this time count as one: the end of one life of an instance fails everything that it was doing.
pub(super) const MOMENT: Duration = Duration::from_millis(10);

/// For how long an instance is passed over the first time. The second time for twice as long, and so on.
pub(super) const EJECTION: Duration = Duration::from_secs(30);

/// The longest time for which an instance is passed over.
pub(super) const LONGEST_EJECTION: Duration = Duration::from_secs(300);

/// An instance that is offered for this long again counts as passed over once less.
pub(super) const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// How long the share of a fresh instance grows.
pub(super) const SLOW_START: Duration = Duration::from_secs(10);

/// The share with which it begins.
pub(super) const LEAST_SHARE: f32 = 0.1;

/// Whether a call's end counts as a failure of the instance that had it.
///
/// It does where an instance does not do what it is there for. Not where the message or the caller is at fault; not where
/// the node could not be reached, since the directory knows that and offers the instance to nobody meanwhile; and not where
/// there was no room, since such an instance works. What the service itself answers, an `Err` too, is an answer.
pub(super) fn is_failure(error: &CallError) -> bool {
    match error {
        CallError::Timeout(_) | CallError::Panicked(_) | CallError::NoReply(_) | CallError::Stopped(_) => {
            true
        }
        CallError::NoRoute(_)
        | CallError::Overloaded(_)
        | CallError::Stale(_)
        | CallError::Denied(_)
        | CallError::Incompatible(_)
        | CallError::TooLarge(_)
        | CallError::Expired(_)
        | CallError::Codec(_)
        | CallError::Deadlock(_)
        | CallError::Disconnected(_)
        | CallError::BadReply(_) => false,
    }
}

/// What the failures of an instance have come to.
#[derive(Default)]
pub(super) struct Standing {
    /// Failures since the last success.
    failures: AtomicU32,
    /// When one was counted last.
    counted: AtomicU64,
    /// The time from which the instance is fresh; 0 for none.
    fresh_from: AtomicU64,
    /// How often it was passed over, less what is forgiven. Written under the pool's lock.
    ejections: AtomicU32,
}

/// What may be done with an instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fitness {
    /// Nothing is the matter.
    Fit,
    /// It has just come, or come back: it gets this share of what the others get.
    Fresh(f32),
    /// It is passed over.
    Ejected,
}

impl Standing {
    /// Says that the instance is new.
    pub(super) fn begin(&self, now: u64) {
        self.fresh_from.store(now, Ordering::Relaxed);
    }

    pub(super) fn fitness(&self, now: u64) -> Fitness {
        let from = self.fresh_from.load(Ordering::Relaxed);
        let slow = nanos(SLOW_START);
        match now.checked_sub(from) {
            None => Fitness::Ejected,
            Some(age) if from != 0 && age < slow => Fitness::Fresh(share(age, slow)),
            Some(_) => Fitness::Fit,
        }
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        // Most often there is nothing to forget, and then nothing is written.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Whether this moment has not had its failure yet. Then it has it now.
    pub(super) fn is_another_moment(&self, now: u64) -> bool {
        let is_another = |last: u64| (last == 0 || now >= last.saturating_add(nanos(MOMENT))).then_some(now);
        self.counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_another).is_ok()
    }

    /// Counts a failure; whether they are too many. What ends while the instance is passed over is of before.
    pub(super) fn failed(&self, now: u64) -> bool {
        if self.fitness(now) == Fitness::Ejected {
            return false;
        }
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES
    }

    /// The instance is passed over from now on. Gives until when.
    pub(super) fn eject(&self, now: u64) -> u64 {
        let back_for = now.saturating_sub(self.fresh_from.load(Ordering::Relaxed));
        let forgiven = u32::try_from(back_for / nanos(FORGIVEN_AFTER)).unwrap_or(u32::MAX);
        let times = self.ejections.load(Ordering::Relaxed).saturating_sub(forgiven).saturating_add(1);
        let until = now.saturating_add(nanos(EJECTION.saturating_mul(times).min(LONGEST_EJECTION)));
        self.ejections.store(times, Ordering::Relaxed);
        self.fresh_from.store(until, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        until
    }
}

/// Grows evenly, from [`LEAST_SHARE`] to 1.
#[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn share(age: u64, of: u64) -> f32 {
    (age as f32 / of as f32).max(LEAST_SHARE)
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
