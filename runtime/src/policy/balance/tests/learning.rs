//! What calls tell of an instance: how long it takes, and whether it fails.

use proptest::prelude::*;

use super::*;
use crate::error::CallChain;
use crate::policy::balance::latency::Latency;

fn latency(scene: &Scene, index: usize) -> Duration {
    scene.candidates[index].latency().unwrap()
}

/// Whether two times are the same but for what an `f32` cannot hold.
fn assert_about(time: Duration, expected: Duration) {
    let (time, expected) = (time.as_secs_f64(), expected.as_secs_f64());
    assert!((time - expected).abs() < expected * 0.01, "{time} and not {expected}");
}

#[test]
fn latency_follows_a_rise_at_once_and_a_fall_slowly() {
    let mut scene = Scene::new(&["a"]);
    assert_eq!(scene.candidates[0].latency(), None);
    scene.answer(0, Duration::from_millis(10));
    assert_about(latency(&scene, 0), Duration::from_millis(10));
    scene.pass(Duration::from_millis(2));
    scene.answer(0, Duration::from_secs(1));
    assert_about(latency(&scene, 0), Duration::from_secs(1));
    scene.pass(Duration::from_secs(10));
    scene.answer(0, Duration::from_millis(10));
    // Faded to a third meanwhile, which then counts a third.
    let faded = 1.0 / std::f64::consts::E;
    assert_about(latency(&scene, 0), Duration::from_secs_f64(faded * faded + 0.01 * (1.0 - faded)));
    for _ in 0..1000 {
        scene.pass(Duration::from_millis(90));
        scene.answer(0, Duration::from_millis(10));
    }
    assert_about(latency(&scene, 0), Duration::from_millis(10));
}

#[test]
fn one_call_in_a_millisecond_is_measured_and_others_only_until_the_first_answer() {
    let scene = Scene::new(&["a"]);
    let load = scene.candidates[0].load();
    let now = SECOND;
    let (first, second) = (load.begin(now, true), load.begin(now, true));
    first.answered(|| now + 2000);
    second.answered(|| now + 3000);
    load.begin(now + 4000, true).answered(|| panic!("what it took is not wanted"));
    load.begin(now + 1_500_000, false).answered(|| panic!("nobody measures"));
    load.begin(now + 1_500_000, true).answered(|| now + 1_600_000);
    assert_about(latency(&scene, 0), Duration::from_micros(100));
}

#[test]
fn a_call_that_is_given_up_counts_as_at_least_that_slow_and_not_as_a_failure() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.answer(0, Duration::from_millis(10));
    for _ in 0..20 {
        let flight = scene.candidates[0].load().begin(scene.now, true);
        assert_eq!(scene.candidates[0].in_flight(), 1);
        scene.pass(Duration::from_millis(50));
        flight.given_up(|| scene.now);
    }
    let flight = scene.candidates[0].load().begin(scene.now, true);
    flight.given_up(|| scene.now + 1);
    assert_about(latency(&scene, 0), Duration::from_millis(50));
    assert_eq!((scene.candidates[0].in_flight(), scene.fitness(0)), (0, Fitness::Fit));
}

#[test]
fn a_failure_makes_an_instance_count_as_twice_as_slow() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.fail(0);
    assert_about(latency(&scene, 0), Duration::from_micros(200));
    scene.answer(1, Duration::from_millis(10));
    scene.fail(1);
    assert_about(latency(&scene, 1), Duration::from_millis(20));
    (0..200).for_each(|_| scene.fail(1));
    assert!(latency(&scene, 1) <= Duration::from_secs(3600), "no more than an hour");
}

