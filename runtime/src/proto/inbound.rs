//! The requests of the peer that run here, so that its `Cancel` finds them.
//!
//! Invariants: the table is bounded; it wakes nobody itself, but gives the wakers out, so that the caller can let go of
//! its lock first.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::id::{InstanceId, RequestId};

/// The requests of one peer on one connection that have begun or are queued here.
///
/// An ordered tree, because its keys are the peer's to choose: no choice makes it slow.
#[derive(Debug)]
pub(crate) struct Inbound {
    requests: BTreeMap<u64, Entry>,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    instance: InstanceId,
    cancelled: bool,
    waker: Option<Waker>,
}

impl Inbound {
    /// An empty table of at most `max` requests.
    pub(crate) fn new(max: usize) -> Self {
        Self { requests: BTreeMap::new(), max }
    }

    /// Takes a request in.
    #[must_use]
    pub(crate) fn insert(&mut self, id: RequestId, instance: InstanceId) -> Insert {
        if self.requests.contains_key(&id.0) {
            return Insert::Duplicate;
        }
        if self.requests.len() >= self.max {
            return Insert::Full;
        }
        self.requests.insert(id.0, Entry { instance, cancelled: false, waker: None });
        Insert::New
    }

    /// The peer no longer waits for a request.
    #[must_use = "the waker must be woken"]
    pub(crate) fn cancel(&mut self, id: RequestId) -> CancelOutcome {
        match self.requests.get_mut(&id.0) {
            None => CancelOutcome::Unknown,
            Some(entry) if entry.cancelled => CancelOutcome::Already,
            Some(entry) => {
                entry.cancelled = true;
                CancelOutcome::Cancelled(entry.waker.take())
            }
        }
    }

    /// Whether the peer no longer waits for a request. A request that is not in the table is not cancelled.
    pub(crate) fn is_cancelled(&self, id: RequestId) -> bool {
        self.requests.get(&id.0).is_some_and(|entry| entry.cancelled)
    }

    /// Asks to be woken at the request's cancel, in place of who asked before. `true` if it is cancelled
    /// already; then there will be no waking.
    #[must_use]
    pub(crate) fn register(&mut self, id: RequestId, waker: &Waker) -> bool {
        let Some(entry) = self.requests.get_mut(&id.0) else { return false };
        if !entry.cancelled {
            match &mut entry.waker {
                Some(known) => known.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        entry.cancelled
    }

    /// Takes a request out because it has its answer, or never will. Gives the instance that it was for, if the peer waits
    /// for that answer.
    pub(crate) fn finish(&mut self, id: RequestId) -> Option<InstanceId> {
        self.requests.remove(&id.0).filter(|entry| !entry.cancelled).map(|entry| entry.instance)
    }

    /// Cancels everything, because the connection has ended, and gives out all wakers.
    #[must_use = "the wakers must be woken"]
    pub(crate) fn cancel_all(&mut self) -> Vec<Waker> {
        let entries = self.requests.values_mut();
        let wakers = entries.filter_map(|entry| {
            entry.cancelled = true;
            entry.waker.take()
        });
        wakers.collect()
    }

    /// How many requests are here.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

/// What became of a request that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Insert {
    /// It is in the table.
    New,
    /// Its number is in use: the peer breaks the protocol.
    Duplicate,
    /// There are as many as may be: it is to be answered `Overloaded`.
    Full,
}

/// What became of a cancel.
#[derive(Debug)]
pub(crate) enum CancelOutcome {
    /// There is no such request; its reply may have crossed the cancel on the way.
    Unknown,
    /// It was cancelled before.
    Already,
    /// It is cancelled now, and whoever asked is to be woken.
    Cancelled(Option<Waker>),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    const X: InstanceId = InstanceId(1);

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_cancel_wakes_whoever_asked_last_and_once() {
        let (first, last) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut table = Inbound::new(8);
        let id = RequestId(7);
        assert_eq!(table.insert(id, X), Insert::New);
        assert!(!table.register(id, &Waker::from(first.clone())));
        assert!(!table.register(id, &Waker::from(last.clone())));
        let CancelOutcome::Cancelled(Some(waker)) = table.cancel(id) else { panic!("nobody to wake") };
        waker.wake();
        assert!(matches!(table.cancel(id), CancelOutcome::Already));
        assert!(table.register(id, &Waker::noop().clone()), "too late to ask");
        assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn the_end_of_a_connection_cancels_everything() {
        let mut table = Inbound::new(8);
        for id in 1..=3 {
            assert_eq!(table.insert(RequestId(id), X), Insert::New);
        }
        assert!(!table.register(RequestId(2), Waker::noop()));
        assert_eq!(table.cancel_all().len(), 1);
        assert!((1..=3).all(|id| table.is_cancelled(RequestId(id))));
    }

    proptest! {
        #[test]
        fn the_table_does_what_a_plain_map_does(ops in proptest::collection::vec((0..4_u8, 0..12_u64), 0..200)) {
            let mut table = Inbound::new(6);
            let mut model: BTreeMap<u64, bool> = BTreeMap::new();
            for (op, number) in ops {
                let id = RequestId(number);
                match op {
                    0 => {
                        let expected = if model.contains_key(&number) {
                            Insert::Duplicate
                        } else if model.len() == 6 {
                            Insert::Full
                        } else {
                            model.insert(number, false);
                            Insert::New
                        };
                        prop_assert_eq!(table.insert(id, X), expected);
                    }
                    1 => {
                        let found = match table.cancel(id) {
                            CancelOutcome::Unknown => None,
                            CancelOutcome::Already => Some(true),
                            CancelOutcome::Cancelled(_) => Some(false),
                        };
                        prop_assert_eq!(found, model.get_mut(&number).map(|c| std::mem::replace(c, true)));
                    }
                    2 => prop_assert_eq!(table.finish(id).is_some(), model.remove(&number) == Some(false)),
                    _ => prop_assert_eq!(
                        table.register(id, Waker::noop()),
                        model.get(&number).copied().unwrap_or(false)
                    ),
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.is_cancelled(id), model.get(&number).copied().unwrap_or(false));
            }
        }
    }
}
