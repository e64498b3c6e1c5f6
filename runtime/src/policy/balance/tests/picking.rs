//! Who is offered, and which of them each kind of balancer picks.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::policy::balance::candidates::{Balancer, Candidates, Draw};
use crate::policy::balance::kinds::Balance;
use crate::policy::balance::offer::offer;
use crate::policy::balance::weighted::Weighted;

const KINDS: [Balance; 5] =
    [Balance::RoundRobin, Balance::Random, Balance::LeastLoaded, Balance::LocalFirst, Balance::Consistent];

fn offered(scene: &Scene, refused: &[usize], number: u64) -> Vec<usize> {
    let refused: Vec<_> = refused.iter().map(|place| scene.candidates[*place].address()).collect();
    offer(&scene.candidates, |candidate| refused.contains(&candidate.address()), scene.now, number)
}

/// How many of 10,000 calls each gets, none of which is under way when the next one is made.
fn spread(scene: &Scene, balancer: &dyn Balancer) -> BTreeMap<String, u32> {
    let mut spread = BTreeMap::new();
    for turn in 0..10_000 {
        let draw = Draw::new(Draw::seed(7), turn);
        let offered = offer(&scene.candidates, |_| false, scene.now, draw.random());
        let candidates = Candidates::new(&scene.candidates, Some(&offered), draw, scene.now);
        let picked = &candidates[balancer.pick(candidates)];
        *spread.entry(picked.node().to_string()).or_default() += 1;
    }
    spread
}

#[track_caller]
fn check(scene: &Scene, balancer: &dyn Balancer, expected: &[(&str, u32)], tolerance: u32) {
    let spread = spread(scene, balancer);
    let nodes: Vec<_> = spread.keys().map(String::as_str).collect();
    assert_eq!(nodes, expected.iter().map(|(node, _)| *node).collect::<Vec<_>>(), "{spread:?}");
    for (node, expected) in expected {
        assert!(spread[*node].abs_diff(*expected) <= tolerance, "{node} in {spread:?}");
    }
}

#[test]
fn each_kind_spreads_as_it_says() {
    let scene = Scene::new(&["a", "b", "here", "z"]);
    let even = [("a", 2500), ("b", 2500), ("here", 2500), ("z", 2500)];
    check(&scene, &Balance::RoundRobin, &even, 0);
    check(&scene, &Balance::Random, &even, 150);
    check(&scene, &Balance::LeastLoaded, &even, 150);
    check(&scene, &Balance::LocalFirst, &[("here", 10_000)], 0);
    check(&scene, &Balance::Consistent, &[("a", 10_000)], 0);
}

#[test]
fn weights_are_kept_closely_and_what_has_none_gets_nothing_unless_all_have_none() {
    let scene = Scene::new(&["a", "b", "c"]);
    let weighted = Weighted::by_node([("a", 3), ("b", 0)]);
    check(&scene, &weighted, &[("a", 7500), ("c", 2500)], 10);
    let weighted = Weighted::by(|_| 0);
    check(&scene, &weighted, &[("a", 3333), ("b", 3333), ("c", 3333)], 150);
    let weighted = Weighted::by(|candidate| if candidate.node().as_str() == "b" { u32::MAX } else { 0 });
    check(&scene, &weighted, &[("b", 10_000)], 0);
}

#[test]
fn of_two_the_one_with_less_to_do_is_picked() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.answer(0, Duration::from_millis(10));
    check(&scene, &Balance::LeastLoaded, &[("b", 10_000)], 0); // which nobody knows yet
    let asked = scene.candidates[1].load().begin(scene.now, true);
    check(&scene, &Balance::LeastLoaded, &[("a", 10_000)], 0);
    drop(asked);
    scene.answer(1, Duration::from_millis(35));
    let mut flights = Vec::new();
    for _ in 0..3 {
        check(&scene, &Balance::LeastLoaded, &[("a", 10_000)], 0);
        flights.push(scene.candidates[0].load().begin(scene.now, true));
    }
    check(&scene, &Balance::LeastLoaded, &[("b", 10_000)], 0);
    flights.clear();
    scene.pass(Duration::from_secs(20));
    scene.answer(0, Duration::from_millis(10));
    check(&scene, &Balance::LeastLoaded, &[("b", 10_000)], 0); // it is time to try again
}

