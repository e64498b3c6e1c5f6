//! Two nodes that dial each other at the same time end with one connection, and no call notices.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::net::SocketAddr;
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Event, StartError};

use crate::raw::{has_peers, soon};

/// Says which node it runs on.
struct Side;

#[service]
impl Side {
    pub fn node(&self, context: &Context) -> String {
        context.node().id().to_string()
    }
}

/// Some calls from one node to another, none of which may fail.
async fn check_calls(from: &Node, to: &Node) {
    let name = to.id().to_string();
    let side = SideHandle::lookup_on(from, &name, "side").await.unwrap();
    for _ in 0..10 {
        assert_eq!(side.node().await, Ok(name.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn simultaneous_dials_after_a_partition_end_in_one_connection_a_hundred_times() {
    let cluster = Cluster::start(2).await;
    for index in 0..2 {
        cluster[index].service("side", || Side).start().await.unwrap();
    }
    for round in 0..100 {
        cluster.delay(Duration::from_millis(round % 5)).await;
        cluster.partition(&[0], &[1]).await;
        assert!(cluster.is_partitioned(0, 1));
        // Both give the other up, and both dial: their attempts are held back until the partition heals.
        while !cluster[0].peers().is_empty() || !cluster[1].peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(200 + round * 13)).await;
        cluster.heal().await;
        cluster.connected().await;
        tokio::join!(check_calls(&cluster[0], &cluster[1]), check_calls(&cluster[1], &cluster[0]));
        check_settled(&cluster, round).await;
        tokio::join!(check_calls(&cluster[0], &cluster[1]), check_calls(&cluster[1], &cluster[0]));
    }
}

/// Checks that after a moment no peer comes or goes any more.
async fn check_settled(cluster: &Cluster, round: u64) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut events = [cluster[0].events(), cluster[1].events()];
    let [first, second] = &mut events;
    let change = async {
        loop {
            let event = tokio::select! {
                event = first.next() => event,
                event = second.next() => event,
            };
            if let Some(Event::PeerUp { .. } | Event::PeerDown { .. }) = event {
                return event;
            }
        }
    };
    let change = tokio::time::timeout(Duration::from_secs(3), change).await;
    assert!(change.is_err(), "round {round}: {change:?}");
}

/// How many connections are established from or to these ports, as the system sees it; nothing where it does not tell.
fn established(ports: &[u16]) -> Option<usize> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let ends = table.lines().skip(1).filter(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next(), fields.next(), fields.next());
        let port = local.and_then(|local| u16::from_str_radix(local.rsplit(':').next()?, 16).ok());
        state == Some(ESTABLISHED) && port.is_some_and(|port| ports.contains(&port))
    });
    // Of each connection one end has the port on which its node listens; the other end's is a free one.
    Some(ends.count())
}

/// Two nodes, started at the same time, each of which has the other for its seed.
async fn pair(run: usize) -> (Node, Node) {
    let start = |name: &str, listen: SocketAddr, seed: SocketAddr| {
        let node = Node::builder(name).insecure_without_secret().cluster(format!("pair-{run}"));
        node.listen(listen.to_string()).seed(seed.to_string()).start()
    };
    loop {
        // Ports that were free a moment ago; should somebody have taken one, others are tried.
        let free = [0; 2].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
        let [a, b] = free.map(|free| free.local_addr().unwrap());
        match tokio::join!(start("first", a, b), start("second", b, a)) {
            (Ok(first), Ok(second)) => return (first, second),
            (Err(StartError::Listen { .. }), _) | (_, Err(StartError::Listen { .. })) => {}
            (first, second) => panic!("{first:?} {second:?}"),
        }
    }
}

/// Calls both ways until exactly one connection is left, and checks that no call noticed anything on the way.
async fn check_one_connection(first: &Node, second: &Node) {
    let mut events = [first.events(), second.events()];
    let services = (first.service("side", || Side).start(), second.service("side", || Side).start());
    let (one, other) = tokio::join!(services.0, services.1);
    one.unwrap();
    other.unwrap();
    tokio::join!(has_peers(first, 1), has_peers(second, 1));
    let ports: Vec<_> = [first, second].iter().filter_map(|node| Some(node.address()?.port())).collect();
    soon("exactly one connection", async {
        loop {
            tokio::join!(check_calls(first, second), check_calls(second, first));
            if established(&ports).is_none_or(|connections| connections == 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    tokio::join!(check_calls(first, second), check_calls(second, first));
    for events in &mut events {
        while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            assert!(!matches!(event, Some(Event::PeerDown { .. })), "{event:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_seed_each_other_end_with_exactly_one_connection_a_hundred_times() {
    let check_pair = async |run| {
        let (first, second) = pair(run).await;
        check_one_connection(&first, &second).await;
    };
    for batch in 0..4 {
        futures_util::future::join_all((0..25).map(|run| check_pair(batch * 25 + run))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_addresses_of_one_peer_end_with_exactly_one_connection_a_hundred_times() {
    let check_pair = async |()| {
        let server =
            Node::builder("server").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
        let port = server.address().unwrap().port();
        let client = Node::builder("client")
            .insecure_without_secret()
            .seed(format!("127.0.0.1:{port}"))
            .seed(format!("localhost:{port}"));
        let client = client.start().await.unwrap();
        check_one_connection(&client, &server).await;
    };
    for _ in 0..4 {
        futures_util::future::join_all((0..25).map(|_| check_pair(()))).await;
    }
}
