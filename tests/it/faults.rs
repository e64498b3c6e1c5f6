//! Faults: nodes that are killed, links that are cut, slow or still. Each test first shows that its fault is in force.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Event, Events};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Diary {
    entries: Arc<Mutex<Vec<u64>>>,
    begun: Arc<Notify>,
}

#[service]
impl Diary {
    pub fn enter(&mut self, entry: u64) -> u64 {
        self.entries.lock().unwrap().push(entry);
        entry
    }

    pub fn count(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    pub async fn hang(&self) {
        self.begun.notify_one();
        std::future::pending().await
    }
}

impl Diary {
    fn entries(&self) -> Vec<u64> {
        self.entries.lock().unwrap().clone()
    }
}

/// The default of `silence`, and a little for what the silence of a connection is found by.
const SILENCE: Duration = Duration::from_secs(5);
const GIVEN_UP: Duration = Duration::from_secs(8);

/// Some nodes; the second runs the service, the first has the handle and the events.
struct Scene {
    cluster: Cluster,
    diary: Diary,
    remote: DiaryHandle,
    events: Events,
}

impl Scene {
    async fn new(nodes: usize) -> Self {
        let cluster = Cluster::start(nodes).await;
        let diary = Diary::default();
        let factory = diary.clone();
        cluster[1].service("diary", move || factory.clone()).start().await.unwrap();
        let remote = DiaryHandle::lookup(&cluster[0], "diary").await.unwrap();
        assert_eq!(remote.count().await, Ok(0), "all is well before the fault");
        let events = cluster[0].events();
        Self { cluster, diary, remote, events }
    }

