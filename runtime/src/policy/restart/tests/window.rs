//! How many restarts are too many, exactly.

use std::fmt::Write as _;
use std::time::Duration;

use super::script::check;
use crate::policy::restart::window::Window;
use crate::supervision::Intensity;

#[test]
fn exactly_as_many_restarts_as_allowed_are_made_and_the_next_failure_is_one_too_many() {
    for allowed in 0..5 {
        for (strategy, restart) in [
            ("one_for_one", "start b"),
            ("one_for_all", "stop c, stop a, start a, start b, start c"),
            ("rest_for_one", "stop c, start b, start c"),
            ("dynamic", "start b"),
        ] {
            let mut scenario = format!("{strategy} {allowed}/5s: a b c\n");
            (0..allowed).for_each(|_| writeln!(scenario, "fail b -> {restart}").unwrap());
            let order = if strategy == "dynamic" { "stop a, stop c" } else { "stop c, stop a" };
            check(&format!("{scenario} fail b -> {order}, gave up b"));
        }
    }
}

#[test]
fn a_restart_still_counts_at_exactly_the_end_of_the_window_and_not_after_it() {
    check(
        "one_for_one 2/5s: a
           fail a  -> start a
           wait 2s -> nothing
           fail a  -> start a
           wait 3s -> nothing
           fail a  -> gave up a",
    );
    check(
        "one_for_one 2/5s: a
           fail a          -> start a
           wait 2s         -> nothing
           fail a          -> start a
           wait 3s         -> nothing
           wait 1ns        -> nothing
           fail a          -> start a
           wait 1999999999ns -> nothing
           fail a          -> gave up a",
    );
}

#[test]
fn the_window_slides_and_is_not_emptied_at_its_end() {
    check(
        "one_for_one 3/5s: a
           fail a  -> start a
           wait 4s -> nothing
           fail a  -> start a
           fail a  -> start a
           wait 2s -> nothing
           fail a  -> start a
           fail a  -> gave up a",
    );
}

#[test]
fn the_failures_of_all_children_count_together() {
    check(
        "one_for_one 2/5s: a b c
           fail a -> start a
           fail b -> start b
           fail c -> stop b, stop a, gave up c",
    );
}

#[test]
fn the_restart_of_a_group_counts_once() {
    check(
        "one_for_all 1/5s: a b c d e
           fail a -> stop e, stop d, stop c, stop b, start a, start b, start c, start d, start e
           wait 5s, wait 1ns -> nothing
           fail e -> stop d, stop c, stop b, stop a, start a, start b, start c, start d, start e",
    );
}

#[test]
fn what_restarts_nothing_counts_for_nothing() {
    check(
        "one_for_one 1/5s: a:never b:never c d
           fail a   -> forget a
           end b    -> forget b
           end c    -> forget c
           fail d   -> start d
           fail d   -> gave up d",
    );
}

#[test]
fn a_normal_end_that_is_followed_by_a_restart_counts() {
    check(
        "one_for_one 1/5s: a:always
           end a -> start a
           end a -> gave up a",
    );
}

#[test]
fn an_unlimited_supervisor_never_gives_up_and_keeps_nothing() {
    let mut window = Window::new(Intensity::unlimited());
    let now = super::start();
    assert!((0..10_000).all(|_| window.admit(now)));
    assert_eq!(window.len(), 0);
}

#[test]
fn a_window_keeps_no_more_than_it_allows() {
    let mut window = Window::new(Intensity::new(3, Duration::from_secs(5)));
    let now = super::start();
    for second in 0..1000 {
        window.admit(now + Duration::from_secs(second));
        assert!(window.len() <= 3);
    }
}
