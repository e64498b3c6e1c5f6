//! What callers see of a connection that breaks and comes back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use skyhold::prelude::*;
use skyhold::testing::Cluster;

use crate::gate::{Watch, settle};

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<u64>>>);

#[service(mailbox = 10_000)]
impl Diary {
    pub fn enter(&mut self, entry: u64, padding: Vec<u8>) -> u64 {
        drop(padding);
        self.0.lock().unwrap().push(entry);
        entry
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Diary {
    fn entries(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

/// Three nodes; the second runs the service, the first has the handle.
struct Scene {
    cluster: Cluster,
    diary: Diary,
    remote: DiaryHandle,
}

/// Longer than a silence, after which the peer is given up.
const LONG: Duration = Duration::from_secs(8);

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start(3).await;
        let diary = Diary::default();
        let factory = diary.clone();
        cluster[1].service("diary", move || factory.clone()).start().await.unwrap();
        let remote = DiaryHandle::lookup(&cluster[0], "diary").await.unwrap().balance(Balance::RoundRobin);
        assert_eq!(remote.count().await, Ok(0));
        Self { cluster, diary, remote }
    }

    /// Cuts the first node from the second until it has given it up.
    async fn cut(&self) {
        self.cluster.partition(&[0], &[1]).await;
        tokio::time::sleep(LONG).await;
        let peers = self.cluster[0].peers();
        assert!(!peers.iter().any(|peer| peer.as_str() == "n1"), "it is given up");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_sends_that_are_made_while_a_connection_is_made_again_wait_for_it_in_their_order() {
    let scene = Scene::new().await;
    scene.cut().await;
    let mut waiting: Vec<_> = Vec::new();
    for entry in 0..100 {
        let message = scene.remote.enter(entry, vec![]);
        waiting.push(if entry % 2 == 0 {
            tokio::spawn(async { message.await.map(|_| ()) })
        } else {
            tokio::spawn(async { message.send().await })
        });
        settle().await;
    }
    assert!(waiting.iter().all(|task| !task.is_finished()));
    let error = scene.remote.enter(100, vec![]).try_send().unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "who does not wait is told: {error:?}");
    scene.cluster.heal().await;
    join_all(waiting).await.into_iter().for_each(|ended| ended.unwrap().unwrap());
    assert_eq!(scene.remote.count().await, Ok(100));
    assert_eq!(scene.diary.entries(), (0..100).collect::<Vec<_>>(), "each once, and in order");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_does_so_until_its_deadline_and_did_not_run() {
    let scene = Scene::new().await;
    scene.cut().await;
    let watch = Watch::start();
    let error = scene.remote.enter(1, vec![]).timeout(Duration::from_secs(3)).await.unwrap_err();
    watch.assert_ended_at(Duration::from_secs(3));
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    assert!(!error.may_have_run());
    scene.cluster.heal().await;
    assert_eq!(scene.remote.enter(2, vec![]).await, Ok(2));
    assert_eq!(scene.diary.entries(), [2]);
}

#[tokio::test(start_paused = true)]
async fn of_the_calls_at_a_break_those_that_had_not_left_say_so_and_have_not_run() {
    let scene = Scene::new().await;
    scene.cluster.partition(&[0], &[1]).await;
    assert!(scene.cluster.is_partitioned(0, 1));
    // More than the stream takes while nothing passes.
    let calls: Vec<_> = (0..45)
        .map(|entry| {
            let call = scene.remote.enter(entry, vec![0; 20_000]).timeout(Duration::from_secs(60));
            tokio::spawn(call.into_future())
        })
        .collect();
    let (mut left, mut unsent) = (Vec::new(), Vec::new());
    for (entry, call) in join_all(calls).await.into_iter().enumerate() {
        match call.unwrap().unwrap_err() {
            error @ CallError::Disconnected(_) => {
                assert!(error.may_have_run());
                left.push(entry as u64);
            }
            error @ CallError::NoRoute(_) => {
                assert!(!error.may_have_run());
                unsent.push(entry as u64);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!left.is_empty() && unsent.len() > 10, "{left:?} {unsent:?}");
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    settle().await;
    let ran = scene.diary.entries();
    assert!(unsent.iter().all(|entry| !ran.contains(entry)), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_node_whose_process_has_gone_is_told_at_once() {
    let scene = Scene::new().await;
    let watch = Watch::start();
    scene.cluster.kill(1).await;
    let calls: Vec<_> =
        (0..10).map(|entry| tokio::spawn(scene.remote.enter(entry, vec![]).into_future())).collect();
    for call in join_all(calls).await {
        let error = call.unwrap().unwrap_err();
        assert!(matches!(error, CallError::NoRoute(_) | CallError::Disconnected(_)), "{error:?}");
    }
    let error = scene.remote.enter(10, vec![]).await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_node_that_has_said_goodbye() {
    let scene = Scene::new().await;
    scene.cluster[1].shutdown().await.unwrap();
    settle().await;
    let watch = Watch::start();
    let error = scene.remote.enter(1, vec![]).await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn another_instance_is_called_while_the_connection_to_one_is_made_again() {
    let scene = Scene::new().await;
    let other = Diary::default();
    let factory = other.clone();
    scene.cluster[2].service("diary", move || factory.clone()).start().await.unwrap();
    settle().await;
    scene.cut().await;
    let watch = Watch::start();
    for entry in 0..10 {
        assert_eq!(scene.remote.enter(entry, vec![]).await, Ok(entry));
    }
    watch.assert_at_once();
    assert_eq!((scene.diary.entries().len(), other.entries().len()), (0, 10));
    scene.cluster.heal().await;
    scene.cluster.connected().await;
    tokio::time::sleep(Duration::from_secs(10)).await; // the later one begins slowly
    for entry in 0..10 {
        assert_eq!(scene.remote.enter(entry, vec![]).await, Ok(entry));
    }
    assert_eq!((scene.diary.entries().len(), other.entries().len()), (5, 15), "both take turns again");
}
