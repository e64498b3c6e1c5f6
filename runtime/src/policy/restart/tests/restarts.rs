//! Which children come back, and in which order: each strategy, each restart policy, each end.

use super::script::check;

/// What follows when `b` fails and when it ends normally, for each strategy and each restart policy of `b`, with the
/// siblings `a`, `c` and `d`.
const TABLE: [(&str, &str, &str, &str); 12] = [
    // strategy      b         it fails                                          it ends normally
    ("one_for_one", "always", "start b", "start b"),
    ("one_for_one", "on_failure", "start b", "forget b"),
    ("one_for_one", "never", "forget b", "forget b"),
    ("one_for_all", "always", ALL, ALL),
    ("one_for_all", "on_failure", ALL, "forget b"),
    ("one_for_all", "never", "forget b", "forget b"),
    ("rest_for_one", "always", REST, REST),
    ("rest_for_one", "on_failure", REST, "forget b"),
    ("rest_for_one", "never", "forget b", "forget b"),
    ("dynamic", "always", "start b", "start b"),
    ("dynamic", "on_failure", "start b", "forget b"),
    ("dynamic", "never", "forget b", "forget b"),
];

const ALL: &str = "stop d, stop c, stop a, start a, start b, start c, start d";
const REST: &str = "stop d, stop c, start b, start c, start d";

#[test]
fn each_end_of_a_child_restarts_whom_its_policy_and_the_strategy_say() {
    for (strategy, policy, fails, ends) in TABLE {
        let b = if policy == "on_failure" { "b".to_owned() } else { format!("b:{policy}") };
        for (end, expected) in [("fail", fails), ("end", ends)] {
            check(&format!("{strategy}: a {b} c d\n {end} b -> {expected}"));
            check(&format!("{strategy}: a:always {b} c d:always\n {end} b -> {expected}"));
        }
    }
}

#[test]
fn the_place_in_the_order_says_who_belongs_to_the_rest() {
    check(
        "rest_for_one: a b c
           fail a -> stop c, stop b, start a, start b, start c
           fail b -> stop c, start b, start c
           fail c -> start c",
    );
    check(
        "one_for_all: a b c
           fail a -> stop c, stop b, start a, start b, start c
           fail c -> stop b, stop a, start a, start b, start c",
    );
}

#[test]
fn a_child_that_never_comes_back_is_forgotten_when_its_group_is_restarted() {
    check(
        "one_for_all: a:never b c:never d
           fail b -> stop d, stop c, forget c, stop a, forget a, start b, start d
           fail b -> stop d, start b, start d",
    );
    check(
        "rest_for_one: a:never b c:never d
           fail b -> stop d, stop c, forget c, start b, start d",
    );
}

#[test]
fn a_child_that_ended_normally_is_not_started_with_its_group() {
    check(
        "one_for_all: a b c
           end c  -> forget c
           fail a -> stop b, start a, start b",
    );
    check(
        "rest_for_one: a b c
           end b  -> forget b
           fail a -> stop c, start a, start c",
    );
}

#[test]
fn a_child_that_ends_while_its_group_is_stopped_comes_back_with_it_and_counts_for_nothing() {
    check(
        "one_for_all 1/5s: a b c:never d
           hold d -> nothing
           fail b -> stop d
           fail a -> nothing
           end c  -> nothing
           down d -> forget c, start a, start b, start d
           up d   -> nothing
           fail a -> stop d
           down d -> stop b, gave up a",
    );
}

#[test]
fn several_failures_that_come_at_once_make_one_plan_after_the_other() {
    check(
        "one_for_one: a b c
           fail c, fail a -> start c, start a",
    );
    check(
        "rest_for_one: a b c d
           fail c, fail b -> stop d, start c, start d, stop d, stop c, start b, start c, start d
           fail b, fail c -> stop d, start b, start c, start d",
    );
    check(
        "one_for_all 1/5s: a b c
           fail c, fail a -> stop b, start a, start b, start c
           fail c         -> stop b, stop a, gave up c",
    );
}