proptest! {
    #[test]
    fn latency_is_never_above_the_highest_sample_and_never_below_the_lowest_that_has_just_come(
        samples in proptest::collection::vec((0_u64..20_000_000_000, 1_u64..10_000_000_000), 1..50),
    ) {
        let latency = Latency::default();
        let (mut now, mut highest) = (SECOND, 0);
        for (wait, sample) in samples {
            now += wait;
            highest = highest.max(sample);
            latency.note(sample, now);
            let estimate = f64::from(latency.now(now).unwrap());
            #[expect(clippy::cast_precision_loss, reason = "a test may be off by a nanosecond")]
            let (sample, highest) = (sample as f64, highest as f64);
            prop_assert!(estimate >= sample * 0.999 && estimate <= highest * 1.001, "{estimate}");
        }
    }
}

#[test]
fn after_five_failures_in_a_row_an_instance_is_passed_over_for_thirty_seconds_and_then_begins_slowly() {
    let mut scene = Scene::new(&["a", "b"]);
    (0..4).for_each(|_| scene.fail(0));
    scene.answer(0, Duration::from_millis(1));
    (0..4).for_each(|_| scene.fail(0));
    assert_eq!(scene.fitness(0), Fitness::Fit, "never five in a row");
    assert!(scene.pool.is_settled(scene.now));
    scene.fail(0);
    assert_eq!(scene.ejected(), [0]);
    scene.pass(Duration::from_millis(29_999));
    assert_eq!(scene.ejected(), [0]);
    assert!(!scene.pool.is_settled(scene.now));
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.fitness(0), Fitness::Fresh(0.1));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.fitness(0), Fitness::Fresh(0.5));
    scene.pass(Duration::from_secs(5));
    assert_eq!(scene.fitness(0), Fitness::Fit);
    assert!(scene.pool.is_settled(scene.now));
}

#[test]
fn what_fails_at_one_moment_counts_as_one_failure() {
    let mut scene = Scene::new(&["a", "b"]);
    for _ in 0..4 {
        scene.pass(Duration::from_millis(10));
        let flights: Vec<_> = (0..64).map(|_| scene.candidates[0].load().begin(scene.now, true)).collect();
        for flight in flights {
            flight.failed(&failure(), scene.now);
        }
    }
    assert_eq!(scene.fitness(0), Fitness::Fit);
    scene.fail(0);
    assert_eq!(scene.fitness(0), Fitness::Ejected);
}

#[test]
fn who_fails_again_is_passed_over_for_longer_and_good_times_make_up_for_that() {
    let mut scene = Scene::new(&["a", "b"]);
    for times in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10] {
        scene.fail_for_good(0);
        scene.pass(Duration::from_secs(30 * times - 1));
        assert_eq!(scene.ejected(), [0], "the {times}th time");
        scene.pass(Duration::from_secs(1));
        assert_eq!(scene.ejected(), [0; 0], "the {times}th time");
    }
    // Nine are forgiven of twelve.
    scene.pass(Duration::from_secs(91));
    scene.fail_for_good(0);
    scene.pass(Duration::from_secs(30 * 4 - 1));
    assert_eq!(scene.ejected(), [0]);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.ejected(), [0; 0]);
}

#[test]
fn the_caller_s_faults_and_what_the_directory_knows_are_no_failures() {
    let text = || "for some reason".into();
    let errors: [(CallError, bool); 15] = [
        (CallError::Timeout(text()), true),
        (CallError::Panicked(text()), true),
        (CallError::NoReply(text()), true),
        (CallError::Stopped(text()), true),
        (CallError::NoRoute(text()), false),
        (CallError::Overloaded(text()), false),
        (CallError::Stale(text()), false),
        (CallError::Denied(text()), false),
        (CallError::Incompatible(text()), false),
        (CallError::TooLarge(text()), false),
        (CallError::Expired(text()), false),
        (CallError::Codec(text()), false),
        (CallError::Deadlock(CallChain::new([])), false),
        (CallError::Disconnected(text()), false),
        (CallError::BadReply(text()), false),
    ];
    for (error, counts) in errors {
        let mut scene = Scene::new(&["a", "b"]);
        for _ in 0..20 {
            scene.pass(Duration::from_millis(10));
            scene.candidates[0].load().begin(scene.now, true).failed(&error, scene.now);
        }
        assert_eq!(scene.fitness(0) == Fitness::Ejected, counts, "{error:?}");
    }
}

