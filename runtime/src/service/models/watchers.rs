//! Watch against exit.

use std::sync::Arc;

use crate::event::StopReason;
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::port::{WatchId, Watcher};
use crate::service::models::{Notes, aside, in_every_order};
use crate::service::watchers::Watchers;

/// An instance's watchers, and one that watches.
struct Scene {
    watchers: Watchers,
    notes: Arc<Notes>,
}

impl Scene {
    fn new() -> Arc<Self> {
        Arc::new(Self { watchers: Watchers::default(), notes: Arc::default() })
    }

    fn watcher(&self) -> Arc<dyn Watcher> {
        Arc::clone(&self.notes) as _
    }

    fn add(&self, watch: u64) -> Result<(), StopReason> {
        self.watchers.add(self.watcher(), WatchId(watch))
    }

    fn link(&self, watch: u64) -> Result<(), StopReason> {
        self.watchers.link(self.watcher(), WatchId(watch), &linker())
    }

    fn remove(&self, watch: u64) -> bool {
        self.watchers.remove(&self.watcher(), WatchId(watch))
    }
}

fn linker() -> Address {
    Address { node: NodeId::new("a").unwrap(), incarnation: Incarnation(1), instance: InstanceId(7) }
}

const LIFE: StopReason = StopReason::Killed;
const END: StopReason = StopReason::Shutdown;

#[test]
fn a_watch_is_told_of_the_end_or_refused_or_removed_and_never_two_of_them() {
    in_every_order(|| {
        let scene = Scene::new();
        let end = aside(&scene, |scene| scene.watchers.end(&END));
        let refused = scene.add(1).is_err();
        let removed = scene.remove(1);
        end.join().unwrap();
        let told = scene.notes.of(1).len();
        assert_eq!(usize::from(refused) + usize::from(removed) + told, 1);
        assert_eq!(scene.add(2), Err(END), "whoever comes later is told why");
    });
}

#[test]
fn a_removal_by_another_thread_and_two_ends_tell_once_or_not_at_all() {
    in_every_order(|| {
        let scene = Scene::new();
        scene.add(1).unwrap();
        let remove = aside(&scene, |scene| scene.remove(1));
        let ends = aside(&scene, |scene| {
            scene.watchers.fire(&LIFE);
            scene.watchers.end(&END);
        });
        scene.watchers.end(&END);
        let removed = remove.join().unwrap();
        ends.join().unwrap();
        assert_eq!(scene.notes.of(1).len(), usize::from(!removed));
    });
}

#[test]
fn a_watch_between_two_lives_is_told_of_one_of_them() {
    in_every_order(|| {
        let scene = Scene::new();
        let ends = aside(&scene, |scene| {
            scene.watchers.fire(&LIFE);
            scene.watchers.end(&END);
        });
        let other = aside(&scene, |scene| scene.add(2));
        let answers = [scene.add(1), other.join().unwrap()];
        ends.join().unwrap();
        for (watch, answer) in (1..).zip(answers) {
            let told = scene.notes.of(watch);
            match answer {
                Ok(()) => assert!(told == [LIFE] || told == [END], "{told:?}"),
                Err(reason) => assert!(reason == END && told.is_empty(), "{reason:?} {told:?}"),
            }
        }
    });
}

#[test]
fn a_link_with_a_life_that_fails_is_told_of_that_life_or_of_the_next_and_never_of_both() {
    in_every_order(|| {
        let scene = Scene::new();
        scene.link(1).unwrap();
        let ends = aside(&scene, |scene| {
            scene.watchers.doom();
            scene.watchers.fire(&LIFE);
            scene.watchers.end(&END);
        });
        let late = scene.link(2);
        ends.join().unwrap();
        assert_eq!(scene.notes.of(1), [LIFE], "it was linked before the failure");
        let told = scene.notes.of(2);
        match late {
            Ok(()) => assert!(told == [LIFE] || told == [END], "{told:?}"),
            Err(reason) => assert!(reason == END && told.is_empty(), "{reason:?} {told:?}"),
        }
    });
}

#[test]
fn a_link_that_comes_after_the_failure_outlives_that_life() {
    in_every_order(|| {
        let scene = Scene::new();
        scene.watchers.doom();
        let fire = aside(&scene, |scene| scene.watchers.fire(&LIFE));
        scene.link(1).unwrap();
        fire.join().unwrap();
        assert_eq!(scene.notes.of(1), []);
        scene.watchers.fire(&END);
        assert_eq!(scene.notes.of(1), [END]);
    });
}

#[test]
fn of_a_removal_and_an_unlink_one_takes_the_watch() {
    in_every_order(|| {
        let scene = Scene::new();
        scene.link(1).unwrap();
        scene.add(2).unwrap();
        let unlink = aside(&scene, |scene| scene.watchers.unlink(&linker()));
        let removed = scene.remove(1);
        unlink.join().unwrap();
        assert_eq!(scene.notes.of(1).len(), usize::from(!removed));
        assert_eq!(scene.notes.of(2), []);
    });
}

#[test]
fn a_link_that_is_undone_from_both_sides_while_the_life_ends_is_told_once() {
    in_every_order(|| {
        let scene = Scene::new();
        scene.link(1).unwrap();
        let fire = aside(&scene, |scene| scene.watchers.fire(&LIFE));
        let unlink = aside(&scene, |scene| scene.watchers.unlink(&linker()));
        let removed = scene.remove(1);
        fire.join().unwrap();
        unlink.join().unwrap();
        assert_eq!(scene.notes.of(1).len(), usize::from(!removed));
        assert!(scene.watchers.is_unused());
    });
}
