//! Several connections to one peer: what is promised holds over all of them together. Every test of a `Cluster` runs with four if
//! `SKYHOLD_TESTING_CONNECTIONS` is 4.

mod hostile;
mod relay;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use skyhold::prelude::*;
use skyhold::testing::{Cluster, first_revision};
use skyhold::{Limits, NodeBuilder, StartError};

use crate::gate::{Gate, Log, Watch, settle};
use crate::raw::soon;

/// Does what its caller says, and shows the test what it did.
#[derive(Clone, Default)]
struct Probe {
    log: Log,
    gate: Gate,
    runs: Arc<AtomicU64>,
}

#[service(mailbox = 10_000)]
impl Probe {
    #[on_down]
    fn down(&mut self, down: Down) {
        self.log.add(format!("{:?}", down.reason));
    }

    pub fn note(&mut self, number: u64, padding: Vec<u8>) -> u64 {
        drop(padding);
        self.log.add(number.to_string());
        number
    }

    pub fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        bytes
    }

    pub fn count(&self, to: u64) -> impl Stream<Item = u64> {
        stream::iter(0..to)
    }

    pub async fn sum(&self, mut numbers: Streaming<u64>) -> u64 {
        let mut sum = 0;
        while let Some(Ok(number)) = numbers.next().await {
            sum += number;
        }
        sum
    }

    /// Takes a millisecond.
    pub async fn work(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.runs.fetch_add(1, Ordering::SeqCst);
    }

    pub async fn hold(&self) -> u64 {
        self.gate.pass().await;
        7
    }

    pub async fn watch_other(&mut self, context: &Context, other: ProbeHandle) {
        context.watch(&other);
    }

    /// Tells the other one some things, which take longer than an end does, and ends.
    pub async fn say_and_stop(&mut self, context: &Context, other: ProbeHandle, count: u64) {
        for number in 0..count {
            other.note(number, vec![7; 12_000]).send().await.unwrap();
        }
        context.stop();
    }
}

/// How many instances there are, so that each of the connections has some.
const INSTANCES: usize = 16;

/// Two nodes with so many connections between them; the second one has instances of which the first one has handles.
struct Scene {
    cluster: Cluster,
    probes: Vec<Probe>,
    handles: Vec<ProbeHandle>,
}

impl Scene {
    async fn new(connections: usize) -> Self {
        Self::of(Cluster::start_with(2, move |node| node.connections_per_peer(connections)).await).await
    }

    async fn of(cluster: Cluster) -> Self {
        let (probes, handles) = start(&cluster[1], &cluster[0]).await;
        Self { cluster, probes, handles }
    }
}

/// Starts the instances on one node, and gives handles to them on the other.
async fn start(on: &Node, seen_from: &Node) -> (Vec<Probe>, Vec<ProbeHandle>) {
    let probes = vec![(); INSTANCES].into_iter().map(|()| Probe::default()).collect::<Vec<_>>();
    let mut handles = Vec::new();
    for (number, probe) in probes.iter().enumerate() {
        let (name, probe) = (format!("{}-{number}", on.id()), probe.clone());
        on.service(&name, move || probe.clone()).start().await.unwrap();
        handles.push(soon("a name", ProbeHandle::lookup(seen_from, &name)).await.unwrap());
    }
    (probes, handles)
}

