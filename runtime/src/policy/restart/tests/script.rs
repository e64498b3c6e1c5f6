//! Scenarios as text, and what plays them.
//!
//! A scenario is a supervisor, its children in order, and lines of what happens and what must follow:
//!
//! ```text
//! rest_for_one 3/5s: a b:always c:never
//!   fail b          -> stop c, forget c, start b
//!   wait 5s         -> nothing
//! ```
//!
//! A child is `on_failure` unless its name says otherwise. Pauses are of length zero, unless `paused` stands before
//! the colon, which gives the defaults. Before the first line the life begins and all are up, unless that line is
//! `start`.
//!
//! | what happens | |
//! |---|---|
//! | `start`, `stop`, `add x`, `remove x`, `restart x` | the supervisor is told so |
//! | `fail x`, `end x` | a running child fails, or ends normally |
//! | `wait 3s`, `pause` | so much time goes by; time goes by until the next timeout |
//! | `refuse x`, `refuse x 2` | the next starts of `x` fail |
//! | `hold x` | from now on `x` does what it is told only when a line says so: |
//! | `up x`, `refused x`, `down x` | it starts, does not start, stops |
//!
//! What stands between commas on the left happens before the supervisor is asked what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::start;
use crate::policy::restart::{Action, Ended, Key, Supervision};
use crate::supervision::{Intensity, Restart, Strategy};

/// Plays the scenario and compares.
#[track_caller]
pub(super) fn check(scenario: &str) {
    let mut lines = scenario.lines().map(str::trim).filter(|line| !line.is_empty());
    let setting = lines.next().expect("a scenario begins with its supervisor");
    let mut stage = Stage::new(setting);
    let mut lines = lines.peekable();
    if lines.peek().is_none_or(|line| !line.starts_with("start")) {
        stage.input("start");
        stage.drain();
    }
    for line in lines {
        let (inputs, expected) = line.split_once("->").expect("a line says what follows");
        inputs.split(',').for_each(|input| stage.input(input.trim()));
        let seen = stage.drain();
        let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        assert_eq!(seen, expected.trim(), "\nin {setting}\n   {line}");
    }
}

/// A supervisor whose children do what the script says.
pub(super) struct Stage {
    pub(super) core: Supervision,
    pub(super) now: Instant,
    restart: fn(Restart) -> Restart,
    names: Vec<String>,
    running: BTreeSet<Key>,
    held: BTreeSet<Key>,
    refusals: BTreeMap<Key, u32>,
}

impl Stage {
    pub(super) fn new(setting: &str) -> Self {
        let (supervisor, children) = setting.split_once(':').expect("a supervisor, a colon, children");
        let mut words = supervisor.split_whitespace();
        let strategy = match words.next() {
            Some("one_for_one") => Strategy::OneForOne,
            Some("one_for_all") => Strategy::OneForAll,
            Some("rest_for_one") => Strategy::RestForOne,
            Some("dynamic") => Strategy::Dynamic,
            other => panic!("no strategy: {other:?}"),
        };
        let (mut intensity, mut restart) = (Intensity::unlimited(), unpaused as fn(Restart) -> Restart);
        for word in words {
            match word.split_once('/') {
                Some((restarts, within)) => {
                    intensity = Intensity::new(restarts.parse().unwrap(), time(within));
                }
                None if word == "paused" => restart = |restart| restart,
                None => panic!("not understood: {word}"),
            }
        }
        let core = Supervision::new(strategy, intensity, fastrand::Rng::with_seed(7));
        let (names, running, held) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let refusals = BTreeMap::new();
        let mut stage = Self { core, now: start(), restart, names, running, held, refusals };
        children.split_whitespace().for_each(|child| stage.add(child));
        stage
    }

    /// Something happens.
    pub(super) fn input(&mut self, input: &str) {
        let mut words = input.split_whitespace();
        let (what, of, more) = (words.next().unwrap_or_default(), words.next(), words.next());
        match (what, of) {
            ("start", None) => self.core.start(),
            ("stop", None) => self.core.stop(),
            ("wait", Some(of)) => self.wait(time(of)),
            ("pause", None) => self.wait(self.pause().expect("a pause")),
            ("add", Some(child)) => self.add(child),
            (_, Some(name)) => self.child(what, name, more),
            _ => panic!("not understood: {input}"),
        }
    }

    /// How long until the next timeout.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.core.poll_timeout().map(|at| at - self.now)
    }

    /// Does what the supervisor says, until it says no more. Gives what it said.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(action) = self.core.poll_action() {
            seen.push(self.text(action));
            match action {
                Action::Start(key) => {
                    assert!(!self.running.contains(&key), "{} runs already", self.names[key.0]);
                    if !self.held.contains(&key) {
                        self.answer_start(key);
                    }
                }
                Action::Stop(key) if !self.held.contains(&key) => self.ended(key, Ended::Normal),
                _ => {}
            }
        }
        seen
    }

    fn child(&mut self, what: &str, name: &str, more: Option<&str>) {
        let key = Key(self.names.iter().position(|known| known == name).expect("a child"));
        match what {
            "remove" => self.core.remove(key, self.now),
            "restart" => self.core.restart(key, self.now),
            "hold" => assert!(self.held.insert(key), "{name} is held already"),
            "refuse" => {
                self.refusals.insert(key, more.map_or(1, |times| times.parse().unwrap()));
            }
            "up" | "refused" => {
                assert!(self.held.contains(&key), "{name} is not held");
                self.refusals.insert(key, u32::from(what == "refused"));
                self.answer_start(key);
            }
            "down" => {
                assert!(self.held.contains(&key), "{name} is not held");
                self.ended(key, Ended::Normal);
            }
            "fail" | "end" => {
                assert!(self.running.contains(&key), "{name} does not run");
                self.ended(key, if what == "fail" { Ended::Failed } else { Ended::Normal });
            }
            _ => panic!("not understood: {what}"),
        }
    }

    fn add(&mut self, child: &str) {
        let (name, restart) = match child.split_once(':') {
            None => (child, Restart::on_failure()),
            Some((name, "always")) => (name, Restart::always()),
            Some((name, "never")) => (name, Restart::never()),
            Some(_) => panic!("not understood: {child}"),
        };
        let key = self.core.add((self.restart)(restart));
        assert_eq!(key.0, self.names.len());
        self.names.push(name.to_owned());
    }

    fn answer_start(&mut self, key: Key) {
        if let Some(left @ 1..) = self.refusals.get_mut(&key) {
            *left -= 1;
            return self.core.handle_start_failed(key, self.now);
        }
        self.running.insert(key);
        self.core.handle_started(key, self.now);
    }

    fn ended(&mut self, key: Key, how: Ended) {
        self.running.remove(&key);
        self.core.handle_ended(key, how, self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now);
    }

    fn text(&self, action: Action) -> String {
        let of = |what, key: Key| format!("{what} {}", self.names[key.0]);
        match action {
            Action::Start(key) => of("start", key),
            Action::Stop(key) => of("stop", key),
            Action::Forget(key) => of("forget", key),
            Action::Up => "up".to_owned(),
            Action::StartFailed(key) => of("start failed", key),
            Action::GaveUp(key) => of("gave up", key),
            Action::Stopped => "stopped".to_owned(),
        }
    }
}

fn unpaused(restart: Restart) -> Restart {
    restart.backoff(Duration::ZERO, Duration::ZERO)
}

/// `5s` or `4999ms`.
fn time(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
    let number = number.parse().unwrap();
    match unit {
        "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        "ns" => Duration::from_nanos(number),
        _ => panic!("no time: {text}"),
    }
}
