//! Which instances a newcomer may not send to now, for those who ask again and again: they are to be told so without the link's lock, which the
//! callers of other instances need.
//!
//! Invariant: it is written under the link's lock alone. What it says was so at some moment of the question; what it does not say, nobody knows.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::InstanceId;

/// A few of the instances without credit, each in one of these places.
#[derive(Debug, Default)]
pub(super) struct Exhausted([AtomicU64; PLACES]);

/// Two instances of one place take turns in it.
const PLACES: usize = 16;

impl Exhausted {
    /// Whether a newcomer was refused for want of credit, and nothing has changed since.
    #[inline]
    pub(super) fn has(&self, instance: InstanceId) -> bool {
        self.place(instance).load(Ordering::Acquire) == mark(instance)
    }

    /// A newcomer was refused.
    pub(super) fn note(&self, instance: InstanceId) {
        self.place(instance).store(mark(instance), Ordering::Release);
    }

    /// Somebody may have credit now.
    pub(super) fn clear(&self) {
        for place in &self.0 {
            place.store(0, Ordering::Release);
        }
    }

    fn place(&self, instance: InstanceId) -> &AtomicU64 {
        &self.0[usize::try_from(instance.0 % PLACES as u64).unwrap_or_default()]
    }
}

/// The number that stands for an instance; 0 is none. (The last number of all is never noted.)
fn mark(instance: InstanceId) -> u64 {
    instance.0.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_until_something_changes() {
        let exhausted = Exhausted::default();
        assert!(!exhausted.has(InstanceId(0)) && !exhausted.has(InstanceId(5)));
        exhausted.note(InstanceId(0));
        exhausted.note(InstanceId(5));
        assert!(exhausted.has(InstanceId(0)) && exhausted.has(InstanceId(5)));
        assert!(!exhausted.has(InstanceId(21)), "the same place");
        exhausted.note(InstanceId(21));
        assert!(exhausted.has(InstanceId(21)) && !exhausted.has(InstanceId(5)));
        exhausted.clear();
        assert!(!exhausted.has(InstanceId(0)) && !exhausted.has(InstanceId(21)));
    }
}
