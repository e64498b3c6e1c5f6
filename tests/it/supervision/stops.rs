//! Ends from outside: to stop and to drain is for good, to abort is not, in whatever state it finds a service.

use std::future::{Future, IntoFuture};
use std::pin::pin;

use futures_util::poll;
use skyhold::testing::Cluster;

use super::*;

use crate::gate::Watch;

/// How long the actors may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What the order finds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    /// A handler runs that never ends.
    Holding,
    /// A restart is in a hook that never ends.
    Starting,
    /// A restart waits for its time.
    Pausing,
}

const STATES: [State; 4] = [State::Idle, State::Holding, State::Starting, State::Pausing];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Stop,
    StopService,
    Drain,
    DrainService,
    StopTree,
    DrainTree,
    Shutdown,
}

/// A node with a tree of two services, of which the first is in some state.
struct Scene {
    node: Node,
    before: Usage,
    stage: Stage,
    tree: SupervisorHandle,
    actor: ActorHandle,
}

impl Scene {
    async fn new(state: State) -> Self {
        let node = Node::builder("a").start().await.unwrap();
        let (before, stage) = (usage(&node), Stage::default());
        let slowly = Restart::always().backoff(Duration::from_secs(10), Duration::from_secs(10));
        let service = |name| stage.service(&node, name).restart(slowly.clone()).stop_within(STOP_WITHIN);
        let children = vec![service("a").into(), service("b").into()];
        let tree = supervise(&node, Strategy::OneForOne, children).await;
        let actor = ActorHandle::try_lookup(&node, "a").unwrap();
        match state {
            State::Idle => {}
            State::Holding => {
                actor.hold().try_send().unwrap();
                stage.gate.reached(1).await;
            }
            State::Starting => {
                let starts = stage.hold_starts("a");
                actor.fail().await.unwrap_err();
                starts.reached(1).await;
            }
            State::Pausing => {
                for _ in 0..2 {
                    actor.fail().await.unwrap_err();
                    settle().await;
                }
            }
        }
        let expected = match state {
            State::Idle | State::Holding => skyhold::ChildState::Up,
            State::Starting => skyhold::ChildState::Starting,
            State::Pausing => skyhold::ChildState::Down,
        };
        assert_eq!(tree.children().await[0].state, expected, "{state:?}");
        stage.line();
        Self { node, before, stage, tree, actor }
    }
}

