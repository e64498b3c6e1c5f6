//! How much an instance has to do, as its own node says.
//!
//! A caller knows its own calls; of those of others it is told here, about once a second, and roughly: a told load is a power of two,
//! or nothing where there is little to do, so that what changes slightly is told to nobody.
//!
//! Invariant: whoever holds one sees the latest value; a change is no news.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below this many messages an instance counts as having nothing to do.
const LITTLE: u32 = 4;

/// The load of one instance, shared by all who look at it. Two are equal if they are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reported(Arc<AtomicU32>);

impl Reported {
    pub(crate) fn set(&self, load: u32) {
        self.0.store(load, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for Reported {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Reported {}

/// What is told of an instance with so many messages to do.
pub(crate) fn roughly(messages: usize) -> u32 {
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    if messages < LITTLE { 0 } else { 1 << messages.ilog2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_told_as_the_power_of_two_below_it_and_a_small_one_not_at_all() {
        let told: Vec<_> = [0, 3, 4, 7, 8, 1000, usize::MAX].into_iter().map(roughly).collect();
        assert_eq!(told, [0, 0, 4, 4, 8, 512, 1 << 31]);
    }

    #[test]
    fn all_who_hold_a_load_see_what_it_is_now() {
        let (one, other) = (Reported::default(), Reported::default());
        let same = one.clone();
        one.set(8);
        assert_eq!((same.get(), other.get()), (8, 0));
        assert!(one == same && one != other);
    }
}
