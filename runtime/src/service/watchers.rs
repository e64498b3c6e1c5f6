//! Who watches an instance: each is told once that it has ended.
//!
//! Whoever comes after the end is told the reason at once. The order in which they came is the order in which they
//! are told.
//!
//! Invariants: a watcher is told outside of the lock; what was taken out is told by whoever took it, and by nobody
//! else. An instance that nobody watches pays for one word beside the lock.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use crate::event::StopReason;
use crate::id::Address;
use crate::port::{WatchId, Watcher};
use crate::sync::{Mutex, MutexGuard};

/// The watchers of one instance.
///
/// How many there are is bounded by those who watch: `port` bounds the watches of a connection, and whoever watches
/// from this node holds something for each of its watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// Guards who watches, and whether the end has come. `None` is a living instance that nobody watches.
    state: Mutex<Option<Box<State>>>,
}

#[derive(Debug)]
enum State {
    Watched(Table),
    /// Nobody is told any more; whoever asks gets this.
    Ended(StopReason),
}

#[derive(Debug, Default)]
struct Table {
    /// Found by who watches and by its own number, so that even the last of very many goes quickly.
    watches: HashMap<(usize, WatchId), Entry>,
    next: u64,
    /// Whether the present life has failed, and only its end has yet to come.
    is_doomed: bool,
}

struct Entry {
    /// When it came, among the others.
    place: u64,
    /// Held, so that its address is nobody else's as long as the entry is here.
    watcher: Arc<dyn Watcher>,
    /// Who is linked by this watch.
    linker: Option<Box<Address>>,
    /// Whether it is the end of the next life that is to be told.
    is_for_next: bool,
}

impl Watchers {
    /// Tells `watcher` of the end, once. `watch` is a number of the watcher's own; none of its watches here may have
    /// it already.
    ///
    /// # Errors
    /// Why the instance ended, if it has. The watcher is not told again.
    pub(crate) fn add(&self, watcher: Arc<dyn Watcher>, watch: WatchId) -> Result<(), StopReason> {
        self.insert(watcher, watch, None)
    }

    /// As [`Watchers::add`], for a watch that links `linker` with this instance.
    ///
    /// A life that has failed already passes that failure on to those whom it was linked with, and to nobody who comes
    /// later: who is linked then is so with the next life. Otherwise two linked services that are started again, each
    /// time linking themselves with a life that is about to end, would never come to rest.
    ///
    /// # Errors
    /// Why the instance ended, if it has. The watcher is not told again.
    pub(crate) fn link(
        &self,
        watcher: Arc<dyn Watcher>,
        watch: WatchId,
        linker: &Address,
    ) -> Result<(), StopReason> {
        self.insert(watcher, watch, Some(Box::new(linker.clone())))
    }

    fn insert(
        &self,
        watcher: Arc<dyn Watcher>,
        watch: WatchId,
        linker: Option<Box<Address>>,
    ) -> Result<(), StopReason> {
        let mut state = self.state();
        let table = match state.get_or_insert_with(|| Box::new(State::Watched(Table::default()))).as_mut() {
            State::Watched(table) => table,
            State::Ended(reason) => return Err(reason.clone()),
        };
        let place = table.next;
        table.next += 1;
        let is_for_next = linker.is_some() && table.is_doomed;
        let entry = Entry { place, watcher, linker, is_for_next };
        let before = table.watches.insert((identity(&entry.watcher), watch), entry);
        drop(state);
        debug_assert!(before.is_none(), "the watcher gave the number {watch:?} twice");
        Ok(())
    }

    /// Forgets a watch. `false` if there is none: then its watcher was told, or is being told at this moment.
    pub(crate) fn remove(&self, watcher: &Arc<dyn Watcher>, watch: WatchId) -> bool {
        let mut state = self.state();
        let Some(State::Watched(table)) = state.as_deref_mut() else { return false };
        let removed = table.watches.remove(&(identity(watcher), watch));
        if table.is_unused() {
            *state = None;
        }
        drop(state);
        removed.is_some()
    }

    /// Undoes the links by which `linker` is linked with this instance. Its side learns of it as of an end that is no
    /// failure, which it passes over.
    pub(crate) fn unlink(&self, linker: &Address) {
        let mut state = self.state();
        let Some(State::Watched(table)) = state.as_deref_mut() else { return };
        let gone: Vec<_> =
            table.watches.extract_if(|_, entry| entry.linker.as_deref() == Some(linker)).collect();
        if table.is_unused() {
            *state = None;
        }
        drop(state);
        tell(gone, &StopReason::Normal);
    }

