//! Draining: what is queued is run, what is new goes elsewhere, and nobody who calls through a name sees it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{ShutdownError, StopReason};
use tokio::task::JoinHandle;

use crate::gate::{Gate, Log, Watch, local_node, settle};

/// Works slowly, and counts.
#[derive(Clone, Default)]
struct Worker {
    ran: Arc<AtomicU64>,
    log: Log,
    gate: Gate,
}

#[service]
impl Worker {
    #[on_stop]
    fn end(&mut self, reason: StopReason) {
        self.log.add(format!("{reason:?}"));
    }

    /// Takes a millisecond.
    pub async fn work(&mut self) -> u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.ran.fetch_add(1, Ordering::SeqCst)
    }

    /// Holds the instance until the gate opens.
    pub async fn hold(&mut self) {
        self.gate.pass().await;
    }

    pub fn ran(&self) -> u64 {
        self.ran.load(Ordering::SeqCst)
    }
}

/// Holds a handle to what was started before it.
struct Client {
    worker: WorkerHandle,
    gate: Gate,
}

#[service(local)]
impl Client {
    pub async fn work(&self) -> Result<u64, CallError> {
        self.gate.pass().await;
        self.worker.work().await
    }
}

/// Calls without a pause until it is told to end, and gives how many calls it made. Every one must succeed.
fn caller(worker: WorkerHandle, end: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let end = Arc::clone(end);
    tokio::spawn(async move {
        let mut calls = 0;
        while !end.load(Ordering::SeqCst) {
            worker.work().await.unwrap_or_else(|error| panic!("call {calls}: {error}"));
            calls += 1;
        }
        calls
    })
}

/// Three nodes; the first and the second run the service; callers on all of them use it through its name.
struct UnderLoad {
    cluster: Cluster,
    worker: Worker,
    end: Arc<AtomicBool>,
    callers: Vec<JoinHandle<u64>>,
}

impl UnderLoad {
    async fn new() -> Self {
        let cluster = Cluster::start(3).await;
        let (worker, end) = (Worker::default(), Arc::new(AtomicBool::new(false)));
        for node in &[&cluster[0], &cluster[1]] {
            let worker = worker.clone();
            node.service("worker", move || worker.clone()).instances(2).start().await.unwrap();
        }
        let mut callers = Vec::new();
        for index in [1, 2, 2, 2, 2, 2, 2, 2] {
            let handle = WorkerHandle::lookup(&cluster[index], "worker").await.unwrap();
            callers.push(caller(handle, &end));
        }
        let load = Self { cluster, worker, end, callers };
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(load.worker.ran.load(Ordering::SeqCst) > 50, "the load is there");
        load
    }

