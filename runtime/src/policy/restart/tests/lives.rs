//! How a life of a supervisor begins and ends, and that another may follow.

use super::script::check;

#[test]
fn a_life_begins_in_order_each_child_when_the_one_before_is_up() {
    check(
        "one_for_one: a b c
           start, hold b -> start a, start b
           up b          -> start c, up",
    );
    check("one_for_one:\n start -> up\n stop -> stopped");
}

#[test]
fn a_start_that_fails_stops_those_before_it_in_reverse_and_counts_for_nothing() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one"] {
        for (refused, follows) in [
            ("a", "start a, start failed a"),
            ("b", "start a, start b, stop a, start failed b"),
            ("c", "start a, start b, start c, stop b, stop a, start failed c"),
        ] {
            check(&format!(
                "{strategy} 0/5s: a b c
                   start, refuse {refused} -> {follows}
                   start                   -> start a, start b, start c, up"
            ));
        }
    }
    check(
        "dynamic: a b c
           start, refuse c, hold a -> start a
           up a                    -> start b, start c, stop a, stop b
           down a                  -> start failed c",
    );
}

#[test]
fn a_child_that_ends_before_all_are_up_is_handled_when_they_are() {
    check(
        "one_for_one: a:always b:never c
           start, hold c -> start a, start b, start c
           end a         -> nothing
           fail b        -> nothing
           up c          -> up, start a, forget b",
    );
    check(
        "one_for_all: a b c
           start, hold c, hold a -> start a
           up a                  -> start b, start c
           fail a                -> nothing
           refused c             -> stop b, start failed c",
    );
}

#[test]
fn a_supervisor_that_gives_up_stops_its_children_in_reverse_and_says_who_it_was() {
    check(
        "one_for_one 0/5s: a b c d
           hold a -> nothing
           fail c -> stop d, stop b, stop a
           down a -> gave up c",
    );
}

#[test]
fn the_next_life_begins_with_all_children_and_nothing_counted() {
    check(
        "one_for_one 1/5s: a b:never c
           fail c -> start c
           fail c -> stop b, stop a, gave up c
           start  -> start a, start b, start c, up
           fail c -> start c
           fail c -> stop b, stop a, gave up c",
    );
    check(
        "one_for_one paused: a
           fail a -> start a
           fail a -> nothing
           stop   -> stopped
           start  -> start a, up
           fail a -> start a",
    );
}

#[test]
fn a_child_that_was_forgotten_does_not_come_back_in_the_next_life() {
    check(
        "rest_for_one: a b c:never d
           end a    -> forget a
           fail b   -> stop d, stop c, forget c, start b, start d
           stop     -> stop d, stop b, stopped
           start    -> start b, start d, up",
    );
}

#[test]
fn a_parent_restarts_a_supervisor_that_gave_up_and_gives_up_itself_in_the_end() {
    // The parent's child `s` is the supervisor of the first scenario: its giving up is a failure of `s`.
    let child = "one_for_all 1/5s: x y
           fail x -> stop y, start x, start y
           fail y -> stop x, gave up y
           start  -> start x, start y, up
           fail x -> stop y, start x, start y
           fail y -> stop x, gave up y";
    let parent = "one_for_one 1/5s: a s
           fail s -> start s
           fail s -> stop a, gave up s";
    check(child);
    check(parent);
}

#[test]
fn a_life_that_goes_on_is_not_begun_again() {
    check(
        "one_for_one: a b
           start  -> start a, start b, up
           start  -> nothing
           fail a, start -> start a",
    );
}

#[test]
fn a_child_that_is_added_to_a_running_supervisor_starts_at_once_and_is_the_last() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one"] {
        check(&format!(
            "{strategy}: a b
               add c -> start c
               stop  -> stop c, stop b, stop a, stopped
               add d -> nothing
               start -> start a, start b, start c, start d, up"
        ));
    }
    check("one_for_all: a\n add b -> start b\n fail a -> stop b, start a, start b");
    check("rest_for_one: a\n add b -> start b\n fail b -> start b");
    check("dynamic:\n add a -> start a\n add b -> start b\n fail a -> start a");
}

#[test]
fn a_child_that_is_added_and_does_not_start_is_forgotten_and_counts_for_nothing() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one", "dynamic"] {
        check(&format!(
            "{strategy} 0/5s: a
               add b:always, refuse b -> start b, forget b
               fail a                 -> gave up a"
        ));
    }
}

#[test]
fn a_child_that_was_added_and_was_up_is_a_child_like_the_others() {
    for strategy in ["one_for_one", "one_for_all", "rest_for_one", "dynamic"] {
        check(&format!(
            "{strategy}:
               add a            -> start a
               refuse a, fail a -> start a, start a"
        ));
    }
}

#[test]
fn a_child_that_is_added_during_a_plan_starts_after_it() {
    check(
        "one_for_one: a b
           start, hold b -> start a, start b
           add c, add d, refuse c -> nothing
           up b -> start c, forget c, start d, up",
    );
    check(
        "rest_for_one 1/5s: a b c
           hold c                 -> nothing
           fail b                 -> stop c
           add d, add e, refuse d -> nothing
           down c                 -> start b, start c
           up c                   -> start d, forget d, start e",
    );
    check(
        "one_for_all: a b
           add c:never, fail a -> stop b, start a, start b, start c
           add d, hold d       -> start d
           fail a              -> stop d
           down d              -> stop c, forget c, stop b, start a, start b, start d
           refused d           -> forget d",
    );
}