    /// The present life has failed: its end is to come.
    pub(crate) fn doom(&self) {
        let mut state = self.state();
        if let State::Watched(table) =
            state.get_or_insert_with(|| Box::new(State::Watched(Table::default()))).as_mut()
        {
            table.is_doomed = true;
        }
    }

    /// Tells everybody that a life of the instance has ended, and forgets them. Another life follows, which may be
    /// watched anew.
    pub(crate) fn fire(&self, reason: &StopReason) {
        let mut state = self.state();
        let Some(State::Watched(table)) = state.as_deref_mut() else { return };
        let told: Vec<_> = table.watches.extract_if(|_, entry| !entry.is_for_next).collect();
        table.watches.values_mut().for_each(|entry| entry.is_for_next = false);
        table.is_doomed = false;
        if table.is_unused() {
            *state = None;
        }
        drop(state);
        tell(told, reason);
    }

    /// Tells everybody that the instance has ended for good. Whoever comes from now on is told at once. Only the first
    /// end counts.
    pub(crate) fn end(&self, reason: &StopReason) {
        let mut state = self.state();
        if matches!(state.as_deref(), Some(State::Ended(_))) {
            return;
        }
        let taken = state.replace(Box::new(State::Ended(reason.clone())));
        drop(state);
        if let Some(State::Watched(table)) = taken.map(|state| *state) {
            tell(table.watches.into_iter().collect(), reason);
        }
    }

    /// Whether a living instance holds nothing for watchers.
    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.state().is_none()
    }

    fn state(&self) -> MutexGuard<'_, Option<Box<State>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who were taken out, the first to come first.
fn tell(mut watches: Vec<((usize, WatchId), Entry)>, reason: &StopReason) {
    watches.sort_unstable_by_key(|(_, entry)| entry.place);
    for ((_, watch), entry) in watches {
        entry.watcher.down(watch, reason.clone());
    }
}

impl Table {
    fn is_unused(&self) -> bool {
        self.watches.is_empty() && !self.is_doomed
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Two instances may watch each other: not through the watcher.
        f.debug_struct("Entry")
            .field("place", &self.place)
            .field("linker", &self.linker)
            .finish_non_exhaustive()
    }
}

