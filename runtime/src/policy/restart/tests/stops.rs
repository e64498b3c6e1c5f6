//! Stopping: in reverse, all at once, one alone, and in the middle of anything.

use super::script::check;

#[test]
fn a_stop_goes_in_reverse_one_child_after_the_other() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one"] {
        check(&format!(
            "{strategy}: a b c
               hold b -> nothing
               stop   -> stop c, stop b
               stop   -> nothing
               down b -> stop a, stopped"
        ));
    }
}

#[test]
fn dynamic_children_are_stopped_all_at_once() {
    check(
        "dynamic: a b c
           hold a, hold b, hold c -> nothing
           stop                   -> stop a, stop b, stop c
           down b, down a         -> nothing
           stop                   -> nothing
           down c                 -> stopped",
    );
    check(
        "dynamic 0/5s: a b c d
           hold a, hold d -> nothing
           remove d       -> stop d
           fail c         -> stop a, stop b
           down a         -> nothing
           down d         -> forget d, gave up c",
    );
}

#[test]
fn a_stop_without_a_life_is_done_at_once() {
    check("one_for_one: a\n stop -> stop a, stopped\n stop -> stopped\n start -> start a, up");
    check("dynamic:\n stop -> stopped");
}

#[test]
fn children_that_have_ended_are_not_stopped() {
    check(
        "one_for_one: a b c d
           hold d         -> nothing
           stop           -> stop d
           fail c, end a  -> nothing
           down d         -> stop b, stopped
           start          -> start a, start b, start c, start d",
    );
}

#[test]
fn a_stop_ends_a_life_that_has_not_begun() {
    check(
        "one_for_one: a b c
           start, hold b -> start a, start b
           stop          -> stop b
           down b        -> stop a, stopped",
    );
    check("one_for_one: a b\n start, stop -> stopped\n start -> start a, start b, up");
    check(
        "one_for_one: a b c
           start, hold c, hold a -> start a
           up a                  -> start b, start c
           refused c             -> stop b, stop a
           stop                  -> nothing
           down a                -> stopped",
    );
}

#[test]
fn a_stop_ends_every_pause() {
    for (strategy, stops) in [
        ("one_for_one", "stop c, stop a, stopped"),
        ("dynamic", "stop a, stop c, stopped"),
        ("rest_for_one", "stop a, stopped"),
        ("one_for_all", "stopped"),
    ] {
        let (again, group) = match strategy {
            "one_for_all" => ("stop c, stop a, start a, start b, start c", "stop c, stop a"),
            "rest_for_one" => ("stop c, start b, start c", "stop c"),
            _ => ("start b", "nothing"),
        };
        check(&format!(
            "{strategy} paused: a b c
               fail b   -> {again}
               fail b   -> {group}
               stop     -> {stops}
               wait 60s -> nothing"
        ));
    }
}

#[test]
fn a_pause_that_ends_during_a_stop_starts_nothing() {
    check(
        "one_for_one paused: a b c
           fail a   -> start a
           fail a   -> nothing
           hold c   -> nothing
           stop     -> stop c
           wait 60s -> nothing
           down c   -> stop b, stopped",
    );
}

#[test]
fn a_stop_takes_the_place_of_a_restart_and_of_giving_up() {
    check(
        "one_for_all: a b c d
           hold c -> nothing
           fail b -> stop d, stop c
           stop   -> nothing
           down c -> stop a, stopped",
    );
    check(
        "rest_for_one: a b c d
           hold c -> nothing
           fail b -> stop d, stop c
           stop   -> nothing
           down c -> stop a, stopped",
    );
    check(
        "one_for_all: a b c
           hold b -> nothing
           fail a -> stop c, stop b
           down b -> start a, start b
           stop   -> stop b
           down b -> stop a, stopped",
    );
    check(
        "one_for_one 0/5s: a b
           hold a -> nothing
           fail b -> stop a
           stop   -> nothing
           down a -> stopped",
    );
}

#[test]
fn a_child_that_starts_or_fails_to_start_while_it_is_stopped_is_down_when_it_says_so() {
    check(
        "one_for_one: a b
           start, hold b -> start a, start b
           stop          -> stop b
           up b          -> nothing
           down b        -> stop a, stopped",
    );
    check(
        "one_for_one: a b
           start, hold b   -> start a, start b
           stop            -> stop b
           refused b       -> nothing
           down b          -> stop a, stopped
           start           -> start a, start b",
    );
    check(
        "one_for_one: a b
           start, hold b   -> start a, start b
           stop, refused b -> stop a, stopped",
    );
}

#[test]
fn a_restart_that_fails_before_its_turn_to_be_stopped_counts_for_nothing() {
    check(
        "one_for_one 1/5s: a b c
           hold a, hold c -> nothing
           fail a         -> start a
           stop           -> stop c
           refused a      -> nothing
           down c         -> stop b, stopped",
    );
}

#[test]
fn a_stop_before_anybody_has_heard_of_giving_up_takes_its_place() {
    check("one_for_one 0/5s: a\n fail a, stop -> stopped\n start -> start a, up");
    check("one_for_one 0/5s: a b\n fail b -> stop a, gave up b\n stop -> stopped");
}

#[test]
fn a_child_that_ends_before_it_is_told_to_stop_is_not_told() {
    check("one_for_one: a b\n stop, fail b -> stop a, stopped");
    check("one_for_all: a b c\n fail a, fail c -> stop b, start a, start b, start c");
}

#[test]
fn a_child_that_is_removed_is_stopped_and_forgotten_alone() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one", "dynamic"] {
        check(&format!(
            "{strategy} 0/5s: a b:always c
               remove b -> stop b, forget b
               remove b -> nothing
               fail a   -> {}, gave up a",
            "stop c"
        ));
    }
    check("one_for_one: a b\n stop -> stop b, stop a, stopped\n remove a -> forget a\n start -> start b, up");
}

#[test]
fn a_child_that_fails_while_it_is_removed_is_forgotten() {
    check(
        "one_for_all 0/5s: a b:always c
           hold b   -> nothing
           remove b -> stop b
           fail b   -> forget b",
    );
}

#[test]
fn a_removal_during_a_plan_does_not_hold_it_up() {
    check(
        "one_for_one: a b c
           start, hold b -> start a, start b
           remove b      -> stop b
           down b        -> forget b, start c, up",
    );
    check("one_for_one: a b\n start, remove a -> forget a, start b, up");
    check(
        "one_for_all: a b c
           hold a, hold c -> nothing
           fail b         -> stop c
           remove a       -> stop a
           remove c       -> nothing
           down c         -> forget c
           remove b       -> forget b
           down a         -> forget a
           stop           -> stopped",
    );
    check(
        "rest_for_one: a b c d
           hold d         -> nothing
           fail c         -> stop d
           fail a         -> nothing
           remove a       -> forget a
           down d         -> start c, start d
           up d           -> nothing",
    );
}

#[test]
fn a_removal_during_a_pause_ends_it_for_that_child_alone() {
    check(
        "one_for_one paused: a b
           fail a   -> start a
           fail a   -> nothing
           remove a -> forget a
           wait 60s -> nothing",
    );
    check(
        "one_for_all paused: a b c
           fail a   -> stop c, stop b, start a, start b, start c
           fail a   -> stop c, stop b
           remove a -> forget a
           pause    -> start b, start c",
    );
}
