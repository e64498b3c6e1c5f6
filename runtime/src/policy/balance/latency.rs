//! How long an instance takes to answer: a moving average that follows a rise at once and a fall slowly.
//!
//! Peak EWMA, as Finagle's `PeakEwma` (<https://twitter.github.io/finagle/guide/Clients.html#power-of-two-choices-p2c-least-loaded>)
//! and tower's `load::PeakEwma` have it. An estimate that nobody refreshes falls too, so that an instance which was slow
//! once is tried again. Here it is one atomic without a lock, which takes one sample in each [`UNIT`] and besides only
//! what is above the estimate: hence a caller need not measure what would not be taken.
//!
//! Invariant: never waits. Of two samples at the same time one may be lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After this time without a refresh an estimate counts for 1/e of what it was: 10 s, as in Finagle and Linkerd.
const DECAY: Duration = Duration::from_secs(10);

/// Two to this power of nanoseconds are one unit of an estimate's age: 1.05 ms.
const UNIT: u32 = 20;

/// [`DECAY`] in units.
#[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
const DECAY_UNITS: f32 = DECAY.as_secs_f32() * 1e9 / (1_u32 << UNIT) as f32;

/// An age of fewer units, a hundredth of [`DECAY`], is not worth an exponential.
const YOUNG: u32 = 95;

/// No estimate grows beyond this, in nanoseconds: an hour.
const MOST: f32 = 3_600e9;

/// The estimate in nanoseconds as the bits of an `f32`, which is 0 before the first sample, and when it was made, in units.
#[derive(Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// The estimate as it was made, in nanoseconds; `None` before the first sample.
    #[inline]
    pub(super) fn last(&self) -> Option<f32> {
        self.load().0
    }

    /// The estimate as it is now, in nanoseconds; `None` before the first sample.
    #[inline]
    pub(super) fn now(&self, now: u64) -> Option<f32> {
        let (estimate, made) = self.load();
        Some(faded(estimate?, units(now).wrapping_sub(made)))
    }

    /// Whether a sample would be taken now even if it is below the estimate.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        let (estimate, made) = self.load();
        estimate.is_none() || made != units(now)
    }

    /// A call was answered after so many nanoseconds.
    pub(super) fn note(&self, sample: u64, now: u64) {
        let (estimate, made) = self.load();
        let (sample, age) = (nanos(sample), units(now).wrapping_sub(made));
        let Some(estimate) = estimate else { return self.store(sample, now) };
        let estimate = faded(estimate, age);
        if sample >= estimate {
            self.store(sample, now);
        } else if age > 0 {
            self.store(estimate + (sample - estimate) * (1.0 - weight(age)), now);
        }
    }

    /// A call was not answered for so many nanoseconds, and the caller has gone.
    pub(super) fn note_at_least(&self, sample: u64, now: u64) {
        let sample = nanos(sample);
        if self.now(now).is_none_or(|estimate| sample > estimate) {
            self.store(sample, now);
        }
    }

    /// A call has failed: the instance counts as twice as slow, and at least as slow as `least` nanoseconds.
    pub(super) fn double(&self, least: f32, now: u64) {
        let estimate = self.now(now).unwrap_or(0.0).max(least);
        self.store(2.0 * estimate, now);
    }

    fn load(&self) -> (Option<f32>, u32) {
        let packed = self.0.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default(); // it fits
        let estimate = f32::from_bits(half(packed));
        ((estimate > 0.0).then_some(estimate), half(packed >> 32))
    }

    /// Numbers that nothing else hangs on: no order with other memory is needed.
    fn store(&self, estimate: f32, now: u64) {
        let estimate = estimate.clamp(1.0, MOST).to_bits();
        self.0.store(u64::from(units(now)) << 32 | u64::from(estimate), Ordering::Relaxed);
    }
}

/// What is left of an estimate after so many units.
#[inline]
fn faded(estimate: f32, age: u32) -> f32 {
    if age < YOUNG { estimate } else { estimate * weight(age) }
}

/// How much what was known before counts beside a new sample.
#[expect(clippy::cast_precision_loss, reason = "an age of many units need not be exact")]
fn weight(age: u32) -> f32 {
    (-(age as f32) / DECAY_UNITS).exp()
}

/// They begin anew after 52 days: an estimate of exactly that age counts as a new one.
#[expect(clippy::cast_possible_truncation, reason = "they begin anew")]
fn units(now: u64) -> u32 {
    (now >> UNIT) as u32
}

#[expect(clippy::cast_precision_loss, reason = "seven digits are enough")]
fn nanos(sample: u64) -> f32 {
    (sample as f32).max(1.0)
}
