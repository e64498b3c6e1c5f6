//! Calls through a name that meet an instance which did not run them: another one does, once, in time, within a budget.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use tokio::task::JoinHandle;

use crate::gate::{Gate, Watch, settle};
use crate::raw::{Fields, Hello, Raw, kind, soon};

/// Counts on which node it ran.
#[derive(Clone, Default)]
struct Worker {
    ran: Arc<[AtomicUsize; 3]>,
    gate: Gate,
}

#[service]
impl Worker {
    /// Gives the node's name.
    pub fn work(&self, context: &Context) -> String {
        self.note(context)
    }

    /// As `work`, alone, and not before the gate opens.
    pub async fn hold(&mut self, context: &Context) -> String {
        let name = self.note(context);
        self.gate.pass().await;
        name
    }
}

impl Worker {
    fn note(&self, context: &Context) -> String {
        let name = context.address().node.to_string();
        let index: usize = name[1..].parse().unwrap();
        self.ran[index].fetch_add(1, Ordering::SeqCst);
        name
    }

    /// How often it ran on each node.
    fn ran(&self) -> [usize; 3] {
        [0, 1, 2].map(|index| self.ran[index].load(Ordering::SeqCst))
    }
}

/// Three nodes; the second and the third run the service, and the first has the handle.
struct Scene {
    cluster: Cluster,
    worker: Worker,
    routed: WorkerHandle,
}

/// From the protocol's document.
const STOPPED: u8 = 3;
const NAMES_SYNC: u8 = 0xB0;
const NAMES_SYNCED: u8 = 0xB1;

/// One way.
const WAY: Duration = Duration::from_millis(100);

impl Scene {
    async fn new(instances: [usize; 2]) -> Self {
        let cluster = Cluster::start(3).await;
        let worker = Worker::default();
        for (index, instances) in [1, 2].into_iter().zip(instances) {
            let worker = worker.clone();
            let service = cluster[index].service("worker", move || worker.clone());
            service.instances(instances).start().await.unwrap();
        }
        for node in ["n1", "n2"] {
            WorkerHandle::lookup_on(&cluster[0], node, "worker").await.unwrap();
        }
        let routed = WorkerHandle::lookup(&cluster[0], "worker").await.unwrap().balance(Balance::RoundRobin);
        Self { cluster, worker, routed }
    }

    /// A handle to the instances of one node alone.
    async fn only_on(&self, node: &str) -> WorkerHandle {
        WorkerHandle::lookup_on(&self.cluster[0], node, "worker").await.unwrap()
    }

    /// Stops the second node's instances in such a way that the first hears of it too late: calls are on their way by then.
    async fn stop_unheard(&self) {
        self.cluster.delay(WAY).await;
        assert!(self.cluster[1].stop_service("worker").await);
    }

