//! What OTP documents of its supervisors, played with real services: strategy by restart policy by kind of end, the
//! window of restarts, pauses.

use super::*;

use skyhold::Intensity;

/// Plays a scenario: a supervisor and its children in order, and what follows from what is done to them.
///
/// ```text
/// rest_for_one 3/5s: a b:always c:never
///   fail b -> !b -c +b
/// ```
///
/// On the right is what the children did, in order: `+a` a life of `a` began, `?a` a start was refused, `!a` a handler
/// panicked, `-a` a life ended in order; then what the supervisor did: `gave_up`. A child is `on_failure`, unless its
/// name says otherwise; there are no pauses, unless the supervisor is `paused`.
async fn check(scenario: &str) {
    let mut lines = scenario.lines().map(str::trim).filter(|line| !line.is_empty());
    let setting = lines.next().expect("a scenario begins with its supervisor");
    let node = Node::builder("a").start().await.unwrap();
    let before = usage(&node);
    let stage = Stage::default();
    let mut events = node.events();
    let (supervisor, names) = build(&node, &stage, setting);
    let supervisor = supervisor.start(&node).await.unwrap();
    let begun: Vec<_> = names.iter().map(|name| format!("+{name}")).collect();
    assert_eq!(stage.line(), begun.join(" "), "the start of {setting}");
    let addresses = addresses(&supervisor).await;
    for line in lines {
        let (input, expected) = line.split_once("->").expect("a line says what follows");
        for input in input.split(',') {
            play(&node, &stage, &supervisor, input.trim()).await;
        }
        let mut seen = stage.log.take();
        for event in published(&mut events) {
            if let Event::GaveUp { supervisor, .. } = event {
                assert_eq!(supervisor, "tree");
                seen.push("gave_up".to_owned());
            }
        }
        assert_eq!(seen.join(" "), expected.trim(), "\nin {setting}\n   {line}");
        for (name, instance) in self::addresses(&supervisor).await {
            assert_eq!(addresses.get(&name), Some(&instance), "{name} keeps its address");
        }
    }
    supervisor.stop().await;
    assert_nothing_left(&node, before, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn addresses(supervisor: &SupervisorHandle) -> BTreeMap<String, Option<skyhold::InstanceId>> {
    supervisor.children().await.into_iter().map(|child| (child.name, child.instance)).collect()
}

fn build(node: &Node, stage: &Stage, setting: &str) -> (Supervisor, Vec<String>) {
    let (supervisor, children) = setting.split_once(':').expect("a supervisor, a colon, children");
    let mut words = supervisor.split_whitespace();
    let strategy = match words.next() {
        Some("one_for_one") => Strategy::OneForOne,
        Some("one_for_all") => Strategy::OneForAll,
        Some("rest_for_one") => Strategy::RestForOne,
        Some("dynamic") => Strategy::Dynamic,
        other => panic!("no strategy: {other:?}"),
    };
    let (mut intensity, mut paused) = (Intensity::unlimited(), false);
    for word in words {
        match word.split_once('/') {
            Some((restarts, within)) => intensity = Intensity::new(restarts.parse().unwrap(), time(within)),
            None if word == "paused" => paused = true,
            None => panic!("not understood: {word}"),
        }
    }
    let (mut supervisor, mut names) = (Supervisor::new("tree", strategy).intensity(intensity), Vec::new());
    for child in children.split_whitespace() {
        let (name, restart) = match child.split_once(':') {
            None => (child, Restart::on_failure()),
            Some((name, "always")) => (name, Restart::always()),
            Some((name, "never")) => (name, Restart::never()),
            Some(_) => panic!("not understood: {child}"),
        };
        let restart = if paused { restart } else { eager(restart) };
        supervisor = supervisor.child(stage.service(node, name).restart(restart));
        names.push(name.to_owned());
    }
    (supervisor, names)
}

async fn play(node: &Node, stage: &Stage, supervisor: &SupervisorHandle, input: &str) {
    let mut words = input.split_whitespace();
    let (what, of) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let actor = || ActorHandle::try_lookup(node, of).unwrap();
    match what {
        "fail" => drop(actor().fail().await.unwrap_err()),
        "finish" => actor().finish().await.unwrap(),
        "abort" => node.abort(&actor()).unwrap(),
        "remove" => assert!(node.stop_service(of).await),
        "stop" => supervisor.stop().await,
        "refuse" => stage.refuse(of, words.next().map_or(1, |times| times.parse().unwrap())),
        "wait" => wait(time(of)).await,
        _ => panic!("not understood: {input}"),
    }
    settle().await;
}

/// `5s` or `4999ms`.
fn time(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(millis.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn each_strategy_restarts_whom_it_says_in_order_and_stops_in_reverse() {
    for (strategy, fail_a, fail_b, fail_c) in [
        ("one_for_one", "!a +a", "!b +b", "!c +c"),
        ("dynamic", "!a +a", "!b +b", "!c +c"),
        ("one_for_all", "!a -c -b +a +b +c", "!b -c -a +a +b +c", "!c -b -a +a +b +c"),
        ("rest_for_one", "!a -c -b +a +b +c", "!b -c +b +c", "!c +c"),
    ] {
        let stop = if strategy == "dynamic" { "-a -b -c" } else { "-c -b -a" };
        check(&format!(
            "{strategy}: a b c
               fail a -> {fail_a}
               fail b -> {fail_b}
               fail c -> {fail_c}
               stop   -> {stop}"
        ))
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_says_after_which_ends_a_child_comes_back() {
    // To be cut off is a failure too.
    for (policy, fail, abort, finish) in
        [("always", "!b +b", "+b", "-b +b"), ("on_failure", "!b +b", "+b", "-b"), ("never", "!b", "", "-b")]
    {
        let b = if policy == "on_failure" { "b".to_owned() } else { format!("b:{policy}") };
        for strategy in ["one_for_one", "dynamic"] {
            for (end, expected) in [("fail", fail), ("abort", abort), ("finish", finish)] {
                check(&format!("{strategy}: a {b} c\n {end} b -> {expected}")).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_touches_no_sibling() {
    for strategy in ["one_for_all", "rest_for_one"] {
        check(&format!(
            "{strategy}: a b c\n finish b -> -b\n fail c -> !c {}",
            match strategy {
                "one_for_all" => "-a +a +c",
                _ => "+c",
            }
        ))
        .await;
        check(&format!("{strategy}: a b:never c\n fail b -> !b")).await;
    }
    // OTP's temporary child: stopped with its siblings, and not started again with them.
    check("one_for_all: a b:never c\n fail a -> !a -c -b +a +c").await;
    check("rest_for_one: a b:always c:never\n finish b -> -b -c +b").await;
}

#[tokio::test(start_paused = true)]
async fn as_many_restarts_as_the_intensity_allows_are_made_and_the_next_one_is_too_many() {
    // One more than the last time may come back: the first restart is no longer within the window.
    check(
        "one_for_one 3/5s: a b
           fail a, fail b, fail a -> !a +a !b +b !a +a
           wait 4s                ->
           fail b                 -> !b -a gave_up",
    )
    .await;
    check(
        "one_for_one 3/5s: a b
           fail a, fail b, fail a -> !a +a !b +b !a +a
           wait 5s                ->
           fail b, fail b, fail b -> !b +b !b +b !b +b
           fail a                 -> !a -b gave_up",
    )
    .await;
    // It slides: the restarts of the last 5 s count, and no others.
    check(
        "one_for_one 2/5s: a
           fail a, wait 3s, fail a -> !a +a !a +a
           wait 3s, fail a         -> !a +a
           fail a                  -> !a gave_up",
    )
    .await;
    check("one_for_one 0/5s: a b\n finish a ->  -a\n fail b -> !b gave_up").await;
}

#[tokio::test(start_paused = true)]
async fn the_restart_of_a_group_counts_once() {
    check(
        "one_for_all 2/5s: a b c
           fail a -> !a -c -b +a +b +c
           fail c -> !c -b -a +a +b +c
           fail b -> !b -c -a gave_up",
    )
    .await;
    check(
        "rest_for_one 1/5s: a b c
           fail b -> !b -c +b +c
           fail c -> !c -b -a gave_up",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_in_a_restart_is_a_failure_and_tried_again() {
    check("one_for_one 3/5s: a b\n refuse b 2, fail b -> !b ?b ?b +b\n fail b -> !b -a gave_up").await;
    check("one_for_one 3/5s: a b\n refuse b 3, fail b -> !b ?b ?b ?b -a gave_up").await;
    check("one_for_all: a b c\n refuse b, fail c -> !c -b -a +a ?b -a +a +b +c").await;
    check("rest_for_one: a b c d\n refuse c, fail b -> !b -d -c +b ?c +c +d").await;
}

#[tokio::test(start_paused = true)]
async fn who_was_removed_is_not_started_again() {
    check(
        "one_for_all: a b c
           remove b -> -b
           fail a   -> !a -c +a +c",
    )
    .await;
    check("rest_for_one: a b\n remove a -> -a\n fail b -> !b +b\n remove b -> -b").await;
}

#[tokio::test(start_paused = true)]
async fn the_first_restart_is_at_once_and_later_ones_wait_until_a_healthy_life() {
    // A pause of 100 ms lasts between 50 and 100 ms, one of 200 ms between 100 and 200 ms.
    check(
        "one_for_one paused: a
           fail a, wait 1ms -> !a +a
           fail a, wait 40ms -> !a
           wait 60ms        -> +a
           fail a, wait 90ms -> !a
           wait 110ms       -> +a
           wait 30s         ->
           fail a, wait 1ms -> !a +a
           fail a, wait 40ms -> !a
           wait 60ms        -> +a",
    )
    .await;
    // Just not healthy.
    check(
        "one_for_one paused: a
           fail a, wait 29s -> !a +a
           fail a, wait 40ms -> !a
           wait 60ms        -> +a",
    )
    .await;
    // The group is down while it waits.
    check(
        "one_for_all paused: a b
           fail a -> !a -b +a +b
           fail a, wait 40ms -> !a -b
           wait 60ms -> +a +b",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn children_start_in_order_each_when_the_one_before_is_up() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let gate = stage.hold_starts("b");
    let children = ["a", "b", "c"].map(|name| stage.service(&node, name).into());
    let start = tokio::spawn({
        let node = node.clone();
        async move { supervise(&node, Strategy::OneForOne, children.into()).await }
    });
    gate.reached(1).await;
    settle().await;
    assert_eq!(stage.line(), "+a");
    gate.open();
    let tree = start.await.unwrap();
    assert_eq!(stage.line(), "+b +c");
    let states: Vec<_> = tree.children().await.into_iter().map(|child| (child.name, child.state)).collect();
    assert_eq!(states, ["a", "b", "c"].map(|name| (name.to_owned(), skyhold::ChildState::Up)));
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_fails_stops_those_before_it_in_reverse_and_is_the_error() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let node = Node::builder("a").start().await.unwrap();
        let before = usage(&node);
        let stage = Stage::default();
        stage.refuse("c", 1);
        let tree = ["a", "b", "c", "d"]
            .into_iter()
            .fold(Supervisor::new("tree", strategy), |tree, name| tree.child(stage.service(&node, name)));
        let error = tree.start(&node).await.unwrap_err();
        assert_eq!(error.to_string(), "`c` refused to start");
        assert_eq!(stage.line(), "+a +b ?c -b -a");
        assert_nothing_left(&node, before, &["a", "b", "c", "d"]).await;
    }
}
