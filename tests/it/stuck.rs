//! Handlers that run for too long are told of, each once; and mailboxes that fill.

use std::future::IntoFuture;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::{Down, Event, Events, StopReason};

use crate::gate::{Gate, Watch, local_node, settle};

const SECOND: Duration = Duration::from_secs(1);

/// How long after its limit a handler is told of at the latest.
const PERIOD: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Worker {
    start: Option<Gate>,
    stop: Option<Gate>,
    down: Option<Gate>,
}

#[service(local, name = "worker", mailbox = 10)]
impl Worker {
    #[on_start]
    async fn starts(&mut self) {
        if let Some(gate) = &self.start {
            gate.pass().await;
        }
    }

    #[on_stop]
    async fn stops(&mut self, _reason: StopReason) {
        if let Some(gate) = &self.stop {
            gate.pass().await;
        }
    }

    #[on_down]
    async fn hears(&mut self, _down: Down) {
        if let Some(gate) = &self.down {
            gate.pass().await;
        }
    }

    pub fn watch(&mut self, context: &Context, other: WorkerHandle) {
        let _watching = context.watch(&other);
    }

    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }

    pub async fn read(&self, gate: Gate) {
        gate.pass().await;
    }

    pub fn quick(&self) {}

    pub fn explode(&self) {
        panic!("told to");
    }
}

/// An event about a handler: whether it is stuck, which, and its age.
#[derive(Debug, PartialEq)]
struct Told {
    is_stuck: bool,
    handler: String,
    age: Duration,
}

fn told(event: Event) -> Option<Told> {
    match event {
        Event::SlowHandler { service, handler, age, .. } => {
            assert_eq!(service, "worker");
            Some(Told { is_stuck: false, handler, age })
        }
        Event::StuckHandler { service, handler, age, .. } => {
            assert_eq!(service, "worker");
            Some(Told { is_stuck: true, handler, age })
        }
        _ => None,
    }
}

async fn next(events: &mut Events) -> Told {
    loop {
        if let Some(told) = told(events.next().await.expect("the node lives")) {
            return told;
        }
    }
}

/// What was told until now.
fn until_now(events: &mut Events) -> Vec<Told> {
    let mut all = Vec::new();
    while let Some(event) = events.next().now_or_never() {
        all.extend(told(event.expect("the node lives")));
    }
    all
}

