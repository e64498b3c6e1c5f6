//! How many restarts are too many: a sliding window, as `add_restart` and `in_period` of OTP's `supervisor.erl` have
//! it.

use std::collections::VecDeque;
use std::time::Instant;

use crate::supervision::Intensity;

/// The restarts that still count. At most as many are kept as the intensity allows.
#[derive(Debug)]
pub(super) struct Window {
    intensity: Intensity,
    restarts: VecDeque<Instant>,
}

impl Window {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart, unless it is one too many.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let Some(limit) = &self.intensity.limit else { return true };
        while self.restarts.front().is_some_and(|at| now.saturating_duration_since(*at) > limit.within) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= limit.restarts as usize {
            return false;
        }
        self.restarts.push_back(now);
        true
    }

    /// Another life begins, in which nothing has been counted.
    pub(super) fn clear(&mut self) {
        self.restarts.clear();
    }
}

#[cfg(test)]
impl Window {
    pub(super) fn len(&self) -> usize {
        self.restarts.len()
    }
}
