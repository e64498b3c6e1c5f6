//! The manager of a node, asked by itself and by others, and the configuration of a whole cluster that is reloaded from one node.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::{Cluster, usage};
use skyhold::{Access, ConnectionReport, Limits, LookupError, ManageError, ManagerHandle, NodeReload};

use crate::config::{Folder, open};
use crate::gate::{Gate, settle};
use crate::raw::has_peers;

#[derive(Clone)]
struct Stuck(Gate);

#[service]
impl Stuck {
    pub async fn pass(&mut self) {
        self.0.pass().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_tells_of_its_node_and_its_instances_here_and_from_elsewhere() {
    let cluster = Cluster::start_with(2, |node| node.label("zone", "eu")).await;
    let gate = Gate::new();
    let stuck = Stuck(gate.clone());
    cluster[1].service("stuck", move || stuck.clone()).start().await.unwrap();
    let handle = StuckHandle::lookup(&cluster[0], "stuck").await.unwrap();
    for _ in 0..200 {
        handle.pass().send().await.unwrap();
    }
    gate.reached(1).await;
    for manager in [cluster[1].manager(), ManagerHandle::on(&cluster[0], "n1").await.unwrap()] {
        let report = manager.node().await.unwrap();
        assert_eq!((report.node.as_str(), report.incarnation), ("n1", cluster[1].incarnation()));
        assert_eq!(report.labels, [("zone".to_owned(), "eu".to_owned())]);
        assert_eq!(report.services, ["stuck"]);
        assert_eq!(report.peers.iter().map(NodeId::as_str).collect::<Vec<_>>(), ["n0"]);
        let instances = manager.instances().await.unwrap();
        let stuck = instances.iter().find(|instance| instance.service == "stuck").unwrap();
        assert_eq!(stuck.running.as_deref(), Some("pass"));
        assert_eq!((stuck.capacity, stuck.restarts), (1024, 0));
        assert!((130..200).contains(&stuck.waiting), "some are taken out already: {}", stuck.waiting);
    }
    let itself = ManagerHandle::on(&cluster[0], "n0").await.unwrap();
    assert_eq!(itself.node().await.unwrap().node.as_str(), "n0");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_nobody_asks_has_no_manager() {
    let cluster = Cluster::start(2).await;
    settle().await;
    assert_eq!(usage(&cluster[1]).instances, 0);
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    assert_eq!(usage(&cluster[1]).instances, 0);
    for _ in 0..2 {
        manager.node().await.unwrap();
        assert_eq!(usage(&cluster[1]).instances, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_manager_stops_and_drains_services_of_its_node() {
    let cluster = Cluster::start(2).await;
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    for drains in [false, true] {
        cluster[1].service("stuck", || Stuck(Gate::opened())).start().await.unwrap();
        let stopped = if drains { manager.drain("stuck".into()) } else { manager.stop("stuck".into()) };
        assert!(stopped.await.unwrap());
        assert!(!manager.stop("stuck".into()).await.unwrap(), "there is none any more");
    }
    assert_eq!(manager.plan().await.unwrap(), Err(ManageError::NoFile(cluster[1].id().clone())));
}

#[tokio::test(start_paused = true)]
async fn a_manager_is_found_where_its_node_is_connected_and_is_another_in_another_life() {
    let mut cluster = Cluster::start_with(2, |node| node.call_timeout(Duration::from_secs(2))).await;
    let error = ManagerHandle::on(&cluster[0], "n7").await.unwrap_err();
    assert!(matches!(error, LookupError::NotFound { .. }), "{error}");
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    cluster.kill(1).await;
    assert!(manager.node().await.is_err());
    cluster.restart(1).await;
    assert!(matches!(manager.node().await, Err(CallError::Stale(_))));
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    assert_eq!(manager.node().await.unwrap().incarnation, cluster[1].incarnation());
    cluster[1].shutdown().await.unwrap();
    assert!(ManagerHandle::on(&cluster[0], "n1").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn rules_of_access_say_who_may_manage() {
    let cluster =
        Cluster::start_with(3, |node| node.access(Access::open().allow("n1", "skyhold/manager"))).await;
    let allowed = ManagerHandle::on(&cluster[1], "n0").await.unwrap();
    assert!(allowed.node().await.is_ok());
    let denied = ManagerHandle::on(&cluster[2], "n0").await.unwrap();
    assert!(matches!(denied.node().await, Err(CallError::Denied(_))));
    assert!(cluster[2].manager().node().await.is_ok(), "its own");
    let error = cluster[0].service("skyhold/manager", || Stuck(Gate::opened())).start().await.unwrap_err();
    assert!(
        error.to_string().contains("begins with \"skyhold/\", which is kept for the framework"),
        "{error}"
    );
}

/// Two nodes from files, which are connected.
async fn from_files(folder: &Folder) -> (Node, Node) {
    let a = folder.start("a.toml", &open("a")).await;
    let seeds = format!("[topology]\nseeds = [\"{}\"]\n", a.address().unwrap());
    let b = folder.start("b.toml", &(open("b") + &seeds)).await;
    has_peers(&a, 1).await;
    has_peers(&b, 1).await;
    let mut watch = a.cluster().watch();
    while watch.next().await.unwrap().members.len() < 2 {}
    (a, b)
}

#[tokio::test]
async fn a_cluster_is_reloaded_from_one_node_when_all_files_can_be_used() {
    let folder = Folder::new();
    let (a, b) = from_files(&folder).await;
    let unchanged = a.cluster().reload_all().await;
    assert!(unchanged.is_done(), "{unchanged:?}");

    let timeout = "[calls]\ntimeout = \"7s\"\n";
    let (first, second) = (open("a"), std::fs::read_to_string(folder.path("b.toml")).unwrap());
    folder.write("a.toml", &(first.clone() + timeout));
    folder.write("b.toml", &(second.clone() + "[calls]\ntimeout = 7\n"));
    let refused = a.cluster().reload_all().await;
    assert!(!refused.is_done());
    let words: Vec<_> = refused.nodes.iter().map(|(node, what)| format!("{node}: {what}")).collect();
    assert_eq!(words[0], "a: could have, and keeps the old one");
    assert!(words[1].starts_with("b: refused: "), "{}", words[1]);
    assert!(words[1].contains("`calls.timeout` is the integer 7"), "{}", words[1]);
    assert_eq!(refused.failures().count(), 1);
    for node in [&a, &b] {
        assert_eq!(
            node.cluster().plan().await.map_or(0, |plan| plan.version),
            u64::from(node.id() == a.id()) * 2
        );
    }

    folder.write("b.toml", &(second + timeout));
    let done = b.cluster().reload_all().await;
    assert!(done.is_done(), "{done:?}");
    for outcome in done.nodes.values() {
        let NodeReload::Done(reload) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reload.version, 2);
        assert_eq!(reload.changes[0].to_string(), "calls.timeout from 30s to 7s (live)");
    }
}

#[tokio::test]
async fn what_was_prepared_is_put_in_force_as_it_was_and_once() {
    let folder = Folder::new();
    let a = folder.start("a.toml", &open("a")).await;
    let manager = a.manager();
    let file = |timeout| open("a") + &format!("[calls]\ntimeout = \"{timeout}s\"\n");
    folder.write("a.toml", &file(7));
    let first = manager.prepare_reload().await.unwrap().unwrap();
    assert_eq!(first.reload.changes.len(), 1);
    folder.write("a.toml", "nothing that could be used");
    assert_eq!(manager.commit_reload(first.number).await.unwrap().unwrap(), first.reload);
    let again = manager.commit_reload(first.number).await.unwrap();
    assert_eq!(again, Err(ManageError::NotPrepared { number: first.number }));

    folder.write("a.toml", &file(8));
    let second = manager.prepare_reload().await.unwrap().unwrap();
    folder.write("a.toml", &file(9));
    let third = manager.prepare_reload().await.unwrap().unwrap();
    let replaced = manager.commit_reload(second.number).await.unwrap();
    assert_eq!(replaced, Err(ManageError::NotPrepared { number: second.number }));
    manager.discard_reload(third.number).await.unwrap();
    assert!(manager.commit_reload(third.number).await.unwrap().is_err());
    let last = manager.plan().await.unwrap().unwrap();
    assert_eq!(last.changes[0].to_string(), "calls.timeout from 7s to 9s (live)");
}

/// As [`Stuck`], with a short mailbox.
#[derive(Clone)]
struct Narrow(Gate);

#[service(mailbox = 16)]
impl Narrow {
    pub async fn pass(&mut self) {
        self.0.pass().await;
    }
}

/// The connection of the first node to the second one, as its manager tells it.
async fn connection(cluster: &Cluster) -> ConnectionReport {
    let connections = cluster[0].manager().connections().await.unwrap();
    let mut to_it = connections.into_iter().filter(|connection| connection.peer.as_str() == "n1");
    let first = to_it.next().expect("they are connected");
    assert_eq!(first.number, 0);
    first
}

#[tokio::test(start_paused = true)]
async fn a_manager_tells_what_goes_over_its_connections_and_how_long_an_answer_takes() {
    let cluster = Cluster::start_with(2, |node| node.connections_per_peer(1)).await;
    cluster.delay(Duration::from_millis(7)).await;
    let gate = Gate::opened();
    let stuck = Stuck(gate.clone());
    cluster[1].service("stuck", move || stuck.clone()).start().await.unwrap();
    let handle = StuckHandle::lookup(&cluster[0], "stuck").await.unwrap();
    let before = connection(&cluster).await;
    for _ in 0..100 {
        handle.pass().await.unwrap();
    }
    let after = connection(&cluster).await;
    assert_eq!(after.round_trip, Some(Duration::from_millis(14)));
    assert_eq!((after.calls, after.served, after.reconnects), (0, 0, 0));
    assert!(after.age >= before.age + Duration::from_millis(1400), "{:?} after {:?}", after.age, before.age);
    let growth = [
        (before.frames_sent, after.frames_sent),
        (before.frames_received, after.frames_received),
        (before.bytes_sent / 8, after.bytes_sent / 8),
        (before.bytes_received / 8, after.bytes_received / 8),
    ];
    assert!(growth.iter().all(|(before, after)| after - before >= 100), "{growth:?}");
    assert!(after.frames_sent - before.frames_sent < 200, "a frame is counted once: {growth:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_tells_who_waits_for_credit() {
    let limits = Limits::default().credit(100, 64 * 1024);
    let cluster = Cluster::start_with(2, move |node| node.limits(limits).connections_per_peer(1)).await;
    let gate = Gate::new();
    let narrow = Narrow(gate.clone());
    cluster[1].service("narrow", move || narrow.clone()).start().await.unwrap();
    let handle = NarrowHandle::lookup(&cluster[0], "narrow").await.unwrap();
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.pass().await })
        })
        .collect();
    settle().await;
    let report = connection(&cluster).await;
    let (instance, waiting) = *report.waiting.first().unwrap_or_else(|| panic!("they wait: {report:?}"));
    assert_eq!((report.without_credit, report.waiting.len(), instance.0), (1, 1, 1));
    assert_eq!(report.calls + waiting, 300, "each is sent or waits");
    gate.open();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let report = connection(&cluster).await;
    assert_eq!((report.calls, report.without_credit, report.waiting.len()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_manager_counts_reconnects_and_knows_who_does_not_answer() {
    let mut cluster = Cluster::start(2).await;
    for reconnects in 1..3 {
        cluster.partition(&[0], &[1]).await;
        assert!(cluster.is_partitioned(0, 1));
        while !cluster[0].peers().is_empty() || !cluster[1].peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cluster.heal().await;
        cluster.connected().await;
        settle().await;
        let report = connection(&cluster).await;
        assert!(report.reconnects >= reconnects, "{report:?}");
        assert!(report.round_trip.is_some());
    }
    cluster.pause(1).await;
    assert!(cluster.is_paused(1));
    assert_eq!(connection(&cluster).await.round_trip, None);
    cluster.resume(1).await;
    cluster.kill(1).await;
    cluster.restart(1).await;
    assert_eq!(connection(&cluster).await.reconnects, 0, "another life");
}
