//! The pauses before restarts: how long they are, and when they begin anew.

use std::time::Duration;

use super::script::{Stage, check};

/// The pauses of failures in a row, before jitter, in milliseconds: the defaults.
const PAUSES: [u64; 11] = [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];

/// A supervisor that is up.
fn up(setting: &str) -> Stage {
    let mut stage = Stage::new(setting);
    stage.input("start");
    stage.drain();
    stage
}

/// How long it takes from this failure until `a` is started again.
fn restarted_after(stage: &mut Stage, failure: &str) -> Duration {
    let is_started = |seen: Vec<String>| seen.iter().any(|action| action == "start a");
    stage.input(failure);
    if is_started(stage.drain()) {
        return Duration::ZERO;
    }
    let pause = stage.pause().expect("a restart to come");
    stage.input("pause");
    assert!(is_started(stage.drain()));
    pause
}

#[track_caller]
fn assert_jittered(pause: Duration, millis: u64) {
    let whole = Duration::from_millis(millis);
    assert!(pause >= whole / 2 && pause <= whole, "{pause:?} for {whole:?}");
}

#[test]
fn the_first_failure_is_followed_by_a_restart_at_once_and_each_further_one_by_a_longer_pause() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one", "dynamic"] {
        let mut stage = up(&format!("{strategy} paused: a b"));
        for expected in PAUSES {
            assert_jittered(restarted_after(&mut stage, "fail a"), expected);
        }
    }
}

#[test]
fn a_start_that_fails_in_a_restart_makes_the_pause_longer() {
    let mut stage = up("one_for_one paused: a");
    stage.input("refuse a 5");
    stage.input("fail a");
    assert_eq!(stage.drain(), ["start a"], "at once, and it fails");
    for expected in &PAUSES[1..5] {
        assert_jittered(stage.pause().unwrap(), *expected);
        stage.input("pause");
        assert_eq!(stage.drain(), ["start a"]);
    }
    assert_jittered(stage.pause().unwrap(), PAUSES[5]);
}

#[test]
fn jitter_uses_the_whole_upper_half() {
    let mut stage = up("one_for_one paused: a");
    for _ in 0..10 {
        restarted_after(&mut stage, "fail a");
    }
    let pauses: Vec<_> = (0..1000).map(|_| restarted_after(&mut stage, "fail a")).collect();
    let between = |low, high| {
        let (low, high) = (Duration::from_millis(low), Duration::from_millis(high));
        pauses.iter().filter(|pause| (low..=high).contains(pause)).count()
    };
    assert_eq!(between(5000, 10_000), 1000);
    for low in (5000..10_000).step_by(1000) {
        assert!(between(low, low + 1000) > 150, "a fifth of them lies here: {}", between(low, low + 1000));
    }
}

#[test]
fn a_child_that_ran_for_exactly_the_healthy_time_is_healthy() {
    for (ran, expected) in [("wait 29999ms", 200), ("wait 30s", 0)] {
        let mut stage = up("one_for_one paused: a");
        restarted_after(&mut stage, "fail a");
        restarted_after(&mut stage, "fail a");
        stage.input(ran);
        assert_jittered(restarted_after(&mut stage, "fail a"), expected);
    }
}

#[test]
fn pauses_begin_anew_after_a_healthy_time() {
    let mut stage = up("one_for_one paused: a");
    for _ in 0..3 {
        for expected in &PAUSES[..6] {
            assert_jittered(restarted_after(&mut stage, "fail a"), *expected);
        }
        stage.input("wait 30s");
    }
}

#[test]
fn a_healthy_time_that_a_sibling_ended_counts_too() {
    let mut stage = up("one_for_all paused: a b");
    restarted_after(&mut stage, "fail a");
    restarted_after(&mut stage, "fail a");
    stage.input("wait 30s");
    assert_jittered(restarted_after(&mut stage, "fail b"), 0);
    assert_jittered(restarted_after(&mut stage, "fail a"), 0);
    assert_jittered(restarted_after(&mut stage, "fail a"), 100);
}

#[test]
fn each_child_has_pauses_of_its_own() {
    check(
        "one_for_one paused: a b c
           fail a     -> start a
           fail a     -> nothing
           fail b     -> start b
           wait 100ms -> start a
           fail b     -> nothing
           fail c     -> start c
           wait 100ms -> start b",
    );
}

#[test]
fn the_pause_is_measured_from_the_failure() {
    check(
        "one_for_all paused: a b
           fail a     -> stop b, start a, start b
           hold b     -> nothing
           fail a     -> stop b
           wait 60ms  -> nothing
           wait 40ms  -> nothing
           down b     -> start a, start b",
    );
    check(
        "one_for_one paused: a b c
           fail a         -> start a
           stop           -> stop c, stop b, stop a, stopped
           start, hold c  -> start a, start b, start c
           fail a         -> nothing
           wait 1s        -> nothing
           up c           -> up, start a",
    );
}

#[test]
fn the_pause_of_a_failure_that_waits_for_a_plan_is_measured_from_the_failure_too() {
    check(
        "rest_for_one paused: a b
           fail a     -> stop b, start a, start b
           hold b     -> nothing
           fail b     -> start b
           fail a     -> nothing
           wait 100ms -> nothing
           up b       -> stop b
           down b     -> start a, start b",
    );
}

#[test]
fn a_failure_before_a_group_that_waits_makes_the_group_larger_and_does_not_wait() {
    check(
        "rest_for_one paused: a b c
           fail c -> start c
           fail c -> nothing
           fail a -> stop b, start a, start b, start c
           end a  -> forget a",
    );
    check(
        "rest_for_one paused: a b c
           fail c -> start c
           fail c -> nothing
           end a  -> forget a
           pause  -> start c",
    );
}

#[test]
fn a_child_that_is_added_while_its_group_waits_starts_with_it() {
    check(
        "one_for_all paused: a b
           fail a -> stop b, start a, start b
           fail a -> stop b
           add c  -> nothing
           pause  -> start a, start b, start c",
    );
}

#[test]
fn to_be_asked_early_does_no_harm() {
    check(
        "one_for_all paused: a b
           fail a    -> stop b, start a, start b
           fail a    -> stop b
           wait 49ms -> nothing
           wait 51ms -> start a, start b",
    );
}