    /// Cuts the first node from the second, and shows that nothing passes.
    async fn cut(&self) {
        self.cluster.partition(&[0], &[1]).await;
        assert!(self.cluster.is_partitioned(0, 1));
        let begin = Instant::now();
        let error = self.remote.count().timeout(Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
        assert_eq!(begin.elapsed().as_millis() / 10, 20, "the call ended by its deadline");
    }

    /// Waits until the first node has given its peer up.
    async fn given_up(&mut self) -> String {
        match tokio::time::timeout(Duration::from_secs(60), next_change(&mut self.events)).await {
            Ok(Event::PeerDown { peer, reason }) if peer.as_str() == "n1" => reason,
            other => panic!("the peer's end was expected, not {other:?}"),
        }
    }

    /// Waits until the first node is connected again.
    async fn is_back(&mut self) {
        match tokio::time::timeout(Duration::from_secs(60), next_change(&mut self.events)).await {
            Ok(Event::PeerUp { peer, .. }) if peer.as_str() == "n1" => {}
            other => panic!("the peer's return was expected, not {other:?}"),
        }
        DiaryHandle::lookup(&self.cluster[0], "diary").await.unwrap();
    }

    /// Shows that no peer came or went for a while.
    async fn nothing_changed(&mut self) {
        let change = tokio::time::timeout(2 * GIVEN_UP, next_change(&mut self.events)).await;
        assert!(change.is_err(), "{change:?}");
    }
}

/// The next peer that comes or goes.
async fn next_change(events: &mut Events) -> Event {
    loop {
        let event = events.next().await.expect("the node lives");
        if matches!(event, Event::PeerUp { .. } | Event::PeerDown { .. }) {
            return event;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_death_of_a_node_answers_its_callers_disconnected_at_once_and_later_ones_no_route() {
    let mut scene = Scene::new(3).await;
    let call = scene.remote.hang().into_future();
    let fault = async {
        scene.diary.begun.notified().await;
        scene.cluster.kill(1).await;
        Instant::now()
    };
    let (error, killed) = tokio::join!(call, fault);
    assert!(scene.cluster[1].spawn(Diary::default()).count().await.is_err(), "the node is dead");
    let error = error.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    assert!(error.may_have_run());
    let error = scene.remote.count().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    assert!(!error.may_have_run());
    scene.given_up().await;
    assert!(killed.elapsed() < Duration::from_millis(100), "{:?}", killed.elapsed());
    let others: Vec<_> = scene.cluster[0].peers().iter().map(ToString::to_string).collect();
    assert_eq!(others, ["n2"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_started_again_is_found_by_the_handles_of_before() {
    let mut scene = Scene::new(3).await;
    assert_eq!(scene.remote.enter(1).await, Ok(1));
    let before = scene.cluster[1].incarnation();
    scene.cluster.restart(1).await;
    assert!(scene.cluster[1].incarnation() > before, "it is another life");
    let error = scene.remote.count().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    scene.cluster[1].service("diary", Diary::default).start().await.unwrap();
    DiaryHandle::lookup(&scene.cluster[0], "diary").await.unwrap();
    assert_eq!(scene.remote.count().await, Ok(0), "a new life with a new state");
    assert_eq!(scene.diary.entries(), [1], "nothing more reached the old life");
}

#[tokio::test(start_paused = true)]
async fn a_partition_ends_calls_by_their_deadlines_and_the_connection_after_the_silence() {
    let mut scene = Scene::new(3).await;
    let cut = Instant::now();
    scene.cut().await;
    let waiting = scene.remote.hang().timeout(Duration::from_secs(60)).into_future();
    let error = waiting.await.unwrap_err();
    let took = cut.elapsed();
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    assert!(took >= SILENCE - Duration::from_secs(1) && took <= GIVEN_UP, "{took:?}");
    let reason = scene.given_up().await;
    assert!(reason.contains("nothing came"), "{reason}");
    let error = scene.remote.count().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    assert_eq!(scene.cluster[2].peers().len(), 2, "who is not cut off keeps its peers");
}

#[tokio::test(start_paused = true)]
async fn after_a_partition_the_connection_comes_back_by_itself() {
    let mut scene = Scene::new(3).await;
    scene.cut().await;
    scene.given_up().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let healed = Instant::now();
    scene.cluster.heal().await;
    assert!(!scene.cluster.is_partitioned(0, 1));
    scene.is_back().await;
    assert!(healed.elapsed() <= Duration::from_secs(11), "{:?}", healed.elapsed());
    assert_eq!(scene.remote.enter(1).await, Ok(1));
    scene.nothing_changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_shorter_than_the_silence_loses_nothing() {
    let mut scene = Scene::new(2).await;
    assert_eq!(scene.remote.enter(0).await, Ok(0));
    scene.cut().await;
    for entry in 1..100 {
        scene.remote.enter(entry).try_send().unwrap();
    }
    let last = scene.remote.enter(100).into_future();
    let heal = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.diary.entries(), [0], "nothing passed");
        scene.cluster.heal().await;
    };
    let (last, ()) = tokio::join!(last, heal);
    assert_eq!(last, Ok(100));
    assert_eq!(scene.diary.entries(), (0..=100).collect::<Vec<_>>());
    scene.nothing_changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_timed_out_behind_a_partition_is_not_begun_after_it() {
    let scene = Scene::new(2).await;
    scene.cut().await;
    let error = scene.remote.enter(1).timeout(Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    tokio::time::sleep(Duration::from_millis(10)).await; // the cancel is on its way too
    scene.cluster.heal().await;
    assert_eq!(scene.remote.enter(2).await, Ok(2));
    assert_eq!(scene.diary.entries(), [2]);
}

#[tokio::test(start_paused = true)]
async fn of_a_broken_connection_a_suffix_is_lost_and_nothing_in_the_middle() {
    let mut scene = Scene::new(2).await;
    for entry in 0..100 {
        scene.remote.enter(entry).try_send().unwrap();
    }
    assert_eq!(scene.remote.count().await, Ok(100));
    scene.cut().await;
    for entry in 100..200 {
        scene.remote.enter(entry).try_send().unwrap();
    }
    scene.given_up().await;
    scene.cluster.heal().await;
    scene.is_back().await;
    for entry in 200..300 {
        scene.remote.enter(entry).try_send().unwrap();
    }
    assert_eq!(scene.remote.enter(300).await, Ok(300));
    let entries = scene.diary.entries();
    let arrived =
        u64::try_from(entries.iter().filter(|&&entry| (100..200).contains(&entry)).count()).unwrap();
    let expected: Vec<_> = (0..100 + arrived).chain(200..=300).collect();
    assert_eq!(entries, expected);
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_felt_once_each_way() {
    let scene = Scene::new(2).await;
    scene.cluster.delay(Duration::from_millis(50)).await;
    let begin = Instant::now();
    assert_eq!(scene.remote.enter(1).await, Ok(1));
    assert_eq!(begin.elapsed().as_millis(), 100);
    scene.cluster.delay_between(0, 1, Duration::from_millis(5)).await;
    let begin = Instant::now();
    assert_eq!(scene.remote.enter(2).await, Ok(2));
    assert_eq!(begin.elapsed().as_millis(), 10);
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_over_a_slow_link_do_not_wait_for_one_another() {
    let scene = Scene::new(2).await;
    scene.cluster.delay(Duration::from_millis(50)).await;
    let begin = Instant::now();
    let calls = (0..500).map(|entry| scene.remote.enter(entry).into_future());
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.into_iter().enumerate().all(|(entry, answer)| answer == Ok(entry as u64)));
    assert_eq!(begin.elapsed().as_millis(), 100);
    assert_eq!(scene.diary.entries(), (0..500).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_is_no_dead_peer() {
    let mut scene = Scene::new(2).await;
    scene.cluster.delay(Duration::from_millis(1500)).await;
    let begin = Instant::now();
    assert_eq!(scene.remote.enter(1).await, Ok(1));
    assert_eq!(begin.elapsed().as_secs(), 3, "the link is slow");
    scene.nothing_changed().await;
    assert_eq!(scene.remote.enter(2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let mut scene = Scene::new(2).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    scene.nothing_changed().await;
    assert_eq!(scene.remote.enter(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_for_a_moment_goes_on() {
    let mut scene = Scene::new(2).await;
    scene.cluster.pause(1).await;
    assert!(scene.cluster.is_paused(1));
    let resume = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(scene.diary.entries(), [0; 0], "it stands still");
        scene.cluster.resume(1).await;
    };
    let (answer, ()) = tokio::join!(scene.remote.enter(1).into_future(), resume);
    assert_eq!(answer, Ok(1));
    scene.nothing_changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_too_long_is_given_up_and_comes_back() {
    let mut scene = Scene::new(3).await;
    let paused = Instant::now();
    scene.cluster.pause(1).await;
    assert!(scene.cluster.is_paused(1));
    let error = scene.remote.enter(1).timeout(Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error:?}");
    assert!(paused.elapsed() <= GIVEN_UP, "{:?}", paused.elapsed());
    scene.given_up().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    scene.cluster.resume(1).await;
    scene.is_back().await;
    assert_eq!(scene.remote.enter(2).await, Ok(2));
    scene.nothing_changed().await;
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_setting() {
    let quick = |node: skyhold::NodeBuilder| {
        node.heartbeat(Duration::from_millis(100)).silence(Duration::from_millis(500))
    };
    let cluster = Cluster::start_with(2, quick).await;
    let mut events = cluster[0].events();
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    let cut = Instant::now();
    let change = next_change(&mut events).await;
    assert!(matches!(change, Event::PeerDown { .. }), "{change:?}");
    let took = cut.elapsed();
    assert!(took >= Duration::from_millis(400) && took <= Duration::from_millis(900), "{took:?}");
}