#[test]
fn what_answers_within_a_tenth_of_a_millisecond_is_equally_fast() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.answer(0, Duration::from_micros(1));
    scene.answer(1, Duration::from_micros(99));
    check(&scene, &Balance::LeastLoaded, &[("a", 5000), ("b", 5000)], 200);
}

#[test]
fn the_less_loaded_of_the_local_ones_is_picked_and_others_where_none_is_local() {
    let scene = Scene::new(&["a", "b"]);
    check(&scene, &Balance::LocalFirst, &[("a", 5000), ("b", 5000)], 200);
    let mut scene = Scene::new(&["a", "here"]);
    scene.fail_for_good(1);
    check(&scene, &Balance::LocalFirst, &[("a", 10_000)], 0);
    scene.pass(Duration::from_secs(35));
    check(&scene, &Balance::LocalFirst, &[("a", 5000), ("here", 5000)], 200);
    scene.pass(Duration::from_secs(5));
    check(&scene, &Balance::LocalFirst, &[("here", 10_000)], 0);
}

#[test]
fn a_new_instance_gets_a_share_that_grows_from_a_tenth_to_all_of_its_part() {
    for kind in [Balance::RoundRobin, Balance::Random, Balance::LeastLoaded] {
        let mut scene = Scene::new(&["a", "b", "c"]);
        scene.become_known(&["a", "b", "c", "new"]);
        let mut last = 0;
        for (after, least, most) in [(0, 150, 550), (4, 800, 1600), (8, 1800, 2200), (10, 2300, 2700)] {
            scene.now = SECOND + after * SECOND;
            let part = spread(&scene, &kind)["new"];
            assert!((least..=most).contains(&part) && part > last, "{part} after {after} s by {kind:?}");
            last = part;
        }
    }
}

#[test]
fn where_all_are_new_none_is_spared() {
    let mut scene = Scene::new(&["a"]);
    scene.become_known(&["b", "c"]);
    assert_eq!(scene.fitness(0), Fitness::Fresh(0.1));
    for number in 0..100 {
        assert_eq!(offered(&scene, &[], number), [0, 1]);
    }
}

#[test]
fn who_is_passed_over_is_offered_when_nobody_else_is_left() {
    let mut scene = Scene::new(&["a", "b"]);
    scene.fail_for_good(0);
    assert_eq!(offered(&scene, &[], 1), [1]);
    assert_eq!(offered(&scene, &[1], 1), [0]);
    assert_eq!(offered(&scene, &[0, 1], 1), [0; 0]);
}

proptest! {
    #[test]
    fn somebody_is_offered_as_long_as_somebody_has_not_refused_and_every_kind_picks_one_of_those(
        count in 1_usize..8,
        failing in proptest::collection::vec(0_usize..8, 0..8),
        refused in proptest::collection::vec(0_usize..8, 0..8),
        new in any::<bool>(),
        turn in any::<u64>(),
        wait in 0_u64..60,
    ) {
        let nodes = ["a", "b", "here", "d", "e", "f", "g", "h"];
        let mut scene = Scene::new(&nodes[..count]);
        for index in failing {
            scene.fail_for_good(index % count);
        }
        if new {
            scene.become_known(&["a", "b", "here", "x", "y"]);
        }
        scene.pass(Duration::from_secs(wait));
        let all = scene.candidates.len();
        let refused: Vec<_> = refused.into_iter().map(|index| index % all).collect();
        let draw = Draw::new(1, turn);
        let offered = offered(&scene, &refused, draw.random());
        prop_assert!(offered.iter().all(|place| !refused.contains(place)));
        let is_anybody_left = (0..all).any(|place| !refused.contains(&place));
        prop_assert_eq!(is_anybody_left, !offered.is_empty());
        let candidates = Candidates::new(&scene.candidates, Some(&offered), draw, scene.now);
        prop_assert_eq!(candidates.iter().len(), offered.len());
        if is_anybody_left {
            for kind in KINDS {
                prop_assert!(kind.pick(candidates) < offered.len(), "{:?}", kind);
            }
            prop_assert!(Weighted::by(|_| 3).pick(candidates) < offered.len());
        }
        prop_assert!(candidates.get(offered.len()).is_none());
    }
}
