//! One clock for all processes of the proof: microseconds since 1970, of the one machine that they run on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, in microseconds since 1970.
pub(crate) type Micros = u64;

/// Now.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    micros(since)
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// From one moment to a later one; zero if it is not later.
pub(crate) fn between(from: Micros, to: Micros) -> Duration {
    Duration::from_micros(to.saturating_sub(from))
}
