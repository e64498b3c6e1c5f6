//! What a node has learned of the instances of each name that it has handles to.
//!
//! Invariant: at most one entry for each name that is in the directory or has a handle here, and as many that were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::policy::balance::pool::Pool;

/// The pools by name. A pool stays as long as its name does, so that a handle which is looked up for each call knows
/// what the ones before it have met with.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    /// Held for a look, when a handle to a name is made.
    by_name: Mutex<HashMap<Arc<str>, Arc<Pool>>>,
}

impl Pools {
    /// The pool of a name. `is_known` says whether the directory has a name.
    pub(crate) fn of(&self, name: &Arc<str>, is_known: impl Fn(&str) -> bool) -> Arc<Pool> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = by_name.get(name) {
            return Arc::clone(pool);
        }
        // Those that nobody needs go when the table would grow: in sum that costs each handle a few looks.
        if by_name.len() == by_name.capacity() {
            by_name.retain(|name, pool| Arc::strong_count(pool) > 1 || is_known(name));
        }
        Arc::clone(by_name.entry(Arc::clone(name)).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_pool_and_names_without_instances_and_handles_are_forgotten() {
        let pools = Pools::default();
        let known = pools.of(&"known".into(), |_| true);
        assert!(Arc::ptr_eq(&known, &pools.of(&"known".into(), |_| true)));
        let held = pools.of(&"held".into(), |_| true);
        for number in 0..1000 {
            pools.of(&format!("gone-{number}").into(), |name| name == "known");
        }
        let kept = pools.by_name.lock().unwrap();
        assert!(kept.len() < 20, "{}", kept.len());
        assert!(Arc::ptr_eq(&kept["known"], &known) && Arc::ptr_eq(&kept["held"], &held));
    }
}
