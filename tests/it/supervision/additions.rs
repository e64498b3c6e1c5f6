//! Children that come and go while their supervisor runs.

use super::*;

use std::future::IntoFuture;

use skyhold::{Intensity, StartError};

use crate::gate::Watch;

pub(super) async fn dynamic(node: &Node) -> SupervisorHandle {
    supervise(node, Strategy::Dynamic, Vec::new()).await
}

#[tokio::test(start_paused = true)]
async fn children_are_added_restarted_and_removed_each_on_its_own() {
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let tree = dynamic(&node).await;
    let a = tree.spawn(eager(Restart::on_failure()), stage.actors("a")).await.unwrap();
    let b = tree.start(stage.service(&node, "b").instances(2)).await.unwrap();
    assert_eq!(stage.line(), "+a +b +b");
    a.fail().await.unwrap_err();
    assert_eq!(a.life().await.unwrap(), 2);
    let restarts: Vec<_> = tree.children().await.into_iter().map(|c| (c.name, c.restarts)).collect();
    let name = |name: &str| name.to_owned();
    assert_eq!(restarts, [(name("actor"), 1), (name("b"), 0), (name("b"), 0)]);
    node.stop(&b).await.unwrap();
    node.stop(&a).await.unwrap();
    settle().await;
    assert!(tree.children().await.is_empty());
    assert!(!node.stop_service("b").await, "the name is free");
    tree.start(stage.service(&node, "b")).await.unwrap();
    tree.stop().await;
    assert_nothing_left(&node, before, &["b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_refuses_to_start_is_the_error_and_its_siblings_do_not_notice() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let never = Intensity::new(0, Duration::from_secs(5));
    let tree = Supervisor::new("tree", Strategy::Dynamic).intensity(never).start(&node).await.unwrap();
    let a = tree.spawn(Restart::always(), stage.actors("a")).await.unwrap();
    let before = usage(&node);
    stage.refuse("b", 2);
    let error = tree.start(stage.service(&node, "b")).await.unwrap_err();
    assert_eq!(error.to_string(), "`b` refused to start");
    let error = tree.spawn(Restart::always(), stage.actors("b")).await.unwrap_err();
    assert_eq!(error.to_string(), "`actor` refused to start");
    assert_eq!(stage.line(), "+a ?b ?b");
    assert_nothing_left(&node, before, &["b"]).await;
    assert_eq!(a.life().await.unwrap(), 1);
    tree.start(stage.service(&node, "b")).await.unwrap();
    assert!(matches!(
        tree.start(stage.service(&node, "b")).await,
        Err(StartError::NameTaken(name)) if name == "b"
    ));
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_added_together_come_together_or_not_at_all() {
    for strategy in [Strategy::Dynamic, Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let node = Node::builder("a").start().await.unwrap();
        let stage = Stage::default();
        let tree = supervise(&node, strategy, vec![stage.service(&node, "first").into()]).await;
        let before = usage(&node);
        stage.line();
        let mut made = 0;
        let (refuses, mut actors) = (stage.clone(), stage.actors("a"));
        let factory = move || {
            made += 1;
            if made == 3 {
                refuses.refuse("a", 1);
            }
            actors()
        };
        let service = node.service("a", factory).instances(3);
        assert!(matches!(tree.start(service).await, Err(StartError::Refused { .. })), "{strategy:?}");
        let line = stage.line();
        assert!(line.ends_with("-a -a") && !line.contains("first"), "{strategy:?}: {line}");
        assert_nothing_left(&node, before, &["a"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_first_start_its_group_interrupts_is_known_when_it_is_up() {
    let node = Node::builder("a").start().await.unwrap();
    let stage = Stage::default();
    let mut events = node.events();
    let tree = supervise(&node, Strategy::OneForAll, vec![stage.service(&node, "a").into()]).await;
    let starts = stage.hold_starts("b");
    let added = tokio::spawn({
        let (tree, service) = (tree.clone(), stage.service(&node, "b"));
        async move { tree.start(service).await }
    });
    starts.reached(1).await;
    ActorHandle::try_lookup(&node, "a").unwrap().fail().await.unwrap_err();
    settle().await;
    starts.open();
    let b = added.await.unwrap().unwrap();
    assert_eq!(stage.line(), "+a !a +b -b +a +b");
    b.life().await.unwrap();
    ActorHandle::try_lookup(&node, "b").unwrap();
    let restarted: Vec<_> = published(&mut events)
        .into_iter()
        .filter_map(|event| match event {
            Event::Restarted { child, .. } => Some(child),
            _ => None,
        })
        .collect();
    assert_eq!(restarted, ["a"], "b is up for the first time");
}

/// Its first instance ends as soon as it is up.
struct Hasty {
    stops: bool,
}

#[service]
impl Hasty {
    #[on_start]
    fn begin(&mut self, context: &Context) {
        if self.stops {
            context.stop();
        }
    }

    pub fn answer(&self) -> u32 {
        42
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_known_although_one_of_its_instances_ended_before_the_last_was_up() {
    let node = Node::builder("a").start().await.unwrap();
    let tree = dynamic(&node).await;
    let mut made = 0;
    let factory = move || {
        made += 1;
        Hasty { stops: made == 1 }
    };
    let hasty = tree.start(node.service("hasty", factory).instances(3)).await.unwrap();
    settle().await;
    assert_eq!(tree.children().await.len(), 2);
    assert_eq!(hasty.answer().await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_dynamic_children_stop_at_once_and_leave_nothing() {
    const CHILDREN: usize = 10_000;
    let node = Node::builder("a").start().await.unwrap();
    let (before, stage) = (usage(&node), Stage::default());
    let tree = dynamic(&node).await;
    let mut handles = Vec::new();
    for _ in 0..CHILDREN {
        handles.push(tree.spawn(Restart::always(), stage.actors("a")).await.unwrap());
    }
    assert_eq!(tree.children().await.len(), CHILDREN);
    for handle in handles.iter().take(CHILDREN / 2) {
        node.stop(handle).await.unwrap();
    }
    settle().await;
    assert_eq!(tree.children().await.len(), CHILDREN / 2);
    // Each of them takes a second; together they take one too.
    for handle in handles.iter().skip(CHILDREN / 2) {
        handle.hold().try_send().unwrap();
    }
    stage.gate.reached(CHILDREN / 2).await;
    let watch = Watch::start();
    tree.stop().await;
    watch.assert_ended_at(Duration::from_secs(5));
    assert_nothing_left(&node, before, &[]).await;
    assert!(matches!(handles[0].life().await, Err(CallError::Stopped(_))));
}

/// Keeps the supervisor under which it starts others.
struct Keeper(SupervisorHandle);

#[service(local)]
impl Keeper {
    pub async fn start_one(&self, stage: Stage) -> Result<ActorHandle, StartError> {
        self.0.spawn(Restart::never(), stage.actors("a")).await
    }

    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_keeps_a_supervisor_does_not_keep_its_node_alive() {
    let node = Node::builder("a").start().await.unwrap();
    let tree = dynamic(&node).await;
    let keeper = node.spawn(Keeper(tree));
    let (stage, gate) = (Stage::default(), Gate::new());
    let actor = keeper.start_one(stage).await.unwrap().unwrap();
    assert_eq!(actor.life().await.unwrap(), 1);
    let held = tokio::spawn(keeper.hold(gate.clone()).into_future());
    gate.reached(1).await;
    let watch = Watch::start();
    drop(node);
    assert!(matches!(held.await.unwrap(), Err(CallError::NoReply(_))));
    assert!(matches!(actor.life().await, Err(CallError::Stopped(_))));
    watch.assert_at_once();
}