fn numbers(to: u64) -> String {
    (0..to).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn all_that_a_handle_says_to_an_instance_arrives_in_its_order_however_long_it_is() {
    let scene = Scene::new(4).await;
    scene.cluster.delay(Duration::from_millis(1)).await;
    let speakers = scene.handles.iter().enumerate().map(|(index, handle)| async move {
        for number in 0..60 {
            let length = [10, 100_000, 1000, 70_000, 0, 300_000][(number as usize + index) % 6];
            let message = handle.note(number, vec![7; length]);
            if number % 7 == 3 {
                assert_eq!(message.await, Ok(number));
            } else {
                message.send().await.unwrap();
            }
        }
        // Behind all of it.
        handle.note(60, vec![]).await.unwrap()
    });
    join_all(speakers).await;
    for probe in &scene.probes {
        assert_eq!(probe.log.line(), numbers(61));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_streams_and_watches_go_over_each_connection() {
    for connections in [2, 4, 8] {
        let scene = Scene::new(connections).await;
        for handle in &scene.handles {
            assert_eq!(handle.echo(vec![1; 200_000]).await.unwrap().len(), 200_000);
            let items: Vec<_> = handle.count(1000).await.unwrap().map(Result::unwrap).collect().await;
            assert_eq!(items.len(), 1000);
            assert_eq!(handle.sum(Streaming::new(stream::iter(1..=100))).await, Ok(5050));
            let mut watch = handle.watch();
            handle.say_and_stop(handle.clone(), 0).send().await.unwrap();
            assert_eq!(soon("an end", watch.next()).await.unwrap().reason, skyhold::StopReason::Normal);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_comes_after_all_that_the_instance_has_said_over_whichever_connection() {
    let scene = Scene::new(4).await;
    let (watchers, handles) = start(&scene.cluster[0], &scene.cluster[1]).await;
    let mut here = Vec::new();
    for number in 0..INSTANCES {
        here.push(ProbeHandle::lookup(&scene.cluster[0], &format!("n0-{number}")).await.unwrap());
    }
    scene.cluster.delay(Duration::from_millis(1)).await;
    // Each of one side watches another one of the other side, which ends: most of these pairs use two connections.
    let pairs = scene.handles.iter().enumerate().map(|(index, speaker)| {
        let watcher = (index * 5 + 3) % INSTANCES;
        let (watcher, its_address) = (here[watcher].clone(), handles[watcher].clone());
        async move {
            watcher.watch_other(speaker.clone()).await.unwrap();
            speaker.say_and_stop(its_address, 60).send().await.unwrap();
        }
    });
    join_all(pairs).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for watcher in &watchers {
        assert_eq!(watcher.log.line(), format!("{} Normal", numbers(60)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_loses_no_call() {
    let cluster = Cluster::start_with(3, |node| node.connections_per_peer(4)).await;
    let probe = Probe::default();
    for node in [0, 1] {
        let probe = probe.clone();
        cluster[node].service("worker", move || probe.clone()).instances(8).start().await.unwrap();
    }
    let (end, mut callers) = (Arc::new(AtomicBool::new(false)), Vec::new());
    for _ in 0..24 {
        let (end, handle) = (Arc::clone(&end), ProbeHandle::lookup(&cluster[2], "worker").await.unwrap());
        callers.push(tokio::spawn(async move {
            let mut calls = 0_u64;
            while !end.load(Ordering::SeqCst) {
                handle.work().await.unwrap_or_else(|error| panic!("call {calls}: {error}"));
                calls += 1;
            }
            calls
        }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(probe.runs.load(Ordering::SeqCst) > 100, "the load is there");
    cluster[0].shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    end.store(true, Ordering::SeqCst);
    let calls: u64 = join_all(callers).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(probe.runs.load(Ordering::SeqCst), calls);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_answers_the_calls_under_way_over_each_connection_first() {
    let scene = Scene::new(4).await;
    scene.cluster.delay(Duration::from_millis(5)).await;
    let calls: Vec<_> =
        scene.handles.iter().map(|handle| tokio::spawn(handle.hold().into_future())).collect();
    for probe in &scene.probes {
        probe.gate.reached(1).await;
    }
    let going = async {
        let gates = async {
            settle().await;
            scene.probes.iter().for_each(|probe| probe.gate.open());
        };
        tokio::join!(scene.cluster[1].shutdown(), gates).0
    };
    going.await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_peer_comes_back_with_all_its_connections_and_calls_wait_for_it() {
    let scene = Scene::new(4).await;
    scene.cluster.partition(&[0], &[1]).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(scene.cluster[0].peers(), [], "it is given up");
    let calls: Vec<_> =
        scene.handles.iter().map(|handle| tokio::spawn(handle.echo(vec![1]).into_future())).collect();
    settle().await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    scene.cluster.heal().await;
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(vec![1]));
    }
}

#[tokio::test(start_paused = true)]
async fn where_further_connections_find_no_place_one_takes_all() {
    let began = Watch::start();
    let cluster = Cluster::start_with(2, |node| {
        // For the first connection and one more.
        node.connections_per_peer(4).limits(Limits::default().connections(2))
    })
    .await;
    began.assert_ended_at(Duration::from_secs(2));
    let scene = Scene::of(cluster).await;
    for handle in &scene.handles {
        assert_eq!(handle.echo(vec![1; 100_000]).await.unwrap().len(), 100_000);
    }
    let (probes, handles) = start(&scene.cluster[0], &scene.cluster[1]).await;
    join_all(handles.iter().map(|handle| handle.echo(vec![1]).into_future())).await;
    assert!(probes.iter().all(|probe| probe.runs.load(Ordering::SeqCst) == 1));
}

#[tokio::test(start_paused = true)]
async fn nodes_of_different_wishes_and_ages_work_together() {
    let wishes: [fn(NodeBuilder) -> NodeBuilder; 4] = [
        |node| node.connections_per_peer(8),
        |node| node.connections_per_peer(2),
        |node| node,
        |node| first_revision(node.connections_per_peer(4)),
    ];
    let started = AtomicUsize::new(0);
    let cluster =
        Cluster::start_with(4, move |node| wishes[started.fetch_add(1, Ordering::SeqCst)](node)).await;
    for on in 0..4 {
        let (probes, _) = start(&cluster[on], &cluster[(on + 1) % 4]).await;
        for from in (0..4).filter(|from| *from != on) {
            for number in 0..INSTANCES {
                let handle = ProbeHandle::lookup(&cluster[from], &format!("n{on}-{number}")).await.unwrap();
                for note in 0..3 {
                    handle.note(note, vec![7; [0, 100_000, 0][note as usize]]).send().await.unwrap();
                }
                assert_eq!(handle.note(3, vec![]).await, Ok(3));
            }
        }
        for probe in probes {
            assert_eq!(probe.log.line(), [numbers(4), numbers(4), numbers(4)].join(" "));
        }
    }
}

#[tokio::test]
async fn a_number_of_connections_that_cannot_be_is_refused_by_name() {
    for number in [0, 3, 5, 16, usize::MAX] {
        let error = Node::builder("a").connections_per_peer(number).start().await.unwrap_err();
        assert!(matches!(error, StartError::InvalidSetting { setting: "connections_per_peer", .. }));
        let text = error.to_string();
        assert!(text.contains(&number.to_string()) && text.contains("1, 2, 4 or 8 is expected"), "{text}");
    }
}
