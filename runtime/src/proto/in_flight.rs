//! The requests of this node that wait for a reply on one connection.
//!
//! Invariants: an id is never used twice on a connection; a reply for an id that does not wait changes nothing.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::id::RequestId;

/// The requests that wait on one connection, each with what its reply is for.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    waiting: HashMap<u64, T, BuildHasherDefault<OwnIds>>,
    next: u64,
    max: usize,
}

impl<T> InFlight<T> {
    /// An empty table of at most `max` requests.
    pub(crate) fn new(max: usize) -> Self {
        Self { waiting: HashMap::default(), next: 1, max }
    }

    /// Whether as many requests wait as may.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= self.max
    }

    /// The next number: for a request that waits for no reply, or to [`hold`](Self::hold) it under.
    pub(crate) fn number(&mut self) -> RequestId {
        let id = self.next;
        self.next += 1; // Even a billion requests a second take five centuries to use the numbers up.
        RequestId(id)
    }

    /// Takes a request in under its number. Whoever adds one asks [`is_full`](Self::is_full) first.
    pub(crate) fn hold(&mut self, id: RequestId, request: T) {
        debug_assert!(id.0 < self.next, "the number was given here");
        self.waiting.insert(id.0, request);
    }

    /// A request that waits.
    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut T> {
        self.waiting.get_mut(&id.0)
    }

    /// Takes a request out; `None` if it does not wait, whatever number a peer has made up.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<T> {
        self.waiting.remove(&id.0)
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes all out, the oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (RequestId, T)> + use<T> {
        let mut all: Vec<(u64, T)> = self.waiting.drain().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter().map(|(id, request)| (RequestId(id), request))
    }
}

/// Hashes numbers that this node has given out itself in order. Nobody else chooses a key of the table, and a lookup
/// of a number that a peer made up ends at the first empty place, so that nothing stronger is needed.
#[derive(Default)]
struct OwnIds(u64);

impl Hasher for OwnIds {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, id: u64) {
        // An odd constant spreads consecutive numbers over the upper bits; the table also uses the lower ones.
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn insert<T>(table: &mut InFlight<T>, request: T) -> RequestId {
        let id = table.number();
        table.hold(id, request);
        id
    }

    #[test]
    fn a_table_is_full_at_its_limit_and_no_number_is_used_again() {
        let mut table = InFlight::new(2);
        let first = insert(&mut table, 'a');
        assert!(!table.is_full());
        insert(&mut table, 'b');
        assert!(table.is_full());
        assert_eq!(table.remove(first), Some('a'));
        assert!(!table.is_full());
        assert_eq!(insert(&mut table, 'd'), RequestId(3));
    }

    proptest! {
        #[test]
        fn the_table_does_what_a_plain_map_does(ops in proptest::collection::vec((0..5_u8, 0..40_u64), 0..200)) {
            let mut table = InFlight::new(8);
            let mut model = BTreeMap::new();
            let mut last = 0;
            for (op, number) in ops {
                match op {
                    0 | 1 if table.is_full() => prop_assert_eq!(model.len(), 8),
                    0 | 1 => {
                        let id = insert(&mut table, number);
                        prop_assert!(id.0 > last && model.len() < 8);
                        last = id.0;
                        model.insert(id.0, number);
                    }
                    2 => {
                        let id = table.number();
                        prop_assert!(id.0 > last);
                        last = id.0;
                    }
                    3 => prop_assert_eq!(table.remove(RequestId(number)), model.remove(&number)),
                    _ if number == 0 => {
                        let all: Vec<u64> = std::mem::take(&mut model).into_values().collect();
                        prop_assert_eq!(table.drain().map(|(_, request)| request).collect::<Vec<_>>(), all);
                    }
                    _ => prop_assert_eq!(table.remove(RequestId(u64::MAX - number)), None),
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