    /// How many messages reached the second node in vain.
    fn in_vain(&self) -> u64 {
        self.cluster[1].counters().dead_letters
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_meets_a_stopped_instance_is_answered_by_another_one() {
    let scene = Scene::new([1, 1]).await;
    let only_there = scene.only_on("n1").await;
    scene.stop_unheard().await;
    let (refused, first, second) =
        tokio::join!(only_there.work().into_future(), scene.routed.work(), scene.routed.work());
    let error = refused.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "who may go nowhere else is told: {error:?}");
    assert_eq!((first, second), (Ok("n2".into()), Ok("n2".into())));
    assert_eq!(scene.in_vain(), 2, "one of the two went there first");
    assert_eq!(scene.worker.ran(), [0, 0, 2], "each ran once");
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_queued_when_their_instance_stops_run_once_elsewhere() {
    let scene = Scene::new([1, 1]).await;
    let calls = join_all((0..8).map(|_| scene.routed.hold().into_future()));
    let stop = async {
        scene.worker.gate.reached(2).await;
        settle().await;
        assert_eq!(scene.worker.ran(), [0, 1, 1], "three wait behind each");
        let stopped = scene.cluster[1].stop_service("worker");
        let open = async {
            settle().await;
            scene.worker.gate.open();
        };
        tokio::join!(stopped, open).0
    };
    let (answers, stopped) = tokio::join!(calls, stop);
    assert!(stopped);
    assert_eq!(scene.in_vain(), 3, "those behind the running one were refused there");
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|node| *node == "n2").count(), 7);
    assert_eq!(scene.worker.ran(), [0, 1, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_made_again_ends_by_its_deadline() {
    let scene = Scene::new([1, 1]).await;
    scene.stop_unheard().await;
    let watch = Watch::start();
    let limit = 3 * WAY;
    let answers = join_all((0..2).map(|_| scene.routed.work().timeout(limit).into_future())).await;
    watch.assert_ended_at(limit);
    let late: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(matches!(late[..], [CallError::Timeout(_)]), "the one that was made again: {late:?}");
    assert_eq!(scene.in_vain(), 1);
}

#[tokio::test]
async fn a_call_tries_eight_instances_and_no_more() {
    let node = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let mut peer = Raw::join(&node, &Hello::default()).await;
    let twelve = Fields::default().u8(1).u16(1).string("worker").string("worker").u16(12);
    let twelve = (1..=12).fold(twelve, Fields::u64);
    peer.write(&twelve.frame(kind::NAMES)).await;
    let routed = soon("the name", WorkerHandle::lookup(&node, "worker")).await.unwrap();
    let call = tokio::spawn(routed.work().into_future());
    let mut tried = BTreeSet::new();
    for _ in 0..8 {
        let request = peer.until(kind::REQUEST).await;
        let mut fields = request.fields();
        let (id, instance) = (fields.u64(), fields.u64());
        assert!(tried.insert(instance), "{instance} was tried before");
        let refusal = Fields::default().u64(id).u8(STOPPED).string(&format!("by {instance}"));
        peer.write(&refusal.frame(kind::FAILURE)).await;
    }
    let error = soon("the call's end", call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    assert_eq!(peer.is_served().await.iter().filter(|frame| frame.kind == kind::REQUEST).count(), 0);
}

#[tokio::test]
async fn a_peer_that_asks_hears_when_what_it_told_is_known() {
    let node = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let mut peer = Raw::join(&node, &Hello::default()).await;
    let names = Fields::default().u8(1).u16(1).string("worker").string("worker").u16(1).u64(1);
    let sync = |token| Fields::default().u64(token).frame(NAMES_SYNC);
    peer.write(&[names.frame(kind::NAMES), sync(7)].concat()).await;
    assert_eq!(peer.until(NAMES_SYNCED).await.fields().u64(), 7);
    WorkerHandle::try_lookup(&node, "worker").expect("it is known");

    let gone = Fields::default().u8(0).u16(1).string("worker").string("worker").u16(0);
    peer.write(&[gone.frame(kind::NAMES), sync(8)].concat()).await;
    assert_eq!(peer.until(NAMES_SYNCED).await.fields().u64(), 8);
    WorkerHandle::try_lookup(&node, "worker").expect_err("it is known no more");

    peer.write(&Fields::default().u64(99).frame(NAMES_SYNCED)).await; // nobody has asked
    peer.is_served().await;
}

#[tokio::test(start_paused = true)]
async fn beyond_the_budget_calls_are_told_what_their_instance_said() {
    let scene = Scene::new([4, 1]).await;
    scene.stop_unheard().await;
    let answers = join_all((0..300).map(|_| scene.routed.work().into_future())).await;
    let (ran, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(refused.iter().all(|answer| matches!(answer, Err(CallError::Stopped(_)))), "{refused:?}");
    assert!(!refused.is_empty(), "four of five were sent where nobody is");
    assert_eq!(scene.worker.ran(), [0, 0, ran.len()]);
    // A hundred tries are free, and five calls bring one more.
    let sent = scene.in_vain() + u64::try_from(ran.len()).unwrap();
    assert_eq!(sent, 300 + 100 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_connection_breaks_may_have_run_and_is_not_made_again() {
    let scene = Scene::new([1, 1]).await;
    let calls = join_all((0..2).map(|_| scene.routed.hold().into_future()));
    let kill = async {
        scene.worker.gate.reached(2).await;
        scene.cluster.kill(1).await;
        settle().await;
        scene.worker.gate.open();
    };
    let (answers, ()) = tokio::join!(calls, kill);
    let (ran, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(ran, [Ok("n2".to_owned())]);
    assert!(matches!(lost[..], [Err(CallError::Disconnected(_))]), "{lost:?}");
    assert_eq!(scene.worker.ran(), [0, 1, 1]);
}

/// A worker with room for one message.
#[derive(Clone, Default)]
struct Narrow(Worker);

#[service(mailbox = 1)]
impl Narrow {
    pub fn work(&self, context: &Context) -> String {
        self.0.note(context)
    }

    pub async fn hold(&mut self, context: &Context) -> String {
        let name = self.0.note(context);
        self.0.gate.pass().await;
        name
    }
}

type Held = JoinHandle<Result<String, CallError>>;

impl Narrow {
    /// Starts one on the second and one on the third node.
    async fn start(cluster: &Cluster) -> Self {
        let narrow = Self::default();
        for index in [1, 2] {
            let narrow = narrow.clone();
            cluster[index].service("narrow", move || narrow.clone()).start().await.unwrap();
        }
        narrow
    }

    /// Makes the instance wait for the gate in one message, and fills its mailbox with another.
    async fn fill(&self, instance: &NarrowHandle) -> [Held; 2] {
        let arrived = self.0.gate.arrived();
        let running = tokio::spawn(instance.hold().into_future());
        self.0.gate.reached(arrived + 1).await;
        let waiting = tokio::spawn(instance.hold().into_future());
        settle().await;
        [running, waiting]
    }
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_instance_is_passed_over_as_long_as_another_has_room() {
    let cluster = Cluster::start(3).await;
    let narrow = Narrow::start(&cluster).await;
    let [first, second] = ["n1", "n2"].map(|node| NarrowHandle::lookup_on(&cluster[0], node, "narrow"));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let routed = NarrowHandle::lookup(&cluster[0], "narrow").await.unwrap().balance(Balance::RoundRobin);

    let mut held = Vec::from(narrow.fill(&first).await);
    for _ in 0..6 {
        assert_eq!(routed.work().await, Ok("n2".into()));
    }
    assert_eq!(cluster[1].counters().dead_letters, 3, "every other call went there first");

    held.extend(narrow.fill(&second).await);
    held.push(tokio::spawn(routed.work().into_future()));
    settle().await;
    assert!(!held[4].is_finished(), "it waits at the last one that there is");
    let refused = cluster[1].counters().dead_letters + cluster[2].counters().dead_letters;
    assert_eq!(refused, 3 + 1);

    narrow.0.gate.open();
    for call in join_all(held).await {
        call.unwrap().unwrap();
    }
    assert_eq!(narrow.0.ran().iter().sum::<usize>(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_in_a_mailbox_that_closes_goes_to_another() {
    let cluster = Cluster::start(3).await;
    let narrow = Narrow::start(&cluster).await;
    NarrowHandle::lookup_on(&cluster[1], "n2", "narrow").await.unwrap();
    let here = NarrowHandle::lookup_on(&cluster[1], "n1", "narrow").await.unwrap();
    let routed = NarrowHandle::lookup(&cluster[1], "narrow").await.unwrap().balance(Balance::RoundRobin);

    let [running, queued] = narrow.fill(&here).await;
    // Of two one waits for room here, and the other runs there.
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(routed.work().into_future())).collect();
    settle().await;
    assert_eq!(waiting.iter().filter(|call| call.is_finished()).count(), 1);
    let open = async {
        settle().await;
        narrow.0.gate.open();
    };
    let (stopped, ()) = tokio::join!(cluster[1].stop_service("narrow"), open);
    assert!(stopped);
    for call in join_all(waiting).await {
        assert_eq!(call.unwrap(), Ok("n2".into()));
    }
    assert_eq!(running.await.unwrap(), Ok("n1".into()));
    let error = queued.await.unwrap().unwrap_err();
    assert!(
        matches!(error, CallError::Stopped(_)),
        "what was in the mailbox of this node is lost: {error:?}"
    );
    assert_eq!(narrow.0.ran(), [0, 1, 2]);
}
