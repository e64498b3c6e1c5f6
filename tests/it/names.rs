//! Names: how a service is found, wherever it is, and how the cluster forgets it.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::collections::BTreeMap;
use std::time::Duration;

use skyhold::Restart;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Event, LookupError, StartError};
use tokio::time::Instant;

/// Says where it is.
#[derive(Default)]
struct Where {
    marked: u64,
}

#[service]
impl Where {
    pub fn address(&self, context: &Context) -> String {
        context.address().to_string()
    }

    pub fn node(&self, context: &Context) -> String {
        context.node().id().to_string()
    }

    pub fn mark(&mut self, mark: u64) {
        self.marked = mark;
    }

    pub fn marked(&self) -> u64 {
        self.marked
    }

    pub fn explode(&self) {
        panic!("the instance ends here");
    }
}

/// Another interface.
struct Other;

#[service]
impl Other {
    pub fn nothing(&self) {}
}

/// Waits until `is_so`, which takes only as long as news take from node to node.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("this never came to be: {what}");
}

fn is_known(node: &Node, name: &str) -> bool {
    WhereHandle::try_lookup(node, name).is_ok()
}

/// Where so many calls one after the other arrive.
async fn spread(handle: &WhereHandle, calls: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..calls {
        *spread.entry(handle.address().await.unwrap()).or_default() += 1;
    }
    spread
}

#[tokio::test(start_paused = true)]
async fn lookup_waits_for_the_name_to_appear() {
    let cluster = Cluster::start(2).await;
    assert!(!is_known(&cluster[0], "late"));
    let begin = Instant::now();
    let appear = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster[1].service("late", Where::default).start().await.unwrap()
    };
    let (found, _) = tokio::join!(WhereHandle::lookup(&cluster[0], "late"), appear);
    assert_eq!(found.unwrap().node().await, Ok("n1".to_owned()));
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn lookup_gives_up_after_the_call_timeout_and_names_what_it_looked_for() {
    let cluster = Cluster::start_with(2, |node| node.call_timeout(Duration::from_secs(3))).await;
    let begin = Instant::now();
    let error = WhereHandle::lookup(&cluster[0], "nobody").await.unwrap_err();
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3100), "{took:?}");
    assert!(matches!(error, LookupError::NotFound { .. }), "{error:?}");
    assert_eq!(error.to_string(), "no service named \"nobody\" is known to node n0 after waiting 3s");
    let error = WhereHandle::lookup_on(&cluster[0], "n1", "nobody").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no service named \"nobody\" on node \"n1\" is known to node n0 after waiting 3s"
    );
}

#[tokio::test(start_paused = true)]
async fn try_lookup_answers_at_once() {
    let cluster = Cluster::start(2).await;
    let begin = Instant::now();
    let error = WhereHandle::try_lookup(&cluster[0], "where").unwrap_err();
    assert_eq!(error.to_string(), "no service named \"where\" is known to node n0");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    cluster[1].service("where", Where::default).start().await.unwrap();
    eventually("the name is known", || is_known(&cluster[0], "where")).await;
}

