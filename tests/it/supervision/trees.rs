//! Supervisors under supervisors: escalation, and the order of starts and stops.

use super::*;

use skyhold::Intensity;

/// `outer` over `inner` with `x` and `y`, and over `z`. The inner one gives up at the second restart.
fn tree(node: &Node, stage: &Stage, outer: Strategy, inner: Strategy, intensity: Intensity) -> Supervisor {
    let inner = Supervisor::new("inner", inner)
        .intensity(Intensity::new(1, Duration::from_secs(5)))
        .restart(eager(Restart::always()))
        .child(stage.service(node, "x"))
        .child(stage.service(node, "y"));
    Supervisor::new("outer", outer).intensity(intensity).child(inner).child(stage.service(node, "z"))
}

fn actor(node: &Node, name: &str) -> ActorHandle {
    ActorHandle::try_lookup(node, name).unwrap()
}

/// Fails the actor, and waits until what follows has happened.
async fn fail(actor: &ActorHandle) {
    actor.fail().await.unwrap_err();
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_tree_starts_in_order_and_stops_in_reverse() {
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let tree = tree(&node, &stage, Strategy::OneForOne, Strategy::OneForOne, Intensity::default());
    let tree = tree.start(&node).await.unwrap();
    assert_eq!(stage.line(), "+x +y +z");
    let children: Vec<_> =
        tree.children().await.into_iter().map(|child| (child.name, child.instance.is_some())).collect();
    assert_eq!(children, [("inner".to_owned(), false), ("z".to_owned(), true)]);
    tree.stop().await;
    assert_eq!(stage.line(), "-z -y -x");
    assert_nothing_left(&node, before, &["x", "y", "z"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_gives_up_is_restarted_by_its_own_and_its_children_keep_their_addresses() {
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let mut events = node.events();
    let tree = tree(&node, &stage, Strategy::OneForOne, Strategy::OneForOne, Intensity::default());
    let tree = tree.start(&node).await.unwrap();
    let x = actor(&node, "x");
    fail(&x).await;
    stage.line();
    published(&mut events);

    fail(&x).await;
    assert_eq!(stage.line(), "!x -y +x +y", "z is not touched");
    let told: Vec<_> = published(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::GaveUp { supervisor, child, reason } => {
                Some(format!("{supervisor} gave up {child}: {reason}"))
            }
            Event::Restarted { supervisor, child, instance } => Some(format!(
                "{supervisor} restarted {child}, {}",
                if instance.is_some() { "an instance" } else { "a tree" }
            )),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            "inner gave up x: panicked: boom",
            "inner restarted x, an instance",
            "inner restarted y, an instance",
            "outer restarted inner, a tree"
        ]
    );
    // The window of the new life is empty.
    fail(&x).await;
    assert_eq!(stage.line(), "!x +x");
    assert_eq!(x.life().await.unwrap(), 4);
    assert_eq!(actor(&node, "y").life().await.unwrap(), 2);
    tree.stop().await;
    assert_nothing_left(&node, before, &["x", "y", "z"]).await;
}

#[tokio::test(start_paused = true)]
async fn handles_of_before_reach_the_grandchildren_after_an_escalation() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let tree = tree(&node, &stage, Strategy::OneForOne, Strategy::OneForOne, Intensity::default());
    let _tree = tree.start(&node).await.unwrap();
    let addresses = async || {
        let mut addresses = Vec::new();
        for name in ["x", "y", "z"] {
            addresses.push(actor(&node, name).place().await.unwrap());
        }
        addresses
    };
    let before = addresses().await;
    for _ in 0..2 {
        fail(&actor(&node, "x")).await;
    }
    assert_eq!(addresses().await, before);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_at_the_top_ends_everything_in_reverse_and_frees_the_names() {
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let never = Intensity::new(0, Duration::from_secs(5));
    let tree =
        tree(&node, &stage, Strategy::OneForOne, Strategy::RestForOne, never).start(&node).await.unwrap();
    let x = actor(&node, "x");
    fail(&x).await;
    assert_eq!(stage.line(), "+x +y +z !x -y +x +y");
    let behind = x.note("behind".to_owned());
    fail(&x).await;
    assert_eq!(stage.line(), "!x -y -z");
    tree.ended().await;
    assert!(matches!(behind.await, Err(CallError::Stopped(_) | CallError::NoRoute(_))));
    assert!(matches!(
        tree.start(stage.service(&node, "w")).await.unwrap_err(),
        skyhold::StartError::SupervisorEnded(name) if name == "outer"
    ));
    assert!(tree.children().await.is_empty());
    assert_nothing_left(&node, before, &["w", "x", "y", "z"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_is_stopped_and_started_with_its_group_like_any_child() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let tree = tree(&node, &stage, Strategy::OneForAll, Strategy::OneForOne, Intensity::default());
    let tree = tree.start(&node).await.unwrap();
    stage.line();
    fail(&actor(&node, "z")).await;
    assert_eq!(stage.line(), "!z -y -x +x +y +z");
    // And in the middle of a restart of its own.
    let gate = stage.hold_starts("x");
    actor(&node, "x").fail().await.unwrap_err();
    gate.reached(1).await;
    fail(&actor(&node, "z")).await;
    assert_eq!(stage.line(), "!x !z -y");
    gate.open();
    settle().await;
    assert_eq!(stage.line(), "+x -x +x +y +z");
    tree.stop().await;
    assert_eq!(stage.line(), "-z -y -x");
}

#[tokio::test(start_paused = true)]
async fn children_of_a_stopped_tree_have_each_the_time_that_they_are_given() {
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let mut events = node.events();
    let limited = |name, secs| stage.service(&node, name).stop_within(Duration::from_secs(secs));
    let inner = Supervisor::new("inner", Strategy::OneForOne).child(limited("x", 3)).child(limited("y", 2));
    let tree = Supervisor::new("outer", Strategy::OneForOne).child(inner).child(limited("z", 1));
    let tree = tree.start(&node).await.unwrap();
    for name in ["x", "y", "z"] {
        actor(&node, name).hold().try_send().unwrap();
    }
    stage.gate.reached(3).await;
    let watch = crate::gate::Watch::start();
    tree.stop().await;
    watch.assert_ended_at(Duration::from_secs(6));
    let ends: Vec<_> = published(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::InstanceEnded { service, reason, .. } => Some((service, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, ["z", "y", "x"].map(|name| (name.to_owned(), StopReason::Killed)));
    assert_nothing_left(&node, before, &["x", "y", "z"]).await;
}
