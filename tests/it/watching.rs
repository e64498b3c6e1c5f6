//! Watching: each end is told once, with its reason, in its place among the messages; here and from another node alike.

mod links;
mod races;

use std::collections::BTreeSet;
use std::future::{Future, IntoFuture as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Restart, Watch, Watching};

use crate::gate::{Gate, Log, Watch as Clock, local_node, settle};
use crate::raw::soon;

/// Watches and is watched.
#[derive(Clone, Default)]
struct Actor {
    log: Log,
    gate: Gate,
    /// What each life links itself with.
    links: Arc<Mutex<Vec<(usize, &'static str)>>>,
    /// Whom the second life greets.
    greets: Option<&'static str>,
    lives: Arc<AtomicUsize>,
    refuses: bool,
    watching: Vec<Watching>,
}

#[service]
impl Actor {
    #[on_start]
    async fn begin(&mut self, context: &Context) -> Result<(), &'static str> {
        let life = self.lives.fetch_add(1, Ordering::SeqCst) + 1;
        if self.refuses && life > 1 {
            return Err("no second life");
        }
        if let (2, Some(name)) = (life, self.greets) {
            find(context, 0, name).await.note("greeting".into()).send().await.unwrap();
        }
        let links = self.links.lock().unwrap().clone();
        for (on, name) in links {
            context.link(&find(context, on, name).await);
        }
        Ok(())
    }

    #[on_down]
    fn down(&mut self, down: Down) {
        self.log.add(format!("{:?}", down.reason));
    }

    pub async fn watch_target(&mut self, context: &Context, on: usize) {
        self.watching.push(context.watch(&find(context, on, "target").await));
    }

    /// Holds this instance, and then gives up what it watches.
    pub async fn hold_and_unwatch(&mut self, context: &Context) {
        self.gate.pass().await;
        self.watching.drain(..).for_each(|watching| context.unwatch(watching));
    }

    /// Holds this instance, and then fails.
    pub async fn hold_and_fail(&mut self) {
        self.gate.pass().await;
        panic!("on purpose");
    }

    /// Holds this instance.
    pub async fn hold(&mut self) {
        self.gate.pass().await;
    }

    /// Calls the target and notes the answer.
    pub async fn note_answer(&mut self, context: &Context, on: usize) {
        let answer = find(context, on, "target").await.answer_and_stop().await;
        self.log.add(format!("{answer:?}"));
    }

    pub async fn link(&mut self, context: &Context, on: usize, name: String) {
        context.link(&find(context, on, &name).await);
    }

    pub async fn unlink(&mut self, context: &Context, on: usize, name: String) {
        context.unlink(&find(context, on, &name).await);
    }

    pub fn note(&mut self, text: String) {
        self.log.add(text);
    }

    /// Tells the watcher `count` things, and ends as it is told.
    pub async fn say_and_fail(&mut self, context: &Context, count: usize) {
        let watcher = find(context, 0, "watcher").await;
        for number in 0..count {
            watcher.note(number.to_string()).send().await.unwrap();
        }
        panic!("on purpose");
    }

    /// The same with one long thing.
    pub async fn say_something_long_and_fail(&mut self, context: &Context) {
        let watcher = find(context, 0, "watcher").await;
        watcher.note("x".repeat(LONG)).send().await.unwrap();
        panic!("on purpose");
    }

    pub fn answer_and_stop(&mut self, context: &Context) -> u8 {
        context.stop();
        7
    }

    pub fn stop(&mut self, context: &Context) {
        context.stop();
    }

    pub fn fail(&mut self) {
        panic!("on purpose");
    }

    pub async fn hang(&self) {
        self.gate.pass().await;
    }

    /// Answers when everything before was handled.
    pub fn is_there(&mut self) {}
}

/// What is so long is not read by the connection's driver.
const LONG: usize = 1024 * 1024;

async fn find(context: &Context, on: usize, name: &str) -> ActorHandle {
    ActorHandle::lookup_on(&context.node(), &format!("n{on}"), name).await.unwrap()
}

/// Two nodes. The watcher is on the first, the target on the first or on the second. Both come back when they failed.
struct Scene {
    cluster: Cluster,
    /// The number of the target's node.
    place: usize,
    watcher: Actor,
    watches: ActorHandle,
    target: Actor,
    /// Used on the watcher's node.
    is_watched: ActorHandle,
}