#[test]
fn ends_of_others_wait_for_the_plan_in_the_order_of_their_arrival() {
    check(
        "rest_for_one: a b:never c d e
           hold e -> nothing
           fail d -> stop e
           fail c -> nothing
           end b  -> nothing
           fail a -> nothing
           down e -> start d, start e
           up e   -> stop e
           down e -> stop d, start c, start d, start e
           up e   -> forget b, stop e
           down e -> stop d, stop c, start a, start c, start d, start e",
    );
}

#[test]
fn a_child_that_fails_right_after_its_restart_waits_for_the_plan_that_started_it() {
    check(
        "one_for_all: a b c
           hold c -> nothing
           fail b -> stop c
           down c -> stop a, start a, start b, start c
           fail a -> nothing
           up c   -> stop c
           down c -> stop b, start a, start b, start c
           end a  -> nothing
           up c   -> forget a",
    );
}

#[test]
fn a_start_that_fails_in_a_restart_is_a_failure_and_tried_again() {
    check(
        "one_for_one: a b c
           refuse b 2 -> nothing
           fail b     -> start b, start b, start b",
    );
    check(
        "rest_for_one: a b c d
           refuse b -> nothing
           fail b   -> stop d, stop c, start b, start b, start c, start d
           refuse c -> nothing
           fail b   -> stop d, stop c, start b, start c, start c, start d
           refuse d -> nothing
           fail b   -> stop d, stop c, start b, start c, start d, start d",
    );
    check(
        "one_for_all: a b c
           refuse a -> nothing
           fail b   -> stop c, stop a, start a, start a, start b, start c
           refuse b -> nothing
           fail b   -> stop c, stop a, start a, start b, stop a, start a, start b, start c
           refuse c -> nothing
           fail b   -> stop c, stop a, start a, start b, start c, stop b, stop a, start a, start b, start c",
    );
}

#[test]
fn a_start_that_keeps_failing_in_a_restart_is_given_up() {
    check(
        "one_for_one 3/5s: a b c
           refuse b 9 -> nothing
           fail b     -> start b, start b, start b, stop c, stop a, gave up b",
    );
    check(
        "rest_for_one 2/5s: a b c
           refuse c 9 -> nothing
           fail b     -> stop c, start b, start c, start c, stop b, stop a, gave up c",
    );
    check(
        "one_for_all 1/5s: a b c
           refuse c -> nothing
           fail b   -> stop c, stop a, start a, start b, start c, stop b, stop a, gave up c",
    );
}

#[test]
fn a_child_that_is_told_to_restart_does_so_alone_and_nothing_is_counted() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one", "dynamic"] {
        for policy in ["a", "a:never", "a:always"] {
            check(&format!(
                "{strategy} 0/5s: {policy} b c
                   restart a -> stop a, start a
                   restart a -> stop a, start a"
            ));
        }
    }
}

#[test]
fn a_child_that_pauses_and_is_told_to_restart_pauses_no_more() {
    check(
        "one_for_one paused: a
           fail a -> start a
           fail a -> nothing
           restart a -> start a",
    );
}

#[test]
fn a_child_that_was_told_to_restart_comes_back_with_the_plan_that_found_it_down() {
    check(
        "one_for_all: a b c
           hold a -> nothing
           restart a -> stop a
           fail b -> stop c
           down a -> start a
           up a -> start b, start c",
    );
    check(
        "rest_for_one: a b c
           hold a -> nothing
           restart a -> stop a
           fail b -> stop c, start b, start c
           down a -> start a
           up a -> nothing",
    );
}

#[test]
fn a_child_that_is_removed_while_it_restarts_is_gone() {
    check(
        "one_for_one: a b
           hold a -> nothing
           restart a -> stop a
           remove a -> nothing
           down a -> forget a",
    );
}
