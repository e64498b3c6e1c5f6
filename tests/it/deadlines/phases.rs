//! What is too late is counted once, in the phase that saw it, on the node that the phase belongs to.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::poll;
use serde::{Deserialize, Deserializer, Serialize};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Counters, Expired};

use crate::gate::{Gate, local_node, settle};

const SECOND: Duration = Duration::from_secs(1);

/// Held at a gate of the test's.
#[derive(Clone, Default)]
struct Desk {
    gate: Gate,
    begun: Arc<AtomicU32>,
}

#[service(mailbox = 32)]
impl Desk {
    pub async fn hold(&mut self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.gate.pass().await;
    }

    pub fn note(&mut self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    pub fn take(&mut self, slow: SlowToRead) {
        let _read = slow;
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    pub fn fill(&mut self, bytes: Vec<u8>) {
        drop(bytes);
    }
}

/// A service here, or on another node, and what its callers' node and its own have counted.
struct Scene {
    desk: Desk,
    handle: DeskHandle,
    callers: Node,
    own: Node,
    cluster: Option<Cluster>,
}

impl Scene {
    async fn both() -> [Self; 2] {
        let (desk, node) = (Desk::default(), local_node().await);
        let handle = node.spawn(desk.clone());
        [Self { desk, handle, callers: node.clone(), own: node, cluster: None }, Self::remote().await]
    }

    async fn remote() -> Self {
        let (desk, cluster) = (Desk::default(), Cluster::start(2).await);
        let factory = desk.clone();
        cluster[1].service("desk", move || factory.clone()).start().await.unwrap();
        let handle = DeskHandle::lookup(&cluster[0], "desk").await.unwrap();
        let (callers, own) = (cluster[0].clone(), cluster[1].clone());
        Self { desk, handle, callers, own, cluster: Some(cluster) }
    }

    /// Makes the service run a handler that waits for the gate.
    async fn block(&self) {
        self.handle.hold().send().await.unwrap();
        self.desk.gate.reached(1).await;
    }

    /// A call that was handed over.
    async fn note(
        &self,
        timeout: Duration,
    ) -> Pin<Box<<skyhold::Call<(), DeskMessage> as IntoFuture>::IntoFuture>> {
        let mut call = Box::pin(self.handle.note().timeout(timeout).into_future());
        assert!(poll!(&mut call).is_pending());
        settle().await;
        call
    }

    #[track_caller]
    fn assert_counted(&self, callers: impl Fn(&mut Expired), own: impl Fn(&mut Expired)) {
        if self.cluster.is_some() {
            assert_eq!(self.callers.counters().expired, expired(callers), "where it was called");
            assert_eq!(self.own.counters().expired, expired(own), "where it was to run");
        } else {
            assert_eq!(self.own.counters().expired, expired(|phases| (callers(phases), own(phases)).1));
        }
    }

    fn begun(&self) -> u32 {
        self.desk.begun.load(Ordering::SeqCst)
    }
}

fn expired(set: impl Fn(&mut Expired)) -> Expired {
    let mut counters = Counters::default();
    set(&mut counters.expired);
    counters.expired
}

fn nothing(_: &mut Expired) {}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_before_the_call_counts_as_send() {
    for scene in Scene::both().await {
        let error = scene.handle.note().timeout(Duration::ZERO).await.unwrap_err();
        assert!(matches!(error, CallError::Expired(_)), "{error:?}");
        scene.assert_counted(|phases| phases.send = 1, nothing);
        assert_eq!(scene.begun(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_front_of_a_full_mailbox_counts_as_send() {
    let [scene, _] = Scene::both().await;
    scene.block().await;
    while scene.handle.note().try_send().is_ok() {}
    let error = scene.handle.note().timeout(SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
    scene.assert_counted(|phases| phases.send = 1, nothing);
    scene.handle.note().timeout(SECOND).send().await.unwrap_err();
    scene.assert_counted(|phases| phases.send = 2, nothing);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_front_of_a_full_connection_counts_as_send() {
    let scene = Scene::remote().await;
    let Some(cluster) = &scene.cluster else { panic!("it has one") };
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    while scene.handle.fill(vec![0; 100_000]).try_send().is_ok() {
        tokio::task::yield_now().await;
    }
    let error = scene.handle.note().timeout(SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
    scene.assert_counted(|phases| phases.send = 1, nothing);
}

/// An argument that takes longer to be read than its caller waits.
#[derive(Serialize)]
struct SlowToRead;

const READING: Duration = Duration::from_millis(25);

impl<'de> Deserialize<'de> for SlowToRead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let begun = Instant::now();
        while begun.elapsed() < READING {
            std::hint::spin_loop();
        }
        <()>::deserialize(deserializer).map(|()| Self)
    }
}

#[tokio::test]
async fn a_deadline_that_passed_while_the_request_was_read_counts_as_receive() {
    let scene = Scene::remote().await;
    // A machine that is busy may let the deadline pass before: then the call is made again.
    while scene.own.counters().expired.receive == 0 {
        let error = scene.handle.take(SlowToRead).timeout(READING * 4 / 5).await.unwrap_err();
        assert!(matches!(error, CallError::Expired(_) | CallError::Timeout(_)), "{error:?}");
        scene.handle.note().await.unwrap(); // the request before has been read
    }
    let Expired { receive, dispatch, invoke, reply, .. } = scene.own.counters().expired;
    assert_eq!((receive, dispatch, invoke, reply), (1, 0, 0, 0));
    assert_eq!(scene.own.counters().dead_letters, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_in_the_mailbox_counts_as_dispatch() {
    for scene in Scene::both().await {
        scene.block().await;
        scene.note(SECOND).await.await.unwrap_err();
        scene.desk.gate.open();
        scene.handle.note().await.unwrap();
        scene.assert_counted(nothing, |phases| phases.dispatch = 1);
        assert_eq!(scene.begun(), 2, "the one before and the one after");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gave_up_meanwhile_counts_as_dispatch() {
    for scene in Scene::both().await {
        scene.block().await;
        drop(scene.note(SECOND).await);
        settle().await;
        scene.desk.gate.open();
        scene.handle.note().await.unwrap();
        scene.assert_counted(nothing, |phases| phases.dispatch = 1);
        assert_eq!(scene.begun(), 2, "the one before and the one after");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passed_behind_a_handler_of_the_same_batch_counts_as_invoke() {
    for scene in Scene::both().await {
        // The mailbox is emptied in batches of two: these come together, and the first is held.
        scene.handle.hold().try_send().unwrap();
        scene.note(SECOND).await.await.unwrap_err();
        assert_eq!(scene.begun(), 1);
        scene.desk.gate.open();
        scene.handle.note().await.unwrap();
        scene.assert_counted(nothing, |phases| phases.invoke = 1);
        assert_eq!(scene.begun(), 2, "the one before and the one after");
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_nobody_waits_for_any_more_counts_as_reply() {
    for scene in Scene::both().await {
        let held = scene.handle.hold().timeout(SECOND).await;
        assert!(matches!(held, Err(CallError::Timeout(_))), "{held:?}");
        settle().await;
        scene.desk.gate.open();
        scene.handle.note().await.unwrap();
        scene.assert_counted(nothing, |phases| phases.reply = 1);
        assert_eq!(scene.own.counters().dead_letters, 0, "it ran");
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_is_the_sum_of_all_phases() {
    let counted = expired(|phases| {
        (phases.send, phases.receive, phases.dispatch) = (1, 20, 300);
        (phases.invoke, phases.reply) = (4000, 50_000);
    });
    assert_eq!(counted.total(), 54_321);
}
