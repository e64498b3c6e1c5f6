//! How full a mailbox is, and when an event says so.
//!
//! Invariant: an event at the high-water mark, and none before the mailbox has been less than half as full again.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::Event;
use crate::service::core::Core;

/// The gauge of one mailbox.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Whether an event has said so.
    is_high: AtomicBool,
}

impl Gauge {
    /// Whether the mailbox was at its mark, and has not been seen half as full since.
    #[inline]
    pub(crate) fn is_high(&self) -> bool {
        self.is_high.load(Ordering::Relaxed)
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
