//! A restart keeps the address and the names: who has a handle notices no more of it than that it takes a while.

use std::future::IntoFuture;

use super::*;

use skyhold::testing::Cluster;
use skyhold::{DeadLetterReason, Intensity};

use crate::gate::Watch;

/// Two nodes; the first one runs an actor which comes back at once after the first failure, and after a second or two
/// after the next one.
struct Scene {
    cluster: Cluster,
    stage: Stage,
    _tree: SupervisorHandle,
    /// One that leads straight to the instance, one by its name, and one from another node.
    handles: Vec<(&'static str, ActorHandle)>,
}

const PAUSE: Duration = Duration::from_secs(2);

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start(2).await;
        let stage = Stage::default();
        let tree = Supervisor::new("tree", Strategy::OneForOne).intensity(Intensity::unlimited());
        let slowly = Restart::on_failure().backoff(PAUSE, PAUSE);
        let tree =
            tree.child(stage.service(&cluster[0], "a").restart(slowly)).start(&cluster[0]).await.unwrap();
        let remote = ActorHandle::lookup(&cluster[1], "a").await.unwrap();
        let routed = ActorHandle::lookup(&cluster[0], "a").await.unwrap();
        let handles = vec![("by name", routed), ("remote", remote)];
        Self { cluster, stage, _tree: tree, handles }
    }

    /// Brings the actor into a pause between its second life and its third.
    async fn pause(&self) {
        for _ in 0..2 {
            self.handles[0].1.fail().await.unwrap_err();
            settle().await;
        }
        assert_eq!(self.stage.line(), "+a !a +a !a", "it is down");
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_handle_goes_on_working_after_a_restart() {
    let scene = Scene::new().await;
    for (life, (kind, handle)) in (1..).zip(&scene.handles) {
        assert_eq!(handle.life().await.unwrap(), life, "{kind}");
        assert!(matches!(handle.fail().await.unwrap_err(), CallError::Panicked(_)));
        assert_eq!(handle.life().await.unwrap(), life + 1, "{kind}");
    }
    let tree = supervise(&scene.cluster[0], Strategy::Dynamic, Vec::new()).await;
    let direct = tree.spawn(Restart::on_failure(), scene.stage.actors("direct")).await.unwrap();
    let address = direct.place().await.unwrap();
    direct.fail().await.unwrap_err();
    assert_eq!(direct.life().await.unwrap(), 2);
    assert_eq!(direct.place().await.unwrap(), address);
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_the_next_life_within_their_deadlines() {
    for kind in [0, 1] {
        let scene = Scene::new().await;
        let (kind, handle) = &scene.handles[kind];
        scene.pause().await;
        let waits = tokio::spawn(handle.life().into_future());
        let watch = Watch::start();
        let hasty = handle.note("too late".to_owned()).timeout(Duration::from_millis(500)).await.unwrap_err();
        watch.assert_ended_at(Duration::from_millis(500));
        assert!(matches!(hasty, CallError::Timeout(_) | CallError::Expired(_)), "{kind}: {hasty:?}");
        assert!(!waits.is_finished(), "{kind}: it is down still");
        assert_eq!(waits.await.unwrap().unwrap(), 3, "{kind}");
        assert!(watch.elapsed() <= PAUSE);
        settle().await;
        assert_eq!(scene.stage.line(), "+a", "{kind}: what was late is never run");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_of_who_is_down_is_overloaded_and_what_it_took_is_run() {
    let scene = Scene::new().await;
    scene.pause().await;
    let (here, there) = (&scene.handles[0].1, &scene.handles[1].1);
    for text in ["1", "2", "3", "4"] {
        here.note(text.to_owned()).try_send().unwrap();
    }
    assert!(matches!(here.note("5".to_owned()).try_send(), Err(CallError::Overloaded(_))));
    let hasty = there.note("6".to_owned()).timeout(Duration::from_millis(50)).await;
    assert!(matches!(hasty, Err(CallError::Timeout(_))), "it waits in front of the mailbox: {hasty:?}");
    let hasty = here.note("7".to_owned()).timeout(Duration::from_millis(500)).await;
    assert!(matches!(hasty, Err(CallError::Overloaded(_))), "{hasty:?}");
    // Who has the time waits for room, and for the reply.
    assert_eq!(here.note("8".to_owned()).await.unwrap(), 3);
    assert_eq!(scene.stage.line(), "+a 1 2 3 4 8");
}

#[tokio::test(start_paused = true)]
async fn the_message_that_panicked_is_not_run_again_and_those_behind_it_are_in_their_order() {
    for kind in [0, 1] {
        let scene = Scene::new().await;
        let (kind, handle) = &scene.handles[kind];
        let fails = tokio::spawn(handle.hold_and_fail().into_future());
        scene.stage.gate.reached(1).await;
        let calls = ["1", "2", "3"].map(|text| {
            let call = handle.note(text.to_owned());
            tokio::spawn(call.into_future())
        });
        settle().await;
        scene.stage.gate.open();
        assert!(matches!(fails.await.unwrap(), Err(CallError::Panicked(_))), "{kind}");
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), 2, "{kind}");
        }
        assert_eq!(scene.stage.gate.arrived(), 1, "{kind}: it began once");
        assert_eq!(scene.stage.line(), "+a +a 1 2 3", "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_names_stay_known_while_an_instance_is_down() {
    let scene = Scene::new().await;
    scene.pause().await;
    ActorHandle::try_lookup(&scene.cluster[0], "a").unwrap();
    let later = ActorHandle::try_lookup(&scene.cluster[1], "a").unwrap();
    assert_eq!(later.life().await.unwrap(), 3);
}

/// Answers what is queued when a life ends.
struct Refusing {
    gate: Gate,
    life: u32,
}

#[service(queued = "refuse")]
impl Refusing {
    pub async fn hold_and_fail(&mut self) {
        self.gate.pass().await;
        panic!("boom");
    }

    pub fn life(&mut self) -> u32 {
        self.life
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_what_is_queued_answers_it_at_once_and_takes_what_comes_later() {
    for remote in [false, true] {
        let cluster = Cluster::start(2).await;
        let (gate, mut life) = (Gate::new(), 0);
        let gate_here = gate.clone();
        let factory = move || {
            life += 1;
            Refusing { gate: gate_here.clone(), life }
        };
        let slowly = Restart::on_failure().backoff(PAUSE, PAUSE).healthy_after(Duration::ZERO);
        cluster[0].service("refusing", factory).restart(slowly).start().await.unwrap();
        let handle = RefusingHandle::lookup(&cluster[usize::from(remote)], "refusing").await.unwrap();
        let mut events = cluster[0].events();
        let fails = tokio::spawn(handle.hold_and_fail().into_future());
        gate.reached(1).await;
        let queued = [(); 3].map(|()| tokio::spawn(handle.life().into_future()));
        handle.life().send().await.unwrap();
        settle().await;
        let watch = Watch::start();
        gate.open();
        fails.await.unwrap().unwrap_err();
        for call in queued {
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
            assert!(!error.may_have_run());
        }
        watch.assert_at_once();
        assert_eq!(handle.life().await.unwrap(), 2);
        let letters: Vec<_> = published(&mut events)
            .into_iter()
            .filter_map(|event| match event {
                Event::DeadLetter(letter) if !letter.call => Some((letter.reason, letter.count)),
                _ => None,
            })
            .collect();
        assert_eq!(letters, [(DeadLetterReason::Stopped, 1)], "the send");
    }
}