impl Scene {
    async fn new(place: usize) -> Self {
        Self::with(place, Actor::default(), Restart::on_failure()).await
    }

    async fn with(place: usize, target: Actor, restart: Restart) -> Self {
        let cluster = Cluster::start(2).await;
        let watcher = Actor::default();
        let (first, second) = (watcher.clone(), target.clone());
        cluster[0].service("watcher", move || first.clone()).start().await.unwrap();
        let service = cluster[place].service("target", move || second.clone());
        service.restart(restart).stop_within(Duration::from_millis(10)).start().await.unwrap();
        let watches = ActorHandle::lookup(&cluster[0], "watcher").await.unwrap();
        let is_watched = ActorHandle::lookup(&cluster[0], "target").await.unwrap();
        ActorHandle::lookup(&cluster[1], "watcher").await.unwrap();
        ActorHandle::lookup(&cluster[1], "target").await.unwrap();
        Self { cluster, place, watcher, watches, target, is_watched }
    }

    /// What the watcher noted, when nothing more happens.
    async fn noted(&self) -> String {
        settle().await;
        self.watcher.log.line()
    }
}

/// Runs a test with the target on the watcher's node, and on another.
async fn here_and_there<F: Future<Output = ()>>(test: impl Fn(usize) -> F) {
    for place in [0, 1] {
        test(place).await;
    }
}

/// Asserts that a watch tells one end, this one, and then ends.
#[track_caller]
fn assert_ended(downs: &[Down], expected: &StopReason) {
    let reasons: Vec<_> = downs.iter().map(|down| &down.reason).collect();
    assert_eq!(reasons, [expected]);
}

