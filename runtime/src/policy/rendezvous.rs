//! Which of many candidates a key belongs to, so that all nodes agree without a word, and a candidate that comes or goes
//! moves no keys but its own.
//!
//! Highest random weight: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998.
//!
//! Invariant: the same on every node and in every build; what is hashed is the key and the candidate, and nothing else.

use std::hash::Hasher as _;

pub(crate) use crate::key::Key;

use crate::key::Fnv;

impl Key {
    /// How strongly a candidate is tied to the key: the strongest one has it.
    pub(crate) fn weight(self, node: &str, instance: u64) -> u64 {
        let mut hasher = Fnv::new(self.0);
        hasher.write(node.as_bytes());
        mix(hasher.finish() ^ mix(instance ^ self.0.rotate_left(32)))
    }
}

/// Spreads every bit over all: the last steps of `MurmurHash3`'s 64-bit finalizer.
pub(crate) fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(key: Key, candidates: &[(&'static str, u64)]) -> (&'static str, u64) {
        *candidates.iter().max_by_key(|(node, instance)| key.weight(node, *instance)).unwrap()
    }

    #[test]
    fn keys_spread_evenly_and_move_only_with_who_comes_or_goes() {
        let four = [("a", 1), ("a", 2), ("b", 1), ("c", 1)];
        let mut counts = [0; 4];
        let mut moved = 0;
        for key in 0..10_000_u64 {
            let key = Key::of(&key);
            let owner_of_four = owner(key, &four);
            counts[four.iter().position(|candidate| *candidate == owner_of_four).unwrap()] += 1;
            let owner_of_three = owner(key, &four[..3]);
            if owner_of_four == four[3] {
                moved += 1;
            } else {
                assert_eq!(owner_of_three, owner_of_four);
            }
        }
        assert!(counts.iter().all(|count| (2300..2700).contains(count)), "{counts:?}");
        assert_eq!(moved, counts[3]);
    }

    /// What a node of another build computes must be the same.
    #[test]
    fn the_weights_are_the_ones_that_were_published() {
        // Computed by another implementation, in another language.
        assert_eq!(Key::of(&7_u64).weight("b", 3), 0x1300_cd56_3921_d642);
    }
}