#[tokio::test(start_paused = true)]
async fn lookup_on_finds_the_instances_of_that_node_alone() {
    let cluster = Cluster::start(3).await;
    for index in [1, 2] {
        cluster[index].service("where", Where::default).instances(2).start().await.unwrap();
    }
    for (node, expected) in [("n1", ["n1#1", "n1#2"]), ("n2", ["n2#1", "n2#2"])] {
        let there = WhereHandle::lookup_on(&cluster[0], node, "where").await.unwrap();
        let spread = spread(&there, 10).await;
        assert_eq!(spread.keys().collect::<Vec<_>>(), expected);
    }
    let not_there = WhereHandle::lookup_on(&cluster[0], "n0", "where").await.unwrap_err();
    assert!(matches!(not_there, LookupError::NotFound { .. }), "{not_there:?}");
    let no_such_node = WhereHandle::lookup_on(&cluster[0], "n9", "where").await.unwrap_err();
    assert!(matches!(no_such_node, LookupError::NotFound { .. }), "{no_such_node:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_another_interface_is_said_to_be_one() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("other", || Other).start().await.unwrap();
    for node in [&cluster[0], &cluster[1]] {
        let error = WhereHandle::lookup(node, "other").await.unwrap_err();
        assert!(matches!(error, LookupError::Interface { .. }), "{error:?}");
        assert_eq!(error.to_string(), "service \"other\" has the interface `other`, not `where`");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_take_turns_exactly_over_all_instances_of_all_nodes() {
    let cluster = Cluster::start(3).await;
    for index in 0..3 {
        cluster[index].service("where", Where::default).instances(index + 1).start().await.unwrap();
    }
    for index in 0..3 {
        let node = &cluster[index];
        for other in ["n0", "n1", "n2"] {
            WhereHandle::lookup_on(node, other, "where").await.unwrap();
        }
        let handle = WhereHandle::lookup(node, "where").await.unwrap().balance(Balance::RoundRobin);
        let spread = spread(&handle, 600).await;
        assert_eq!(spread.len(), 6, "{spread:?}");
        assert!(spread.values().all(|&calls| calls == 100), "{spread:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_sees_instances_that_come_after_it() {
    let cluster = Cluster::start(3).await;
    cluster[1].service("where", Where::default).start().await.unwrap();
    let handle = WhereHandle::lookup(&cluster[0], "where").await.unwrap().balance(Balance::RoundRobin);
    assert_eq!(spread(&handle, 10).await.len(), 1);
    cluster[2].service("where", Where::default).start().await.unwrap();
    WhereHandle::lookup_on(&cluster[0], "n2", "where").await.unwrap();
    spread(&handle, 1).await; // the new one begins slowly, with the first call that finds it
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(spread(&handle, 10).await, BTreeMap::from([("n1#1".into(), 5), ("n2#1".into(), 5)]));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_group_leaves_the_whole_cluster() {
    let cluster = Cluster::start(3).await;
    let handle = cluster[0].service("where", Where::default).instances(3).start().await.unwrap();
    let remote = WhereHandle::lookup(&cluster[2], "where").await.unwrap();
    cluster[0].stop(&handle).await.unwrap();
    assert!(!is_known(&cluster[0], "where"), "the node itself knows at once");
    eventually("all have forgotten it", || (1..3).all(|index| !is_known(&cluster[index], "where"))).await;
    let error = remote.address().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    // The name is free again, and the old handle finds who has it now.
    cluster[1].service("where", Where::default).start().await.unwrap();
    WhereHandle::lookup(&cluster[2], "where").await.unwrap();
    assert_eq!(remote.node().await, Ok("n1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_died_is_called_no_more() {
    let cluster = Cluster::start(2).await;
    let where_ = cluster[1].service("where", Where::default).instances(3);
    where_.restart(Restart::never()).start().await.unwrap();
    let remote = WhereHandle::lookup(&cluster[0], "where").await.unwrap().balance(Balance::RoundRobin);
    let error = remote.explode().await.unwrap_err();
    assert!(matches!(error, CallError::Panicked(_)), "{error:?}");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let spread = spread(&remote, 100).await;
    assert_eq!(spread.into_values().collect::<Vec<_>>(), [50, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_last_instance_died_is_gone() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("where", Where::default).restart(Restart::never()).start().await.unwrap();
    let remote = WhereHandle::lookup(&cluster[0], "where").await.unwrap();
    remote.explode().await.unwrap_err();
    eventually("the name is gone", || !is_known(&cluster[0], "where")).await;
    let error = remote.address().await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    cluster[1].service("where", Where::default).start().await.expect("the name is free again");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_answers_no_route_or_disconnected_and_never_hangs() {
    let cluster = Cluster::start(3).await;
    cluster[1].service("where", Where::default).start().await.unwrap();
    let routed = WhereHandle::lookup(&cluster[0], "where").await.unwrap();
    let on_it = WhereHandle::lookup_on(&cluster[0], "n1", "where").await.unwrap();
    cluster.kill(1).await;
    let begin = Instant::now();
    for handle in [&routed, &on_it, &routed, &on_it] {
        let error = handle.address().await.unwrap_err();
        assert!(matches!(error, CallError::NoRoute(_) | CallError::Disconnected(_)), "{error:?}");
    }
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    eventually("the name is gone", || !is_known(&cluster[0], "where") && !is_known(&cluster[2], "where"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down_takes_its_names_with_it() {
    let cluster = Cluster::start(3).await;
    for index in [1, 2] {
        cluster[index].service("where", Where::default).start().await.unwrap();
        WhereHandle::lookup_on(&cluster[0], &format!("n{index}"), "where").await.unwrap();
    }
    let handle = WhereHandle::lookup(&cluster[0], "where").await.unwrap();
    cluster[1].shutdown().await.unwrap();
    assert_eq!(spread(&handle, 10).await, BTreeMap::from([("n2#1".into(), 10)]));
    eventually("the peer is gone", || cluster[0].peers().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_names_of_a_new_life_replace_those_of_the_old_one() {
    let mut cluster = Cluster::start(2).await;
    cluster[1].service("where", Where::default).start().await.unwrap();
    cluster[1].service("only before", Where::default).start().await.unwrap_err(); // no white space in names
    cluster[1].service("only-before", Where::default).start().await.unwrap();
    let handle = WhereHandle::lookup(&cluster[0], "where").await.unwrap();
    WhereHandle::lookup(&cluster[0], "only-before").await.unwrap();
    handle.mark(1).await.unwrap();
    let first = cluster[1].incarnation();
    cluster.restart(1).await;
    assert!(cluster[1].incarnation() > first);
    cluster[1].service("where", Where::default).start().await.unwrap();
    WhereHandle::lookup(&cluster[0], "where").await.unwrap();
    assert_eq!(handle.marked().await, Ok(0), "the old handle leads to the new life");
    assert!(!is_known(&cluster[0], "only-before"));
}

#[tokio::test(start_paused = true)]
async fn who_connects_later_learns_all_names() {
    let mut cluster = Cluster::start(2).await;
    for number in 0..1200 {
        cluster[0].service(format!("where-{number}"), Where::default).start().await.unwrap();
    }
    cluster.restart(1).await;
    for number in [0, 600, 1199] {
        WhereHandle::lookup(&cluster[1], &format!("where-{number}")).await.unwrap();
    }
    let all = (0..1200).all(|number| is_known(&cluster[1], &format!("where-{number}")));
    assert!(all, "every name is known");
}

/// Waits, over real sockets, until the node is connected with so many peers.
async fn has_peers(node: &Node, count: usize) {
    crate::raw::has_peers(node, count).await;
}

#[tokio::test]
async fn nodes_with_one_seed_find_each_other() {
    let hub = Node::builder("hub").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let seed = hub.address().unwrap().to_string();
    let mut nodes = vec![hub];
    for name in ["a", "z", "b", "y"] {
        let node = Node::builder(name)
            .insecure_without_secret()
            .listen("127.0.0.1:0")
            .seed(&seed)
            .start()
            .await
            .unwrap();
        node.service(name, Where::default).start().await.unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        has_peers(node, 4).await;
    }
    for node in &nodes {
        for name in ["a", "z", "b", "y"] {
            let found = WhereHandle::lookup(node, name).await.unwrap();
            assert_eq!(found.node().await, Ok(name.to_owned()));
        }
    }
}

#[tokio::test]
async fn a_seed_may_come_up_later() {
    let (early, late) = loop {
        // A port that was free a moment ago; should somebody have taken it, another is tried.
        let seed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let early = Node::builder("early").insecure_without_secret().seed(&seed).start().await.unwrap();
        match Node::builder("late").insecure_without_secret().listen(&seed).start().await {
            Ok(late) => break (early, late),
            Err(StartError::Listen { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let mut events = early.events();
    late.service("where", Where::default).start().await.unwrap();
    let found = WhereHandle::lookup(&early, "where").await.unwrap();
    assert_eq!(found.node().await, Ok("late".to_owned()));
    let up = crate::raw::soon("an event", events.next()).await;
    assert!(matches!(&up, Some(Event::PeerUp { peer, .. }) if peer.as_str() == "late"), "{up:?}");
}

#[tokio::test]
async fn a_node_that_does_not_listen_is_called_over_the_connection_that_it_made() {
    let server =
        Node::builder("server").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let client = Node::builder("client")
        .insecure_without_secret()
        .seed(server.address().unwrap().to_string())
        .start()
        .await
        .unwrap();
    client.service("where", Where::default).start().await.unwrap();
    let found = WhereHandle::lookup(&server, "where").await.unwrap();
    assert_eq!(found.node().await, Ok("client".to_owned()));
    assert_eq!(client.address(), None);
}