#[test]
fn at_most_half_of_the_instances_are_passed_over() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let nodes = ["a", "b", "c", "d", "e", "f", "g"];
        let mut scene = Scene::new(&nodes[..count]);
        for index in 0..count {
            scene.fail_for_good(index);
        }
        assert_eq!(scene.ejected().len(), most, "of {count}");
    }
}

#[test]
fn those_whose_node_is_away_do_not_count_for_that_half() {
    let mut scene = Scene::new(&["a", "b", "c", "d"]);
    let addresses = ["a", "b", "c", "d"].map(address);
    let known = addresses.iter().map(|address| (address, address.node.as_str() > "b"));
    scene.pool.update(2, known, scene.now);
    scene.fail_for_good(0);
    scene.fail_for_good(1);
    assert_eq!(scene.ejected(), [0]);
}

#[test]
fn an_instance_that_comes_later_begins_slowly_and_the_first_ones_do_not() {
    let mut scene = Scene::new(&["a", "b"]);
    assert_eq!((scene.fitness(0), scene.fitness(1)), (Fitness::Fit, Fitness::Fit));
    assert!(scene.pool.is_settled(scene.now));
    scene.become_known(&["a", "b", "c"]);
    assert_eq!((scene.fitness(0), scene.fitness(2)), (Fitness::Fit, Fitness::Fresh(0.1)));
    scene.pass(Duration::from_secs(8));
    scene.become_known(&["a", "b", "c"]);
    assert_eq!(scene.fitness(2), Fitness::Fresh(0.8), "it has not begun anew");
}

#[test]
fn what_was_learned_of_an_instance_goes_when_it_leaves_the_directory() {
    let mut scene = Scene::new(&["a", "b", "c"]);
    scene.answer(0, Duration::from_millis(10));
    scene.fail_for_good(1);
    let gone = scene.candidates[1].load().begin(scene.now, true);
    scene.become_known(&["a", "c"]);
    assert_about(latency(&scene, 0), Duration::from_millis(10));
    gone.answered(|| SECOND); // nobody minds
    scene.become_known(&["a", "b", "c"]);
    assert_eq!(scene.candidates[1].latency(), None);
    assert_eq!(scene.fitness(1), Fitness::Fresh(0.1));
}

#[test]
fn an_older_version_of_the_directory_changes_nothing() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.answer(0, Duration::from_millis(10));
    let c = address("c");
    scene.pool.update(0, [(&c, false)].into_iter(), scene.now);
    scene.become_known(&["a", "b"]);
    assert_about(latency(&scene, 0), Duration::from_millis(10));
}

proptest! {
    #[test]
    fn whatever_happens_half_of_the_instances_are_offered_and_nothing_is_under_way_in_the_end(
        count in 1_usize..8,
        steps in proptest::collection::vec((0_usize..8, 0_u8..5, 0_u64..20_000), 0..300),
    ) {
        let nodes = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut scene = Scene::new(&nodes[..count]);
        let mut flights = Vec::new();
        for (index, kind, millis) in steps {
            let index = index % count;
            match kind {
                0 => scene.pass(Duration::from_millis(millis)),
                1 => flights.push(scene.candidates[index].load().begin(scene.now, true)),
                2 => scene.fail(index),
                3 => scene.fail_for_good(index),
                _ => if let Some(flight) = flights.pop() {
                    flight.given_up(|| scene.now);
                },
            }
            prop_assert!(scene.ejected().len() * 2 <= count);
        }
        drop(flights);
        prop_assert!(scene.candidates.iter().all(|candidate| candidate.in_flight() == 0));
    }
}
