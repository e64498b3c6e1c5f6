//! Whatever happens, in whatever order: a driver that keeps the contract, with children that do anything, and one
//! that does not keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::start;
use crate::policy::restart::plan::Phase;
use crate::policy::restart::{Action, Ended, Key, Supervision};
use crate::supervision::{Intensity, Restart, Strategy as Supervise};

/// Something that happens. A number chooses one of the children to which it can.
#[derive(Debug, Clone)]
enum Input {
    Add(Restart),
    Start,
    Stop,
    Remove(usize),
    Restart(usize),
    StartAnswered(usize, bool),
    StopAnswered(usize),
    Ended(usize, Ended),
    Wait(Duration),
    Drain,
}

/// The world of a driver that keeps the contract.
struct World {
    core: Supervision,
    strategy: Supervise,
    now: Instant,
    children: BTreeMap<Key, There>,
    removed: BTreeSet<Key>,
    /// Told to restart, which concerns no other child.
    restarted: BTreeSet<Key>,
    /// Added during a life, and not yet up.
    new: BTreeSet<Key>,
    lives: Lives,
}

/// Where the driver sees a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Down,
    Starting,
    Running,
    Stopping,
}

/// Where the driver sees the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lives {
    No,
    Yes,
    /// And it was told to stop.
    Stops,
}

impl World {
    fn new(strategy: Supervise, intensity: Intensity, children: &[Restart]) -> Self {
        let core = Supervision::new(strategy, intensity, fastrand::Rng::with_seed(7));
        let (removed, restarted, new) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let lives = Lives::No;
        let mut world =
            Self { core, strategy, now: start(), children: BTreeMap::new(), removed, restarted, new, lives };
        for restart in children {
            world.input(&Input::Add(restart.clone()));
        }
        world
    }

    fn input(&mut self, input: &Input) {
        let now = self.now;
        match input {
            Input::Add(restart) => {
                let key = self.core.add(restart.clone());
                assert_eq!(self.children.insert(key, There::Down), None, "a key is used once");
                if self.lives != Lives::No {
                    self.new.insert(key);
                }
            }
            Input::Start if self.lives == Lives::No => {
                self.lives = Lives::Yes;
                self.new.clear();
                self.core.start();
            }
            Input::Stop if self.lives == Lives::Yes => {
                self.lives = Lives::Stops;
                self.core.stop();
            }
            Input::Start | Input::Stop => {}
            Input::Remove(of) => {
                if let Some(key) = choose(self.children.keys().copied(), *of) {
                    self.removed.insert(key);
                    self.core.remove(key, now);
                }
            }
            Input::Restart(of) => {
                if let Some(key) = choose(self.children.keys().copied(), *of) {
                    self.restarted.insert(key);
                    self.core.restart(key, now);
                }
            }
            Input::StartAnswered(of, is_up) => match self.choose(There::Starting, *of) {
                Some(key) if *is_up => {
                    self.children.insert(key, There::Running);
                    self.new.remove(&key);
                    self.core.handle_started(key, now);
                }
                Some(key) => self.down(key, |core| core.handle_start_failed(key, now)),
                None => {}
            },
            Input::StopAnswered(of) => {
                if let Some(key) = self.choose(There::Stopping, *of) {
                    self.down(key, |core| core.handle_ended(key, Ended::Normal, now));
                }
            }
            Input::Ended(of, how) => {
                if let Some(key) = self.choose(There::Running, *of) {
                    self.down(key, |core| core.handle_ended(key, *how, now));
                }
            }
            Input::Wait(time) => {
                self.now += *time;
                self.core.handle_timeout(self.now);
            }
            Input::Drain => self.drain(),
        }
    }

    fn down(&mut self, key: Key, tell: impl FnOnce(&mut Supervision)) {
        self.children.insert(key, There::Down);
        tell(&mut self.core);
    }

    fn choose(&self, there: There, of: usize) -> Option<Key> {
        let those = self.children.iter().filter(|(_, child)| **child == there);
        choose(those.map(|(key, _)| *key), of)
    }

    fn count(&self, there: There, counts: impl Fn(&Key) -> bool) -> usize {
        self.children.iter().filter(|(key, child)| **child == there && counts(key)).count()
    }

