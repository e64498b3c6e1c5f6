//! How full a mailbox is, when an event says so, and how long a newcomer is expected to wait.
//!
//! Invariant: an event at the high-water mark, and none before the mailbox has been less than half as full again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::event::Event;
use crate::service::core::Core;
use crate::service::sojourn::smoothed;

/// The gauge of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Whether an event has said so.
    is_high: AtomicBool,
    /// How long each message has lately taken, in nanoseconds. Written by the instance's task alone, as is `sojourn`.
    pace: AtomicU64,
    /// How long messages have lately waited, in nanoseconds.
    sojourn: AtomicU64,
}

impl Gauge {
    /// Whether the mailbox was at its mark, and has not been seen half as full since.
    #[inline]
    pub(crate) fn is_high(&self) -> bool {
        self.is_high.load(Ordering::Relaxed)
    }

    /// How long messages have lately waited in the mailbox.
    pub(crate) fn sojourn(&self) -> Duration {
        Duration::from_nanos(self.sojourn.load(Ordering::Relaxed))
    }

    /// How long a message is expected to wait behind `waiting` others. Zero while nothing is known.
    pub(crate) fn expected(&self, waiting: usize) -> Duration {
        Duration::from_nanos(self.pace.load(Ordering::Relaxed).saturating_mul(waiting as u64))
    }

    /// Notes how long each message of a batch took.
    pub(crate) fn note_pace(&self, sample: Duration) {
        note(&self.pace, sample);
    }

    /// Notes how long a message waited.
    pub(crate) fn note_sojourn(&self, sample: Duration) {
        note(&self.sojourn, sample);
    }

    /// Notes how many messages wait.
    pub(crate) fn note(&self, core: &Core, waiting: usize) {
        let (mark, capacity) = (core.settings().high_water_mark(), core.settings().capacity());
        if waiting < mark {
            if waiting.saturating_mul(2) < mark && self.is_high() {
                self.is_high.store(false, Ordering::Relaxed);
            }
        } else if !self.is_high() && !self.is_high.swap(true, Ordering::AcqRel) {
            core.host().publish(Event::HighWater {
                address: core.address().clone(),
                service: core.service().to_string(),
                waiting,
                capacity,
            });
        }
    }
}

fn note(mean: &AtomicU64, sample: Duration) {
    let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
    mean.store(smoothed(mean.load(Ordering::Relaxed), sample), Ordering::Relaxed);
}
