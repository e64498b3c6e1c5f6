//! A histogram of durations, which samples with weights go into.
//!
//! Its buckets are at most a 32nd of their values wide, from a nanosecond to 73 minutes, which is 9.7 kB; what is longer counts as that.
//!
//! Invariant: anybody writes and reads at any time, and nobody waits.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::AtomicHistogram;

use crate::time;

/// Two to this power is the number of buckets for values between one power of two and the next.
const GROUPING: u8 = 5;
/// Two to this power, in nanoseconds, is what is too long.
const LONGEST: u8 = 42;

/// Durations.
pub(crate) struct Times {
    histogram: AtomicHistogram,
    /// In nanoseconds, with their weights.
    sum: AtomicU64,
    longest: AtomicU64,
}

/// What durations come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
    pub(crate) mean: Duration,
}

impl Times {
    /// `None` only if the constants above fit no histogram.
    pub(super) fn new() -> Option<Self> {
        let histogram = AtomicHistogram::new(GROUPING, LONGEST).ok()?;
        Some(Self { histogram, sum: AtomicU64::new(0), longest: AtomicU64::new(0) })
    }

    /// Notes a duration that stands for so many.
    pub(super) fn note(&self, took: Duration, weight: u64) {
        let nanos = time::nanos(took).min((1 << LONGEST) - 1);
        drop(self.histogram.add(nanos, weight)); // it is in bounds
        self.sum.fetch_add(nanos.saturating_mul(weight), Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
    }

    /// What they come to, of at least `count`: those that were not noted took no time.
    pub(super) fn summary(&self, count: u64) -> Summary {
        let mut histogram = self.histogram.load();
        let noted: u64 = histogram.as_slice().iter().sum();
        let count = count.max(noted);
        drop(histogram.add(0, count - noted));
        let max = self.longest.load(Ordering::Relaxed);
        let quantile = |quantile| {
            let bucket = histogram.quantile_bucket(quantile).ok().flatten();
            Duration::from_nanos(bucket.map_or(0, |bucket| bucket.end()).min(max))
        };
        let mean = self.sum.load(Ordering::Relaxed).checked_div(count).unwrap_or(0);
        Summary {
            count,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: Duration::from_nanos(max),
            mean: Duration::from_nanos(mean),
        }
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Times").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether a quantile is what it should be, within a bucket.
    fn is_about(found: Duration, expected: Duration) -> bool {
        expected <= found && found <= expected + expected / 32
    }

    #[test]
    fn quantiles_are_right_within_a_32nd() {
        let times = Times::new().unwrap();
        (1..=1000).for_each(|ms| times.note(ms * MS, 2));
        let summary = times.summary(0);
        assert_eq!((summary.count, summary.max), (2000, 1000 * MS));
        assert_eq!(summary.mean, Duration::from_micros(500_500));
        for (found, expected) in [(summary.p50, 500), (summary.p99, 990), (summary.p999, 999)] {
            assert!(is_about(found, expected * MS), "{found:?} for {expected} ms");
        }
    }

    #[test]
    fn what_was_not_noted_took_no_time() {
        let times = Times::new().unwrap();
        times.note(10 * MS, 10);
        let summary = times.summary(1000);
        assert_eq!((summary.count, summary.p50), (1000, Duration::ZERO));
        assert!(is_about(summary.p999, 10 * MS) && summary.p99.is_zero(), "{summary:?}");
        assert_eq!(Times::new().unwrap().summary(0), Summary::default());
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let times = Times::new().unwrap();
        times.note(Duration::MAX, 1);
        let minutes = times.summary(0).max.as_secs() / 60;
        assert_eq!(minutes, 73);
    }
}
