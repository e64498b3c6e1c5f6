//! Keys: numbers by which callers say that some calls belong together.
//!
//! Invariant: the same on every node and in every build; what is hashed is the key, and nothing else.

use std::hash::{Hash, Hasher};

/// A key, as it travels: the same key has the same number everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) u64);

impl Key {
    /// The number of a key: FNV-1a of what its `Hash` writes.
    pub(crate) fn of<K: Hash + ?Sized>(key: &K) -> Self {
        let mut hasher = Fnv::new(0);
        key.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// FNV-1a, 64 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>. Numbers are hashed in little-endian order.
pub(crate) struct Fnv(u64);

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Fnv {
    /// `seed` 0 is the published hash.
    pub(crate) fn new(seed: u64) -> Self {
        Self(OFFSET ^ seed)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write(&(number as u64).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node of another build computes must be the same.
    #[test]
    fn the_numbers_of_keys_are_the_ones_that_were_published() {
        // Computed by another implementation, in another language.
        assert_eq!(Key::of(&7_u64), Key(0x4bd7_a317_074c_5b62));
        assert_eq!(Key::of("a"), Key(0x089b_c907_b544_c769));
    }
}