    /// Ends the callers, and asserts that each of their calls ran exactly once.
    async fn end(self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.end.store(true, Ordering::SeqCst);
        let mut calls = 0;
        for caller in self.callers {
            calls += caller.await.unwrap();
        }
        assert_eq!(self.worker.ran.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn no_routed_call_fails_while_a_service_drains_under_load() {
    let load = UnderLoad::new().await;
    assert!(load.cluster[0].drain_service("worker").await);
    assert_eq!(load.worker.log.line(), "Normal Normal");
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_routed_call_fails_while_a_node_shuts_down_under_load() {
    let load = UnderLoad::new().await;
    load.cluster[0].shutdown().await.unwrap();
    assert_eq!(load.worker.log.line(), "Shutdown Shutdown");
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_routed_call_fails_while_a_node_shuts_down_on_a_slow_network() {
    let load = UnderLoad::new().await;
    load.cluster.delay(Duration::from_millis(7)).await;
    load.cluster[0].shutdown().await.unwrap();
    load.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_run_and_what_comes_later_is_refused() {
    let node = local_node().await;
    let worker = Worker::default();
    let handle = node.spawn(worker.clone());
    let held = tokio::spawn(handle.hold().into_future());
    worker.gate.reached(1).await;
    let queued: Vec<_> = (0..100).map(|_| tokio::spawn(handle.work().into_future())).collect();
    settle().await;
    let drain = tokio::spawn({
        let (node, handle) = (node.clone(), handle.clone());
        async move { node.drain(&handle).await }
    });
    settle().await;
    worker.gate.open();
    held.await.unwrap().unwrap();
    settle().await;
    let error = handle.work().await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    for (n, call) in queued.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Ok(n as u64));
    }
    drain.await.unwrap().unwrap();
    assert_eq!((&*worker.log.line(), node.counters().dead_letters), ("Normal", 1));
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_for_room_are_served_or_refused_and_never_lost() {
    let node = local_node().await;
    let worker = Worker::default();
    let handle = node.spawn(worker.clone());
    handle.hold().try_send().unwrap();
    worker.gate.reached(1).await;
    let callers: Vec<_> = (0..1500).map(|_| tokio::spawn(handle.work().into_future())).collect();
    settle().await;
    let drain = tokio::spawn({
        let (node, handle) = (node.clone(), handle.clone());
        async move { node.drain(&handle).await }
    });
    settle().await;
    worker.gate.open();
    let mut answered = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(_) => answered += 1,
            Err(CallError::Stopped(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    drain.await.unwrap().unwrap();
    assert_eq!(worker.ran.load(Ordering::SeqCst), answered);
    assert!(answered >= 1024, "{answered}: the whole mailbox was run");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_drains_can_call_what_was_started_before_it() {
    let node = local_node().await;
    let worker = Worker::default();
    let log = worker.log.clone();
    let handle = node.service("worker", move || worker.clone()).start().await.unwrap();
    let gate = Gate::new();
    let client = Client { worker: handle, gate: gate.clone() };
    let supervisor =
        skyhold::Supervisor::new("clients", skyhold::Strategy::Dynamic).start(&node).await.unwrap();
    let mut client = Some(client);
    let client = supervisor.spawn(skyhold::Restart::never(), move || client.take().unwrap()).await.unwrap();
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(client.work().into_future())).collect();
    gate.reached(3).await;
    let shutdown = tokio::spawn({
        let node = node.clone();
        async move { node.shutdown().await }
    });
    settle().await;
    assert_eq!(log.line(), "", "what was started first goes last");
    gate.open();
    for call in calls {
        call.await.unwrap().unwrap().unwrap();
    }
    shutdown.await.unwrap().unwrap();
    assert_eq!(log.line(), "Shutdown");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_cut_off_at_its_limit() {
    let node = Node::builder("a").shutdown_timeout(Duration::from_secs(3)).start().await.unwrap();
    let worker = Worker::default();
    let handle = node.spawn(worker.clone());
    let held = tokio::spawn(handle.hold().into_future());
    worker.gate.reached(1).await;
    let queued = tokio::spawn(handle.work().into_future());
    settle().await;
    let watch = Watch::start();
    let error = node.shutdown().await.unwrap_err();
    assert_eq!(error, ShutdownError::CutOff { tasks: 1, limit: Duration::from_secs(3) });
    watch.assert_ended_at(Duration::from_secs(3));
    assert!(matches!(held.await.unwrap(), Err(CallError::NoReply(_))));
    assert!(matches!(queued.await.unwrap(), Err(CallError::Stopped(_))));
}

#[tokio::test(start_paused = true)]
async fn a_named_service_that_does_not_drain_in_its_time_is_cut_off() {
    let node = local_node().await;
    let worker = Worker::default();
    let copy = worker.clone();
    let service = node.service("worker", move || copy.clone()).stop_within(Duration::from_secs(2));
    let handle = service.start().await.unwrap();
    let held = tokio::spawn(handle.hold().into_future());
    worker.gate.reached(1).await;
    let watch = Watch::start();
    assert!(node.drain_service("worker").await);
    watch.assert_ended_at(Duration::from_secs(2));
    assert!(matches!(held.await.unwrap(), Err(CallError::NoReply(_))));
    assert!(!node.drain_service("worker").await, "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_holds_a_drain_up_two_seconds_at_most() {
    let cluster = Cluster::start(2).await;
    cluster[0].service("worker", Worker::default).start().await.unwrap();
    WorkerHandle::lookup(&cluster[1], "worker").await.unwrap();
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    let watch = Watch::start();
    cluster[0].shutdown().await.unwrap();
    assert!(watch.elapsed() <= Duration::from_secs(5), "{:?}", watch.elapsed());
}