/// Two watchers are the same if they are one allocation.
fn identity(watcher: &Arc<dyn Watcher>) -> usize {
    Arc::as_ptr(watcher).addr()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::id::{Incarnation, InstanceId, NodeId};

    /// Notes what it is told.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<(u64, StopReason)>>);

    impl Watcher for Notes {
        fn down(&self, watch: WatchId, reason: StopReason) {
            self.0.lock().unwrap().push((watch.0, reason));
        }
    }

    impl Notes {
        fn taken(&self) -> Vec<(u64, StopReason)> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    fn watcher() -> (Arc<Notes>, Arc<dyn Watcher>) {
        let notes = Arc::new(Notes::default());
        (Arc::clone(&notes), notes)
    }

    #[test]
    #[cfg(target_os = "linux")] // elsewhere the lock of the standard library may be larger
    fn an_instance_that_nobody_watches_pays_two_words() {
        assert!(size_of::<Watchers>() <= 16, "{} bytes", size_of::<Watchers>());
    }

    #[test]
    fn every_watcher_is_told_once_in_the_order_in_which_they_came() {
        let watchers = Watchers::default();
        let (notes, watcher) = watcher();
        for watch in [3, 1, 2] {
            watchers.add(Arc::clone(&watcher), WatchId(watch)).unwrap();
        }
        watchers.end(&StopReason::Killed);
        watchers.end(&StopReason::Normal);
        assert_eq!(notes.taken(), [3, 1, 2].map(|watch| (watch, StopReason::Killed)));
        assert_eq!(Arc::strong_count(&watcher), 2, "the watchers are let go");
    }

    #[test]
    fn who_comes_after_the_end_learns_the_reason_and_is_not_told_again() {
        let watchers = Watchers::default();
        let (notes, watcher) = watcher();
        watchers.end(&StopReason::Shutdown);
        assert_eq!(watchers.add(Arc::clone(&watcher), WatchId(1)), Err(StopReason::Shutdown));
        assert!(!watchers.remove(&watcher, WatchId(1)));
        watchers.fire(&StopReason::Normal);
        assert_eq!(notes.taken(), []);
    }

    #[test]
    fn a_watch_is_removed_by_who_watches_and_its_number() {
        let watchers = Watchers::default();
        let ((one, watcher_one), (other, watcher_other)) = (watcher(), watcher());
        for watcher in [&watcher_one, &watcher_other] {
            watchers.add(Arc::clone(watcher), WatchId(1)).unwrap();
            watchers.add(Arc::clone(watcher), WatchId(2)).unwrap();
        }
        assert!(watchers.remove(&watcher_one, WatchId(1)));
        assert!(!watchers.remove(&watcher_one, WatchId(1)), "it is gone");
        watchers.end(&StopReason::Normal);
        assert_eq!(one.taken(), [(2, StopReason::Normal)]);
        assert_eq!(other.taken(), [(1, StopReason::Normal), (2, StopReason::Normal)]);
    }

    #[test]
    fn a_life_that_ends_tells_its_watchers_and_the_next_has_its_own() {
        let watchers = Watchers::default();
        let (notes, watcher) = watcher();
        watchers.add(Arc::clone(&watcher), WatchId(1)).unwrap();
        watchers.fire(&StopReason::Killed);
        assert_eq!(notes.taken(), [(1, StopReason::Killed)]);
        watchers.add(Arc::clone(&watcher), WatchId(2)).unwrap();
        watchers.fire(&StopReason::Normal);
        assert_eq!(notes.taken(), [(2, StopReason::Normal)]);
    }

    fn linker() -> Address {
        let node = NodeId::new("a").unwrap();
        Address { node, incarnation: Incarnation(1), instance: InstanceId(7) }
    }

    #[test]
    fn a_life_that_has_failed_passes_its_end_on_to_no_link_that_comes_later() {
        let watchers = Watchers::default();
        let (notes, watcher) = watcher();
        watchers.link(Arc::clone(&watcher), WatchId(1), &linker()).unwrap();
        watchers.doom();
        watchers.link(Arc::clone(&watcher), WatchId(2), &linker()).unwrap();
        watchers.add(Arc::clone(&watcher), WatchId(3)).unwrap();
        watchers.fire(&StopReason::Killed);
        assert_eq!(notes.taken(), [(1, StopReason::Killed), (3, StopReason::Killed)]);
        watchers.link(Arc::clone(&watcher), WatchId(4), &linker()).unwrap();
        watchers.fire(&StopReason::Normal);
        assert_eq!(notes.taken(), [(2, StopReason::Normal), (4, StopReason::Normal)]);
        assert!(watchers.is_unused());
        watchers.doom();
        watchers.link(Arc::clone(&watcher), WatchId(5), &linker()).unwrap();
        watchers.end(&StopReason::Killed);
        assert_eq!(notes.taken(), [(5, StopReason::Killed)], "no life follows");
    }

    #[test]
    fn links_are_undone_from_the_watched_side_by_who_linked() {
        let watchers = Watchers::default();
        let (notes, watcher) = watcher();
        let other = Address { instance: InstanceId(8), ..linker() };
        watchers.link(Arc::clone(&watcher), WatchId(1), &linker()).unwrap();
        watchers.link(Arc::clone(&watcher), WatchId(2), &other).unwrap();
        watchers.add(Arc::clone(&watcher), WatchId(3)).unwrap();
        watchers.unlink(&linker());
        assert_eq!(notes.taken(), [(1, StopReason::Normal)]);
        watchers.fire(&StopReason::Killed);
        assert_eq!(notes.taken(), [(2, StopReason::Killed), (3, StopReason::Killed)]);
    }

    #[test]
    fn nothing_stays_behind_when_nobody_watches_any_more() {
        let watchers = Watchers::default();
        let (_notes, watcher) = watcher();
        for watch in 0..100 {
            watchers.add(Arc::clone(&watcher), WatchId(watch)).unwrap();
        }
        assert!((0..100).all(|watch| watchers.remove(&watcher, WatchId(watch))));
        assert!(watchers.state().is_none());
        assert_eq!(Arc::strong_count(&watcher), 2);
    }

    /// A watch, its removal and the end, on three threads at once: the watcher learns of the end exactly once, unless
    /// the removal says that it will not.
    #[test]
    fn a_watch_that_races_with_the_end_is_told_exactly_once() {
        for round in 0..2000 {
            let (watchers, barrier) = (Watchers::default(), Barrier::new(2));
            let (notes, watcher) = watcher();
            let (refused, removed) = std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    watchers.end(&StopReason::Normal);
                });
                barrier.wait();
                let refused = watchers.add(Arc::clone(&watcher), WatchId(1)).is_err();
                let removed = round % 2 == 0 && watchers.remove(&watcher, WatchId(1));
                (refused, removed)
            });
            let told = notes.taken().len();
            assert_eq!(usize::from(refused) + usize::from(removed) + told, 1, "round {round}");
        }
    }
}