fn panicked() -> StopReason {
    StopReason::Panicked("on purpose".to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_once_with_its_reason_as_a_stream_and_to_the_hook() {
    async fn check(place: usize, expected: StopReason, end: impl AsyncFn(&Scene)) {
        let scene = Scene::with(place, Actor::default(), Restart::never()).await;
        let watch = scene.is_watched.watch();
        scene.watches.watch_target(place).await.unwrap();
        end(&scene).await;
        let downs: Vec<Down> = soon("the end of the stream", watch.collect()).await;
        assert_ended(&downs, &expected);
        assert_eq!(downs[0].address.node.as_str(), format!("n{place}"));
        assert_eq!(scene.noted().await, format!("{expected:?}"), "the hook ran once");
    }
    here_and_there(async |place| {
        check(place, StopReason::Normal, async |scene| scene.is_watched.stop().await.unwrap()).await;
        check(place, panicked(), async |scene| drop(scene.is_watched.fail().await)).await;
        let stop = async |scene: &Scene| {
            assert!(scene.cluster[scene.place].stop_service("target").await);
        };
        check(place, StopReason::Normal, stop).await;
        let kill = async |scene: &Scene| {
            scene.is_watched.hang().try_send().unwrap();
            scene.target.gate.reached(1).await;
            stop(scene).await;
        };
        check(place, StopReason::Killed, kill).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_the_end_of_its_life() {
    here_and_there(async |place| {
        let target = Actor { refuses: true, ..Actor::default() };
        let scene = Scene::with(place, target, Restart::on_failure()).await;
        let mut watch = scene.is_watched.watch();
        drop(scene.is_watched.fail().await);
        assert_eq!(watch.next().await.map(|down| down.reason), Some(panicked()));
        let mut watch = scene.is_watched.watch();
        let refused = StopReason::Error("no second life".to_owned());
        assert_eq!(soon("the end", watch.next()).await.map(|down| down.reason), Some(refused));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn each_life_is_watched_anew_and_handles_go_on_working() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        let mut addresses = BTreeSet::new();
        for life in 1..=3 {
            let mut watch = scene.is_watched.watch();
            scene.watches.watch_target(place).await.unwrap();
            drop(scene.is_watched.fail().await);
            let down = soon("the end", watch.next()).await.unwrap();
            assert_eq!(down.reason, panicked());
            addresses.insert(down.address.to_string());
            assert_eq!(watch.next().await, None, "of the next life it says nothing");
            scene.is_watched.is_there().await.unwrap();
            assert_eq!(scene.noted().await.matches("Panicked").count(), life);
        }
        assert_eq!(addresses.len(), 1, "{addresses:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_instance_of_a_name_is_told_and_a_name_that_leads_nowhere_is_an_end_at_once() {
    let cluster = Cluster::start(2).await;
    for node in [&cluster[0], &cluster[1]] {
        node.service("target", Actor::default).instances(3).start().await.unwrap();
    }
    ActorHandle::lookup_on(&cluster[0], "n1", "target").await.unwrap();
    let handle = ActorHandle::lookup(&cluster[0], "target").await.unwrap();
    let watch = handle.watch();
    let watch_there = ActorHandle::lookup_on(&cluster[0], "n1", "target").await.unwrap().watch();
    assert!(cluster[1].stop_service("target").await);
    let there: Vec<Down> = soon("three ends", watch_there.collect()).await;
    assert!(there.iter().all(|down| down.address.node.as_str() == "n1"), "{there:?}");
    assert_eq!(there.len(), 3);
    assert!(cluster[0].stop_service("target").await);
    let all: Vec<Down> = soon("six ends", watch.collect()).await;
    let different: BTreeSet<_> = all.iter().map(|down| down.address.to_string()).collect();
    assert_eq!((all.len(), different.len()), (6, 6), "{all:?}");
    settle().await;
    assert_eq!(handle.watch().next().await, None);
}

#[tokio::test(start_paused = true)]
async fn what_had_ended_already_is_told_at_once() {
    let node = local_node().await;
    let handle = node.spawn(Actor::default());
    node.stop(&handle).await.unwrap();
    let downs: Vec<Down> = soon("the end", handle.watch().collect()).await;
    assert_ended(&downs, &StopReason::Normal);

    // The word that the name leads nowhere is still on its way.
    let scene = Scene::with(1, Actor::default(), Restart::never()).await;
    scene.cluster.delay(Duration::from_millis(100)).await;
    assert!(scene.cluster[1].stop_service("target").await);
    let downs: Vec<Down> = soon("the end", scene.is_watched.watch().collect()).await;
    assert_ended(&downs, &StopReason::Gone);
    assert_eq!(soon("the end", scene.is_watched.watch().next()).await, None, "now it is known");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_vanishes_is_told_for_each_of_its_instances() {
    let scene = Scene::new(1).await;
    let watch = scene.is_watched.watch();
    scene.watches.watch_target(1).await.unwrap();
    let clock = Clock::start();
    scene.cluster.kill(1).await;
    let downs: Vec<Down> = soon("the end", watch.collect()).await;
    clock.assert_at_once();
    assert!(matches!(&*downs, [Down { reason: StopReason::NodeDown(_), .. }]), "{downs:?}");
    let noted = scene.noted().await;
    assert!(noted.starts_with("NodeDown(") && noted.matches("NodeDown").count() == 1, "{noted}");
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_told_once_and_the_return_of_the_node_says_nothing() {
    let scene = Scene::new(1).await;
    let mut watch = scene.is_watched.watch();
    scene.watches.watch_target(1).await.unwrap();
    scene.is_watched.is_there().await.unwrap();
    scene.cluster.partition(&[0], &[1]).await;
    assert!(scene.cluster.is_partitioned(0, 1));
    let down = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap();
    assert!(matches!(down.reason, StopReason::NodeDown(_)), "{down:?}");
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    drop(ActorHandle::lookup(&scene.cluster[0], "target").await.unwrap().fail().await);
    assert_eq!(watch.next().await, None);
    assert_eq!(scene.noted().await.matches("NodeDown").count(), 1);
    assert_eq!(scene.noted().await.matches("Panicked").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_says_so_of_its_instances() {
    let scene = Scene::new(1).await;
    let watch = scene.is_watched.watch();
    scene.cluster[1].shutdown().await.unwrap();
    let downs: Vec<Down> = soon("the end", watch.collect()).await;
    assert_ended(&downs, &StopReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_all_that_was_sent_before_and_before_what_the_next_life_sends() {
    here_and_there(async |place| {
        let target = Actor { greets: Some("watcher"), ..Actor::default() };
        let scene = Scene::with(place, target, Restart::on_failure()).await;
        scene.watches.watch_target(place).await.unwrap();
        scene.watches.hold().try_send().unwrap();
        scene.watcher.gate.reached(1).await;
        scene.is_watched.say_and_fail(500).await.unwrap_err();
        scene.is_watched.is_there().await.unwrap();
        scene.watcher.gate.open();
        let mut expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        expected.extend([format!("{:?}", panicked()), "greeting".to_owned()]);
        settle().await;
        assert_eq!(scene.watcher.log.entries(), expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_something_long_that_was_sent_before() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        scene.watches.watch_target(place).await.unwrap();
        scene.is_watched.say_something_long_and_fail().await.unwrap_err();
        settle().await;
        let noted = scene.watcher.log.entries();
        assert_eq!(noted.iter().map(String::len).next(), Some(LONG));
        assert_eq!(noted[1..], [format!("{:?}", panicked())]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_what_waited_for_room_in_a_full_mailbox() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        scene.watches.watch_target(place).await.unwrap();
        scene.watches.hold().try_send().unwrap();
        scene.watcher.gate.reached(1).await;
        while scene.watches.note(String::new()).try_send().is_ok() {}
        let failing = tokio::spawn(scene.is_watched.say_and_fail(500).into_future());
        settle().await;
        assert_eq!(failing.is_finished(), place == 1, "another node's credit holds them all");
        scene.watcher.gate.open();
        failing.await.unwrap().unwrap_err();
        settle().await;
        let mut expected: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        expected.push(format!("{:?}", panicked()));
        let noted = scene.watcher.log.entries();
        assert_eq!(noted[noted.len() - 501..], expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_the_last_answer() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        scene.watches.watch_target(place).await.unwrap();
        let mut watch = scene.is_watched.watch();
        scene.watches.note_answer(place).await.unwrap();
        assert_eq!(scene.noted().await, "Ok(7) Normal");
        assert_eq!(watch.next().await.map(|down| down.reason), Some(StopReason::Normal));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_finds_its_place_in_a_mailbox_that_is_full() {
    let scene = Scene::new(0).await;
    scene.watches.watch_target(0).await.unwrap();
    scene.watches.hold().try_send().unwrap();
    scene.watcher.gate.reached(1).await;
    let mut number = 0;
    while scene.watches.note(number.to_string()).try_send().is_ok() {
        number += 1;
    }
    assert!(number >= 1024, "{number} only");
    drop(scene.is_watched.fail().await);
    settle().await;
    scene.watcher.gate.open();
    let mut expected: Vec<_> = (0..number).map(|number| number.to_string()).collect();
    expected.push(format!("{:?}", panicked()));
    settle().await;
    assert_eq!(scene.watcher.log.entries(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_unwatched_is_not_told() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        scene.watches.watch_target(place).await.unwrap();
        scene.watcher.gate.open();
        scene.watches.hold_and_unwatch().await.unwrap();
        drop(scene.is_watched.watch());
        drop(scene.is_watched.fail().await);
        scene.is_watched.is_there().await.unwrap();
        assert_eq!(scene.noted().await, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_unwatch_takes_back_an_end_that_is_in_the_mailbox() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        let mut watch = scene.is_watched.watch();
        scene.watches.watch_target(place).await.unwrap();
        scene.watches.watch_target(place).await.unwrap();
        scene.watches.hold_and_unwatch().try_send().unwrap();
        scene.watcher.gate.reached(1).await;
        drop(scene.is_watched.fail().await);
        assert!(soon("the end", watch.next()).await.is_some(), "it has ended");
        settle().await;
        scene.watcher.gate.open();
        scene.watches.is_there().await.unwrap();
        assert_eq!(scene.noted().await, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_life_of_a_watcher_is_not_told_what_the_one_before_watched() {
    here_and_there(async |place| {
        // One end waits in the mailbox when the life ends; the other comes later.
        let scene = Scene::new(place).await;
        let mut watch = scene.is_watched.watch();
        scene.watches.watch_target(place).await.unwrap();
        scene.watches.hold_and_fail().try_send().unwrap();
        scene.watcher.gate.reached(1).await;
        drop(scene.is_watched.fail().await);
        assert!(soon("the end", watch.next()).await.is_some());
        scene.is_watched.is_there().await.unwrap();
        settle().await;
        scene.watcher.gate.open();
        scene.watches.watch_target(place).await.unwrap();
        assert_eq!(scene.watcher.lives.load(Ordering::SeqCst), 2);
        drop(scene.watches.fail().await);
        scene.watches.is_there().await.unwrap();
        assert_eq!(scene.watcher.lives.load(Ordering::SeqCst), 3);
        assert!(scene.cluster[place].stop_service("target").await);
        assert_eq!(scene.noted().await, "");
    })
    .await;
}