#[track_caller]
fn assert_told(told: &Told, is_stuck: bool, handler: &str, limit: Duration) {
    assert_eq!((told.is_stuck, &*told.handler), (is_stuck, handler));
    assert!(limit <= told.age && told.age <= limit + PERIOD, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_told_slow_after_one_second_and_stuck_after_ten_each_once() {
    let node = local_node().await;
    let mut events = node.events();
    let worker = node.spawn(Worker::default());
    for _ in 0..2 {
        let gate = Gate::new();
        let watch = Watch::start();
        worker.hold(gate.clone()).try_send().unwrap();
        assert_told(&next(&mut events).await, false, "worker.hold", SECOND);
        assert!(watch.elapsed() <= SECOND + PERIOD, "{:?}", watch.elapsed());
        assert_told(&next(&mut events).await, true, "worker.hold", 10 * SECOND);
        assert!(watch.elapsed() <= 10 * SECOND + PERIOD, "{:?}", watch.elapsed());
        tokio::time::sleep(100 * SECOND).await;
        gate.open();
        worker.quick().await.unwrap();
        assert_eq!(until_now(&mut events), []);
    }
}

#[tokio::test(start_paused = true)]
async fn many_short_handlers_are_no_slow_one() {
    let node = local_node().await;
    let mut events = node.events();
    let worker = node.spawn(Worker::default());
    for _ in 0..300 {
        let gate = Gate::new();
        let call = tokio::spawn(worker.hold(gate.clone()).into_future());
        gate.reached(1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.open();
        call.await.unwrap().unwrap();
    }
    assert_eq!(until_now(&mut events), []);
}

#[tokio::test(start_paused = true)]
async fn shared_handlers_that_run_beside_others_are_told_each_by_its_own_age() {
    let node = local_node().await;
    let mut events = node.events();
    let worker = node.spawn(Worker::default());
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    for gate in &gates {
        worker.read(gate.clone()).try_send().unwrap();
        tokio::time::sleep(SECOND / 4).await;
        worker.quick().await.unwrap();
    }
    gates[1].open(); // before it is slow
    for _ in [0, 2] {
        assert_told(&next(&mut events).await, false, "worker.read", SECOND);
    }
    gates[0].open();
    assert_told(&next(&mut events).await, true, "worker.read", 10 * SECOND);
    tokio::time::sleep(100 * SECOND).await;
    gates[2].open();
    worker.quick().await.unwrap();
    assert_eq!(until_now(&mut events), []);
}

#[tokio::test(start_paused = true)]
async fn hooks_are_told_like_handlers() {
    let node = local_node().await;
    let mut events = node.events();
    let [start, stop, down] = [Gate::new(), Gate::new(), Gate::new()];
    let worker =
        node.spawn(Worker { start: Some(start.clone()), stop: Some(stop.clone()), down: Some(down.clone()) });
    assert_told(&next(&mut events).await, false, "worker.on_start", SECOND);
    start.open();
    let other = node.spawn(Worker::default());
    worker.watch(other.clone()).await.unwrap();
    node.stop(&other).await.unwrap();
    assert_told(&next(&mut events).await, false, "worker.on_down", SECOND);
    down.open();
    worker.quick().await.unwrap();
    let stopped = tokio::spawn(async move { node.stop(&worker).await });
    assert_told(&next(&mut events).await, false, "worker.on_stop", SECOND);
    stop.open();
    stopped.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn handlers_that_ended_with_their_instance_are_told_no_more() {
    let node = local_node().await;
    let mut events = node.events();
    let worker = node.spawn(Worker::default());
    worker.read(Gate::new()).try_send().unwrap();
    settle().await;
    worker.explode().await.unwrap_err();
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(until_now(&mut events), []);
}

/// With limits of its own.
struct Strict;

#[service(local, name = "worker", slow = "20ms", stuck = "off")]
impl Strict {
    /// Blocks the thread until the test lets it go.
    pub fn block(&mut self, until: Arc<Mutex<Receiver<()>>>) {
        until.lock().unwrap().recv().unwrap();
    }

    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }
}

#[tokio::test(start_paused = true)]
async fn both_limits_are_settings_and_off_is_one() {
    let node = local_node().await;
    let mut events = node.events();
    // The watchdog is awake, and slower than this service asks for.
    node.spawn(Worker::default()).hold(Gate::new()).try_send().unwrap();
    settle().await;
    let strict = node.spawn(Strict);
    let watch = Watch::start();
    strict.hold(Gate::new()).try_send().unwrap();
    let told = next(&mut events).await;
    assert_eq!((told.is_stuck, &*told.handler), (false, "strict.hold"));
    assert!(watch.elapsed() <= Duration::from_millis(30), "{:?}", watch.elapsed());
    assert_told(&next(&mut events).await, false, "worker.hold", SECOND);
    assert_told(&next(&mut events).await, true, "worker.hold", 10 * SECOND);
    tokio::time::sleep(100 * SECOND).await;
    assert_eq!(until_now(&mut events), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_told_while_it_does() {
    let node = local_node().await;
    let mut events = node.events();
    let strict = node.spawn(Strict);
    for _ in 0..5 {
        let (release, until): (SyncSender<()>, _) = sync_channel(1);
        strict.block(Arc::new(Mutex::new(until))).send().await.unwrap();
        // Who waits here is no task of the two threads.
        let told = next(&mut events).await;
        assert_eq!((told.is_stuck, &*told.handler), (false, "strict.block"));
        release.send(()).unwrap();
    }
}
