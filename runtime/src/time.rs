//! The one facade over the clock and over timers: tokio's, so that the whole runtime stands still under a paused
//! clock.
//!
//! Invariant: nothing else in the crate reads a clock or makes a timer.

#![expect(clippy::disallowed_methods, reason = "this file owns the clock")]

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cpu_time::{ProcessTime, ThreadTime};

/// The present.
#[inline]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Ends at `deadline`. Cancel safe.
pub(crate) fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(deadline.into())
}

/// Ends at `deadline`; never without one. Cancel safe.
pub(crate) async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Ends after `duration`. Cancel safe.
pub(crate) fn sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// The future's output, or `None` after `limit`.
pub(crate) async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Lets something be said once a second: a stranger must not fill a log.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Whether it is to be said now: then, how often it was not since the last time.
    pub(crate) fn speaks(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now < said + Duration::from_secs(1)) {
            self.left_out += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

/// How long the present thread has run on a processor; `None` where the system does not tell. A call of the system: it takes some 500 ns.
/// Real time, whatever the other clocks do.
pub(crate) fn thread_cpu() -> Option<Duration> {
    Some(ThreadTime::try_now().ok()?.as_duration())
}

/// How long all threads of the process have run on a processor; `None` where the system does not tell.
pub(crate) fn process_cpu() -> Option<Duration> {
    Some(ProcessTime::try_now().ok()?.as_duration())
}

/// Milliseconds since the Unix epoch by the wall clock; 0 if that is set before the epoch.
pub(crate) fn unix_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// A duration that may change while others read it. What is longer than 2^64 ns, which is 584 years, counts as that.
#[derive(Debug)]
pub(crate) struct AtomicDuration(AtomicU64);

impl AtomicDuration {
    pub(crate) fn new(duration: Duration) -> Self {
        Self(AtomicU64::new(nanos(duration)))
    }

    #[inline]
    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, duration: Duration) {
        self.0.store(nanos(duration), Ordering::Relaxed);
    }
}

/// A duration in nanoseconds; at most 2^64.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