async fn go(scene: &Scene, way: Way) {
    match way {
        Way::Stop => scene.node.stop(&scene.actor).await.unwrap(),
        Way::StopService => assert!(scene.node.stop_service("a").await),
        Way::Drain => scene.node.drain(&scene.actor).await.unwrap(),
        Way::DrainService => assert!(scene.node.drain_service("a").await),
        Way::StopTree => scene.tree.stop().await,
        Way::DrainTree => scene.tree.drain().await,
        Way::Shutdown => scene.node.shutdown().await.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_in_any_state_and_any_way_ends_within_its_time_and_for_good() {
    use Way::{Drain, DrainService, DrainTree, Shutdown, Stop, StopService, StopTree};
    for state in STATES {
        for way in [Stop, StopService, Drain, DrainService, StopTree, DrainTree, Shutdown] {
            let scene = Scene::new(state).await;
            let waits = (state != State::Idle).then(|| tokio::spawn(scene.actor.life().into_future()));
            settle().await;
            let watch = Watch::start();
            go(&scene, way).await;
            if matches!(state, State::Holding | State::Starting) {
                watch.assert_ended_at(STOP_WITHIN); // it was cut off, and no sooner
            } else {
                watch.assert_at_once();
            }
            if let Some(waits) = waits {
                let error = waits.await.unwrap().unwrap_err();
                assert!(!error.may_have_run(), "{state:?} {way:?}: {error:?}");
            }
            watch.elapsed();
            wait(Duration::from_secs(60)).await;
            assert!(!scene.stage.line().contains("+a"), "{state:?} {way:?}: it came back");
            assert!(scene.actor.life().await.is_err());
            if matches!(way, Stop | StopService | Drain | DrainService) {
                let left: Vec<_> = scene.tree.children().await.into_iter().map(|child| child.name).collect();
                assert_eq!(left, ["b"], "{state:?} {way:?}");
                // The name is free.
                scene.stage.starts.lock().unwrap().clear();
                scene.stage.service(&scene.node, "a").start().await.unwrap();
                scene.node.stop_service("a").await;
                scene.tree.stop().await;
            }
            if way != Shutdown {
                assert_nothing_left(&scene.node, scene.before, &["a", "b"]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stopped_by_a_handle_of_its_own_ends_for_good_in_any_state() {
    for state in STATES {
        for drains in [false, true] {
            let scene = Scene::new(State::Idle).await;
            let slowly = Restart::always().backoff(Duration::from_secs(10), Duration::from_secs(10));
            let child = scene.tree.spawn(slowly, scene.stage.actors("child")).await.unwrap();
            let starts = Gate::new();
            match state {
                State::Idle => {}
                State::Holding => child.hold().try_send().unwrap(),
                State::Starting => {
                    scene.stage.starts.lock().unwrap().insert("child".to_owned(), starts.clone());
                    child.fail().await.unwrap_err();
                    starts.reached(1).await;
                }
                State::Pausing => {
                    for _ in 0..2 {
                        child.fail().await.unwrap_err();
                        settle().await;
                    }
                }
            }
            settle().await;
            scene.stage.line();
            let end = async || match drains {
                true => scene.node.drain(&child).await.unwrap(),
                false => scene.node.stop(&child).await.unwrap(),
            };
            let mut end = pin!(end());
            assert!(poll!(&mut end).is_pending());
            settle().await;
            // A handler, or a hook, has its time: nobody said how long.
            scene.stage.gate.open();
            starts.open();
            let watch = Watch::start();
            end.await;
            watch.assert_at_once();
            assert_eq!(scene.tree.children().await.len(), 2, "{state:?}: the supervisor knows at once");
            wait(Duration::from_secs(60)).await;
            let line = scene.stage.line();
            assert_eq!(line.matches("+child").count(), usize::from(state == State::Starting), "{line}");
            scene.tree.stop().await;
            assert_nothing_left(&scene.node, scene.before, &["a", "b"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_in_any_state_is_a_failure_of_the_life_that_goes_on_if_one_does() {
    for (state, follows) in [
        (State::Idle, "+a"),
        (State::Holding, "+a"),
        // The life that was starting, and then one after a pause.
        (State::Starting, "+a"),
        // There is nothing to cut off: the next life comes when its pause is over.
        (State::Pausing, "+a"),
    ] {
        let scene = Scene::new(state).await;
        let mut events = scene.node.events();
        scene.stage.starts.lock().unwrap().clear();
        scene.node.abort(&scene.actor).unwrap();
        wait(Duration::from_secs(11)).await;
        assert_eq!(scene.stage.line(), follows, "{state:?}");
        let killed = published(&mut events)
            .into_iter()
            .filter(|event| matches!(event, Event::InstanceEnded { reason: StopReason::Killed, .. }))
            .count();
        assert_eq!(killed, usize::from(state != State::Pausing), "{state:?}");
        scene.actor.life().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_answers_the_handler_that_ran_and_keeps_what_was_queued() {
    let scene = Scene::new(State::Idle).await;
    let runs = tokio::spawn(scene.actor.hold().into_future());
    scene.stage.gate.reached(1).await;
    let queued = tokio::spawn(scene.actor.note("queued".to_owned()).into_future());
    settle().await;
    scene.node.abort(&scene.actor).unwrap();
    assert!(matches!(runs.await.unwrap(), Err(CallError::NoReply(_))));
    assert_eq!(queued.await.unwrap().unwrap(), 2);
    assert_eq!(scene.stage.line(), "+a queued");
}

#[tokio::test(start_paused = true)]
async fn an_abort_of_what_is_being_stopped_hurries_it_and_does_not_bring_it_back() {
    for drains in [false, true] {
        let scene = Scene::new(State::Idle).await;
        let child = scene.tree.spawn(eager(Restart::always()), scene.stage.actors("child")).await.unwrap();
        child.hold().try_send().unwrap();
        scene.stage.gate.reached(1).await;
        let end = async || match drains {
            true => scene.node.drain(&child).await.unwrap(),
            false => scene.node.stop(&child).await.unwrap(),
        };
        let mut end = pin!(end());
        assert!(poll!(&mut end).is_pending());
        wait(Duration::from_secs(100)).await;
        assert!(poll!(&mut end).is_pending(), "the fault is in force: its handler never ends");
        scene.node.abort(&child).unwrap();
        let watch = Watch::start();
        end.await;
        watch.assert_at_once();
        wait(Duration::from_secs(60)).await;
        assert_eq!(scene.stage.line(), "+child");
        assert!(matches!(child.life().await, Err(CallError::Stopped(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_itself_while_it_drains_is_not_brought_back() {
    let scene = Scene::new(State::Idle).await;
    let child = scene.tree.spawn(eager(Restart::always()), scene.stage.actors("child")).await.unwrap();
    let runs = tokio::spawn(child.hold().into_future());
    scene.stage.gate.reached(1).await;
    let ends = tokio::spawn(child.finish().into_future());
    settle().await;
    let mut drain = pin!(scene.node.drain(&child));
    assert!(poll!(&mut drain).is_pending());
    scene.stage.gate.open();
    let watch = Watch::start();
    drain.await.unwrap();
    watch.assert_at_once();
    runs.await.unwrap().unwrap();
    ends.await.unwrap().unwrap();
    wait(Duration::from_secs(60)).await;
    assert_eq!(scene.stage.line(), "+child -child");
}

#[tokio::test(start_paused = true)]
async fn a_drain_runs_what_is_queued_and_a_stop_answers_it() {
    for (drains, expected) in [(true, "1 2 -a"), (false, "-a")] {
        let scene = Scene::new(State::Idle).await;
        let runs = tokio::spawn(scene.actor.hold().into_future());
        scene.stage.gate.reached(1).await;
        let queued = ["1", "2"].map(|text| tokio::spawn(scene.actor.note(text.to_owned()).into_future()));
        settle().await;
        scene.stage.line();
        let end = async || match drains {
            true => scene.node.drain_service("a").await,
            false => scene.node.stop_service("a").await,
        };
        let mut end = pin!(end());
        assert!(poll!(&mut end).is_pending());
        settle().await;
        scene.stage.gate.open();
        assert!(end.await);
        assert_eq!(runs.await.unwrap().unwrap(), 1);
        for call in queued {
            assert_eq!(call.await.unwrap().is_ok(), drains);
        }
        assert_eq!(scene.stage.line(), expected);
    }
}

/// Polls a future so many times, lets everybody else run in between, and drops it. Gives whether it ended.
async fn dropped_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll!(&mut future).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_at_any_point_leaves_nothing() {
    for way in ["service", "tree", "added service", "added instance"] {
        for polls in 0.. {
            let node = Node::builder("a").start().await.unwrap();
            let stage = Stage::default();
            let dynamic = supervise(&node, Strategy::Dynamic, Vec::new()).await;
            let before = usage(&node);
            let service = stage.service(&node, "a").instances(3);
            let has_ended = match way {
                "service" => dropped_after(polls, service.start()).await,
                "tree" => {
                    let tree = Supervisor::new("tree", Strategy::OneForAll).child(service);
                    dropped_after(polls, tree.child(stage.service(&node, "b")).start(&node)).await
                }
                "added service" => dropped_after(polls, dynamic.start(service)).await,
                _ => dropped_after(polls, dynamic.spawn(Restart::always(), stage.actors("a"))).await,
            };
            if has_ended {
                assert!(polls > 1, "{way} was never dropped half-way");
                break;
            }
            assert_nothing_left(&node, before, &["a", "b"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_while_a_hook_hangs_leaves_nothing() {
    for way in ["service", "tree", "added service", "added instance"] {
        let node = Node::builder("a").start().await.unwrap();
        let stage = Stage::default();
        let starts = stage.hold_starts("a");
        let dynamic = supervise(&node, Strategy::Dynamic, Vec::new()).await;
        let before = usage(&node);
        let service = stage.service(&node, "a");
        let polls = 20;
        let has_ended = match way {
            "service" => dropped_after(polls, service.start()).await,
            "tree" => {
                let tree = Supervisor::new("tree", Strategy::OneForAll).child(service);
                dropped_after(polls, tree.start(&node)).await
            }
            "added service" => dropped_after(polls, dynamic.start(service)).await,
            _ => dropped_after(polls, dynamic.spawn(Restart::always(), stage.actors("a"))).await,
        };
        assert!(!has_ended);
        assert_eq!(starts.arrived(), 1, "{way}: the hook hangs");
        wait(Duration::from_secs(5)).await;
        assert_nothing_left(&node, before, &["a"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_stopped_before_it_is_up_leaves_nothing() {
    for shuts_down in [false, true] {
        let node = Node::builder("a").start().await.unwrap();
        let (before, stage) = (usage(&node), Stage::default());
        let starts = stage.hold_starts("a");
        let start = tokio::spawn(stage.service(&node, "a").stop_within(STOP_WITHIN).start());
        starts.reached(1).await;
        let watch = Watch::start();
        if shuts_down {
            node.shutdown().await.unwrap();
            watch.assert_ended_at(STOP_WITHIN);
            assert!(matches!(start.await.unwrap(), Err(skyhold::StartError::NodeStopped(_))));
        } else {
            assert!(node.stop_service("a").await);
            watch.assert_ended_at(STOP_WITHIN);
            assert!(start.is_finished());
            assert_nothing_left(&node, before, &["a"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervised_name_is_taken_back_in_the_cluster_when_it_is_stopped_in_a_pause() {
    let cluster = Cluster::start(2).await;
    let stage = Stage::default();
    let slowly = Restart::always().backoff(Duration::from_secs(10), Duration::from_secs(10));
    stage.service(&cluster[0], "a").restart(slowly).start().await.unwrap();
    let remote = ActorHandle::lookup(&cluster[1], "a").await.unwrap();
    for _ in 0..2 {
        remote.fail().await.unwrap_err();
        settle().await;
    }
    let waits = tokio::spawn(remote.life().into_future());
    settle().await;
    let watch = Watch::start();
    cluster[0].shutdown().await.unwrap();
    assert!(!waits.await.unwrap().unwrap_err().may_have_run());
    watch.assert_at_once();
    assert!(ActorHandle::try_lookup(&cluster[1], "a").is_err());
}
