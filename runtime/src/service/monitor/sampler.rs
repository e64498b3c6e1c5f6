//! Which ones of many are measured: one of each group, at a place in the group that nothing foresees.
//!
//! A sample stands for its group. Both the group's size and the place are known before any of it runs, so what a sample takes has no say in
//! whether it is drawn, and the sums are right on average. The next group's size goes by what the last sample took; it is at most twice the one
//! before, so that a short one among long ones hides few of those.
//!
//! Invariant: one task at a time draws. Others may read.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The largest group.
pub(super) const LARGEST: u16 = 32;

/// Draws samples.
#[derive(Debug)]
pub(super) struct Sampler {
    /// How many come until the next sample, itself included.
    left: AtomicU16,
    /// The size of the group of the next sample.
    group: AtomicU16,
    /// How many of that group come after it.
    behind: AtomicU16,
    /// The size of groups to come.
    next: AtomicU16,
    /// A Weyl sequence: multiples of the golden ratio, which fill the places evenly and in no period.
    place: AtomicU32,
}

impl Sampler {
    /// Every first one is measured. `seed` tells the places of one sampler from those of another.
    pub(super) fn new(seed: u32) -> Self {
        Self {
            left: AtomicU16::new(1),
            group: AtomicU16::new(1),
            behind: AtomicU16::new(0),
            next: AtomicU16::new(1),
            place: AtomicU32::new(seed),
        }
    }

    /// One more comes. If it is to be measured, then for how many it stands.
    #[inline]
    pub(super) fn draw(&self) -> Option<u16> {
        let left = self.left.load(Ordering::Relaxed) - 1; // at least 1 was left: see `begin_group`
        if left > 0 {
            self.left.store(left, Ordering::Relaxed);
            return None;
        }
        Some(self.begin_group())
    }

    #[inline(never)]
    fn begin_group(&self) -> u16 {
        let (behind, size) = (self.behind.load(Ordering::Relaxed), self.next.load(Ordering::Relaxed));
        let turn = self.place.load(Ordering::Relaxed).wrapping_add(0x9E37_79B9);
        self.place.store(turn, Ordering::Relaxed);
        // A fraction of 2^32 of a 16-bit number is one.
        let place = u16::try_from((u64::from(turn) * u64::from(size)) >> 32).unwrap_or(0);
        self.left.store(behind + place + 1, Ordering::Relaxed);
        self.behind.store(size - 1 - place, Ordering::Relaxed);
        self.group.swap(size, Ordering::Relaxed)
    }

    /// Sets the size of groups to come, within bounds.
    pub(super) fn set_group(&self, size: u64) {
        let most = LARGEST.min(2 * self.next.load(Ordering::Relaxed));
        let size = u16::try_from(size).unwrap_or(LARGEST).clamp(1, most);
        self.next.store(size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_stand_for_all_whatever_the_sizes_of_groups_are() {
        let sampler = Sampler::new(7);
        let (mut stood_for, mut drawn) = (0, 0);
        for number in 1..=10_000_u64 {
            if let Some(weight) = sampler.draw() {
                stood_for += u64::from(weight);
                drawn += 1;
                sampler.set_group(number % 50);
            }
            assert!(stood_for <= number + u64::from(LARGEST), "{stood_for} of {number}");
            assert!(stood_for + 2 * u64::from(LARGEST) >= number, "{stood_for} of {number}");
        }
        assert!((300..8000).contains(&drawn), "{drawn}");
    }

    #[test]
    fn where_each_second_one_is_long_the_sum_is_right_all_the_same() {
        let sampler = Sampler::new(1);
        (0..4).for_each(|_| sampler.set_group(16));
        let (mut sum, mut estimate) = (0_u64, 0_u64);
        for number in 0..160_000_u64 {
            let took = if number % 2 == 0 { 1000 } else { 10 };
            sum += took;
            if let Some(weight) = sampler.draw() {
                estimate += took * u64::from(weight);
            }
        }
        assert!(estimate.abs_diff(sum) * 100 < sum, "{estimate} for {sum}");
    }

    #[test]
    fn groups_grow_little_by_little_and_shrink_at_once() {
        let sampler = Sampler::new(1);
        let sizes = [100, 100, 100, 0, 100].map(|size| {
            sampler.set_group(size);
            sampler.next.load(Ordering::Relaxed)
        });
        assert_eq!(sizes, [2, 4, 8, 1, 2]);
    }

    #[test]
    fn in_groups_of_one_each_is_measured() {
        let sampler = Sampler::new(3);
        assert!((0..100).all(|_| sampler.draw() == Some(1)));
    }
}