    fn drain(&mut self) {
        while let Some(action) = self.core.poll_action() {
            self.obey(action);
            self.assert_one_plan();
        }
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Start(key) => {
                let before = self.children.insert(key, There::Starting);
                assert_eq!(before, Some(There::Down), "{key:?} is started");
                assert_ne!(self.lives, Lives::No);
            }
            Action::Stop(key) => {
                let before = self.children.insert(key, There::Stopping);
                assert!(
                    matches!(before, Some(There::Starting | There::Running)),
                    "{key:?} is stopped: {before:?}"
                );
            }
            Action::Forget(key) => {
                assert_eq!(self.children.remove(&key), Some(There::Down), "{key:?} is forgotten");
            }
            Action::Up => assert_ne!(self.lives, Lives::No),
            Action::StartFailed(_) | Action::GaveUp(_) | Action::Stopped => {
                assert_ne!(self.lives, Lives::No, "a life ends once");
                assert_eq!(action == Action::Stopped, self.lives == Lives::Stops);
                self.lives = Lives::No;
                assert!(self.children.values().all(|child| *child == There::Down), "{:?}", self.children);
                assert_eq!(self.core.poll_timeout(), None);
            }
        }
    }

    /// Of the children that are started or stopped by a plan only one is at a time, and not one of each.
    fn assert_one_plan(&self) {
        let starting =
            self.count(There::Starting, |key| !self.new.contains(key) && !self.restarted.contains(key));
        let is_apart = |key: &Key| self.removed.contains(key) || self.restarted.contains(key);
        let stopping = self.count(There::Stopping, |key| !is_apart(key));
        match self.strategy {
            Supervise::OneForAll | Supervise::RestForOne => {
                assert!(starting + stopping <= 1, "{:?}", self.children);
            }
            Supervise::OneForOne => assert!(stopping <= 1, "{:?}", self.children),
            Supervise::Dynamic => {}
        }
    }

    /// Lets all children do what they are told, and time go by, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.drain();
            let answers = [Input::StartAnswered(0, true), Input::StopAnswered(0)];
            let open = [There::Starting, There::Stopping].map(|there| self.choose(there, 0).is_some());
            match (open, self.core.poll_timeout()) {
                ([true, _], _) => self.input(&answers[0]),
                ([_, true], _) => self.input(&answers[1]),
                (_, Some(at)) => self.input(&Input::Wait(at - self.now)),
                (_, None) => return,
            }
        }
        panic!("it never settles");
    }
}

fn choose(mut keys: impl Iterator<Item = Key> + Clone, of: usize) -> Option<Key> {
    let count = keys.clone().count();
    if count == 0 { None } else { keys.nth(of % count) }
}

fn strategy() -> impl Strategy<Value = Supervise> {
    prop_oneof![
        Just(Supervise::OneForOne),
        Just(Supervise::OneForAll),
        Just(Supervise::RestForOne),
        Just(Supervise::Dynamic),
    ]
}

fn intensity() -> impl Strategy<Value = Intensity> {
    let limited = (0..5u32, 0..6u64).prop_map(|(n, within)| Intensity::new(n, Duration::from_secs(within)));
    prop_oneof![Just(Intensity::unlimited()), limited]
}

fn restart() -> impl Strategy<Value = Restart> {
    let when = prop_oneof![Just(Restart::always()), Just(Restart::on_failure()), Just(Restart::never())];
    (when, any::<bool>()).prop_map(|(restart, is_paused)| {
        if is_paused { restart } else { restart.backoff(Duration::ZERO, Duration::ZERO) }
    })
}

fn input() -> impl Strategy<Value = Input> {
    let how = prop_oneof![1 => Just(Ended::Normal), 4 => Just(Ended::Failed)];
    prop_oneof![
        2 => restart().prop_map(Input::Add),
        1 => Just(Input::Start),
        1 => Just(Input::Stop),
        1 => any::<usize>().prop_map(Input::Remove),
        1 => any::<usize>().prop_map(Input::Restart),
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(of, is_up)| Input::StartAnswered(of, is_up)),
        6 => any::<usize>().prop_map(Input::StopAnswered),
        6 => (any::<usize>(), how).prop_map(|(of, how)| Input::Ended(of, how)),
        2 => (0..2000u64).prop_map(|millis| Input::Wait(Duration::from_millis(millis))),
        12 => Just(Input::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_child_is_started_twice_or_left_down_and_after_a_stop_nothing_runs(
        strategy in strategy(),
        intensity in intensity(),
        children in vec(restart(), 0..6),
        inputs in vec(input(), 0..80),
    ) {
        let mut world = World::new(strategy, intensity, &children);
        world.input(&Input::Start);
        for input in &inputs {
            world.input(input);
        }
        world.settle();
        if world.lives == Lives::Yes {
            prop_assert_eq!(world.core.phase, Phase::Up);
            prop_assert_eq!(world.count(There::Running, |_| true), world.children.len(), "nobody is left behind");
        }
        world.input(&Input::Stop);
        world.settle();
        prop_assert_eq!(world.lives, Lives::No);
        prop_assert_eq!(world.core.children.len(), world.children.len());
        prop_assert!(world.core.ended.is_empty() && world.core.pauses.is_empty());
        world.input(&Input::Start);
        world.settle();
        prop_assert_eq!(world.count(There::Running, |_| true), world.children.len(), "another life begins");
    }

    #[test]
    fn a_driver_that_breaks_the_contract_makes_nothing_panic(
        strategy in strategy(),
        intensity in intensity(),
        inputs in vec((0..10u8, 0..8usize, 0..3000u64), 0..200),
    ) {
        let mut core = Supervision::new(strategy, intensity, fastrand::Rng::with_seed(7));
        let begin = start();
        for (what, key, millis) in inputs {
            // Not even the time goes forward.
            let (key, now) = (Key(key), begin + Duration::from_millis(millis));
            match what {
                0 => drop(core.add(Restart::always())),
                1 => core.start(),
                2 => core.remove(key, now),
                3 => core.handle_started(key, now),
                4 => core.handle_start_failed(key, now),
                5 => core.handle_ended(key, Ended::Failed, now),
                6 => core.handle_timeout(now),
                7 if millis < 300 => core.stop(),
                8 => core.restart(key, now),
                _ => drop(core.poll_action()),
            }
            core.poll_timeout();
        }
    }
}
