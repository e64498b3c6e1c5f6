//! How nodes begin and end, alone and beside others in one process.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::{CallFuture, DeadLetterReason, Event, LookupError, NodeBuilder, ShutdownError, StartError};
use tokio::time::timeout;

use crate::gate::{Gate, Log, Watch, local_node, settle};

/// Longer than any deadline: what takes so long never ends.
const MINUTE: Duration = Duration::from_secs(60);

#[derive(Clone, Default)]
struct Worker {
    gate: Gate,
    log: Log,
    token: Arc<()>,
}

#[service]
impl Worker {
    #[on_stop]
    fn end(&mut self, reason: StopReason) {
        self.log.add(format!("{reason:?}"));
        let _ = &self.token;
    }

    pub async fn hold(&mut self) -> u32 {
        self.gate.pass().await;
        7
    }

    pub fn ping(&self) -> u32 {
        1
    }

    /// Keeps the node that it gets from its context.
    pub async fn keep_node(&mut self, context: &Context) {
        let node = context.node();
        self.gate.pass().await;
        drop(node);
    }
}

fn assert_stopped(error: &CallError) {
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
}

/// A node whose worker runs one message and has another one in its mailbox.
async fn busy() -> (Node, Worker, WorkerHandle, [tokio::task::JoinHandle<Result<u32, CallError>>; 2]) {
    let node = local_node().await;
    let worker = Worker::default();
    let handle = node.spawn(worker.clone());
    let running = tokio::spawn(handle.hold().into_future());
    worker.gate.reached(1).await;
    let queued = tokio::spawn(handle.ping().into_future());
    settle().await;
    (node, worker, handle, [running, queued])
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_runs_what_is_queued_and_refuses_what_comes_later() {
    let (node, worker, handle, [running, queued]) = busy().await;
    let shutdown = tokio::spawn({
        let node = node.clone();
        async move { node.shutdown().await }
    });
    settle().await;
    assert!(!shutdown.is_finished());
    worker.gate.open();
    shutdown.await.unwrap().unwrap();
    assert_eq!(running.await.unwrap(), Ok(7));
    assert_eq!(queued.await.unwrap(), Ok(1));
    assert_stopped(&handle.ping().await.unwrap_err());
    assert_eq!(worker.log.line(), "Shutdown");
    assert_eq!(Arc::strong_count(&worker.token), 1, "the instance was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_or_has_shut_down_takes_nothing_new_and_says_so() {
    let (node, worker, ..) = busy().await;
    let mut shutdown = Box::pin(node.shutdown());
    assert!(poll!(&mut shutdown).is_pending());
    check_takes_nothing(&node).await;
    worker.gate.open();
    shutdown.await.unwrap();
    check_takes_nothing(&node).await;
}

async fn check_takes_nothing(node: &Node) {
    let watch = Watch::start();
    let error = node.service("late", Worker::default).start().await.unwrap_err();
    assert!(matches!(&error, StartError::NodeStopped(node) if node.as_str() == "a"), "{error:?}");
    let error = WorkerHandle::lookup(node, "late").await.unwrap_err();
    assert!(matches!(error, LookupError::NodeStopped(_)), "{error:?}");
    let late = Worker::default();
    assert_stopped(&node.spawn(late.clone()).ping().await.unwrap_err());
    settle().await;
    assert_eq!(Arc::strong_count(&late.token), 1, "it was dropped");
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_second_shutdown_waits_for_the_first() {
    let (node, worker, ..) = busy().await;
    let (mut first, mut second) = (Box::pin(node.shutdown()), Box::pin(node.shutdown()));
    assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
    settle().await;
    assert!(poll!(&mut second).is_pending());
    worker.gate.open();
    first.await.unwrap();
    second.await.unwrap();
    let watch = Watch::start();
    node.shutdown().await.unwrap();
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_off_what_does_not_end_in_time() {
    for limit in [Duration::from_secs(10), Duration::from_secs(3), Duration::ZERO] {
        let node = Node::builder("a").shutdown_timeout(limit).start().await.unwrap();
        let mut events = node.events();
        let worker = Worker::default();
        let handle = node.spawn(worker.clone());
        let running = tokio::spawn(handle.hold().into_future());
        worker.gate.reached(1).await;
        let watch = Watch::start();
        let error = node.shutdown().await.unwrap_err();
        watch.assert_ended_at(limit);
        assert_eq!(error, ShutdownError::CutOff { tasks: 1, limit });
        let error = running.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::NoReply(_)), "{error:?}");
        // That the handler was slow, and stuck in the end, was told before.
        let reason = loop {
            match events.next().await.unwrap() {
                Event::InstanceEnded { reason, .. } => break reason,
                Event::SlowHandler { .. } | Event::StuckHandler { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason, StopReason::Killed);
        assert_eq!(Arc::strong_count(&worker.token), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_node_value_that_is_dropped_ends_the_node() {
    let (node, worker, handle, [running, queued]) = busy().await;
    let clone = node.clone();
    drop(node);
    settle().await;
    assert!(!running.is_finished(), "a clone keeps it");
    let watch = Watch::start();
    drop(clone);
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::NoReply(_)), "{error:?}");
    assert_stopped(&queued.await.unwrap().unwrap_err());
    assert_stopped(&handle.ping().await.unwrap_err());
    assert_eq!(Arc::strong_count(&worker.token), 1);
    watch.assert_at_once();
}

struct Narrow;

#[service(local, mailbox = 1)]
impl Narrow {
    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }
}

/// A call that was given room but does not know it yet, because nobody polls it.
async fn unaware(narrow: &NarrowHandle) -> (CallFuture<(), NarrowMessage>, Gate) {
    let (first, second) = (Gate::new(), Gate::new());
    narrow.hold(first.clone()).try_send().unwrap();
    first.reached(1).await;
    narrow.hold(second.clone()).try_send().unwrap();
    let mut waits = narrow.hold(Gate::opened()).into_future();
    assert!(poll!(&mut waits).is_pending());
    first.open();
    second.reached(1).await;
    (waits, second)
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_nobody_polls_does_not_hold_up_a_shutdown() {
    let node = local_node().await;
    let narrow = node.spawn(Narrow);
    let (waits, gate) = unaware(&narrow).await;
    gate.open();
    let watch = Watch::start();
    timeout(MINUTE, node.shutdown()).await.expect("it ends").unwrap();
    assert_stopped(&timeout(MINUTE, waits).await.expect("it is answered").unwrap_err());
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_nobody_polls_does_not_hold_up_a_stop_and_is_answered() {
    let node = local_node().await;
    let narrow = node.spawn(Narrow);
    let (waits, gate) = unaware(&narrow).await;
    gate.open();
    let watch = Watch::start();
    timeout(MINUTE, node.stop(&narrow)).await.expect("it ends").unwrap();
    assert_stopped(&timeout(MINUTE, waits).await.expect("it is answered").unwrap_err());
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_for_room_is_answered_when_its_node_is_dropped() {
    let node = local_node().await;
    let narrow = node.spawn(Narrow);
    let (waits, _gate) = unaware(&narrow).await;
    let mut behind = narrow.hold(Gate::opened()).into_future();
    assert!(poll!(&mut behind).is_pending());
    drop(node);
    settle().await;
    let watch = Watch::start();
    for call in [waits, behind] {
        assert_stopped(&timeout(MINUTE, call).await.expect("it is answered").unwrap_err());
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_keeps_its_node_does_not_keep_it_alive() {
    let node = local_node().await;
    let worker = Worker::default();
    let handle = node.spawn(worker.clone());
    let running = tokio::spawn(handle.keep_node().into_future());
    worker.gate.reached(1).await;
    drop(node);
    assert!(matches!(running.await.unwrap(), Err(CallError::NoReply(_))));
    assert_eq!(Arc::strong_count(&worker.token), 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_of_one_process_know_nothing_of_one_another() {
    let (one, other) = (local_node().await, local_node().await);
    assert_eq!(one.id(), other.id());
    assert!(one.incarnation() < other.incarnation());
    let handle = one.service("worker", Worker::default).start().await.unwrap();
    other.service("worker", Worker::default).start().await.unwrap();
    one.service("only", Worker::default).start().await.unwrap();
    assert!(WorkerHandle::try_lookup(&other, "only").is_err());
    one.shutdown().await.unwrap();
    assert!(handle.ping().await.is_err());
    assert_eq!(WorkerHandle::try_lookup(&other, "worker").unwrap().ping().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_on_one_node_may_call_one_on_another_of_the_same_process() {
    let (one, other) = (local_node().await, local_node().await);
    let (first, second) = (one.spawn(Worker::default()), other.spawn(Worker::default()));
    assert_ne!(first, second);
    assert_eq!((first.ping().await, second.ping().await), (Ok(1), Ok(1)));
}

/// A runtime without an IO driver cannot make a socket at all.
#[test]
fn a_node_that_does_not_listen_opens_no_socket() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let node = local_node().await;
        assert_eq!(node.address(), None);
        assert_eq!(node.peers(), []);
        let worker = node.service("worker", Worker::default).instances(2).start().await.unwrap();
        assert_eq!(worker.ping().await, Ok(1));
        assert_eq!(WorkerHandle::lookup(&node, "worker").await.unwrap().ping().await, Ok(1));
        node.shutdown().await.unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_cannot_be_used_is_named() {
    type Set = fn(NodeBuilder) -> NodeBuilder;
    let cases: [(Set, &str); 6] = [
        (|node| node.call_timeout(Duration::ZERO), "setting `call_timeout`: is zero"),
        (|node| node.heartbeat(Duration::ZERO), "setting `heartbeat`: is zero"),
        (|node| node.handshake_timeout(Duration::ZERO), "setting `handshake_timeout`: is zero"),
        (
            |node| node.silence(Duration::from_secs(1)),
            "setting `silence`: is 1s; more than the heartbeat of 1s",
        ),
        (|node| node.max_message(1), "setting `max_message`: is 1 bytes; 65536 to 67108864"),
        (|node| node.max_message(usize::MAX), "setting `max_message`: is 18446744073709551615 bytes"),
    ];
    for (set, expected) in cases {
        let error = set(Node::builder("a")).start().await.unwrap_err();
        assert!(matches!(error, StartError::InvalidSetting { .. }));
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let node = local_node().await;
    let error = node.service("worker", Worker::default).instances(0).start().await.unwrap_err();
    assert_eq!(error.to_string(), "setting `instances`: 0 instances cannot be started; at least 1 is needed");
    assert!(node.service("worker", Worker::default).start().await.is_ok(), "the name is free");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_used_is_refused_with_its_reason() {
    let long = "x".repeat(300);
    for (name, problem) in [("", "is empty"), ("a b", "contains ' '"), (&*long, "is 300 bytes long")] {
        let node = Node::builder(name).start().await.unwrap_err().to_string();
        assert!(node.starts_with("node name") && node.contains(problem), "{node}");
        let cluster = Node::builder("a").cluster(name).start().await.unwrap_err().to_string();
        assert!(cluster.starts_with("cluster name") && cluster.contains(problem), "{cluster}");
        let service =
            local_node().await.service(name, Worker::default).start().await.unwrap_err().to_string();
        assert!(service.starts_with("service name") && service.contains(problem), "{service}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_once_until_it_is_given_back() {
    let node = local_node().await;
    let (one, other) =
        (node.service("worker", Worker::default).start(), node.service("worker", Worker::default).start());
    // At the same moment as well.
    let (one, other) = futures_util::join!(one, other);
    let handle = one.unwrap();
    assert!(matches!(other, Err(StartError::NameTaken(name)) if name == "worker"));
    assert!(node.stop_service("worker").await);
    assert!(!node.stop_service("worker").await);
    assert!(!node.stop_service("never").await);
    let error = handle.ping().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_) | CallError::Stopped(_)), "{error:?}");
    node.service("worker", Worker::default).start().await.unwrap();
    assert_eq!(handle.ping().await, Ok(1), "a handle to a name finds its new instances");
}

#[tokio::test(start_paused = true)]
async fn a_group_takes_turns_and_goes_on_without_an_instance_that_ended() {
    let node = local_node().await;
    let (turns, gate) = (Log::default(), Gate::new());
    let mut number = 0;
    let factory = {
        let (turns, gate) = (turns.clone(), gate.clone());
        move || {
            number += 1;
            Turn { number, turns: turns.clone(), gate: gate.clone() }
        }
    };
    let group = node.service("turn", factory).instances(3).start().await.unwrap();
    let group = group.balance(Balance::RoundRobin);
    for _ in 0..6 {
        group.take().await.unwrap();
    }
    let mut entries = turns.entries();
    entries.sort();
    assert_eq!(entries, ["1", "1", "2", "2", "3", "3"]);
    group.boom().await.unwrap_err();
    for _ in 0..6 {
        group.take().await.unwrap();
    }
    assert_eq!(node.counters().instances_ended, 1);
}

struct Turn {
    number: u32,
    turns: Log,
    gate: Gate,
}

#[service]
impl Turn {
    pub fn take(&mut self) {
        self.turns.add(self.number.to_string());
    }

    pub fn boom(&mut self) {
        self.gate.open();
        panic!("boom");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_waits_for_the_name_and_no_longer_than_a_call() {
    let node = Node::builder("a").call_timeout(Duration::from_secs(4)).start().await.unwrap();
    let watch = Watch::start();
    let error = WorkerHandle::lookup(&node, "worker").await.unwrap_err();
    watch.assert_ended_at(Duration::from_secs(4));
    assert_eq!(error.to_string(), "no service named \"worker\" is known to node a after waiting 4s");
    let error = WorkerHandle::try_lookup(&node, "worker").unwrap_err();
    assert_eq!(error.to_string(), "no service named \"worker\" is known to node a");

    let mut lookup = Box::pin(WorkerHandle::lookup(&node, "worker"));
    assert!(poll!(&mut lookup).is_pending());
    node.service("worker", Worker::default).start().await.unwrap();
    assert_eq!(lookup.await.unwrap().ping().await, Ok(1));
    let error = TurnHandle::try_lookup(&node, "worker").unwrap_err();
    assert!(matches!(error, LookupError::Interface { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_to_nobody_is_counted_and_can_be_observed() {
    let node = local_node().await;
    let handle = node.spawn(Worker::default());
    node.stop(&handle).await.unwrap();
    let mut events = node.events();
    assert_stopped(&handle.ping().try_send().unwrap_err());
    assert_stopped(&handle.ping().send().await.unwrap_err());
    assert_stopped(&handle.ping().await.unwrap_err());
    assert_eq!(node.counters().dead_letters, 3);
    for call in [false, false, true] {
        let Some(Event::DeadLetter(letter)) = events.next().await else { panic!("another event") };
        assert_eq!(letter.handler, "worker.ping");
        assert_eq!((letter.call, letter.reason), (call, DeadLetterReason::Stopped));
    }
}
