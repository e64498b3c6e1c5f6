//! Clients: nodes that call the services of a cluster without being members of it.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Access, Event, EventReport, ManagerHandle, Pace, StartError, Strategy, Supervisor};

use crate::gate::settle;
use crate::instances::{Place, PlaceHandle};
use crate::raw::soon;

/// Keeps what calls it.
#[derive(Default)]
struct Back(Vec<PlaceHandle>);

#[service]
impl Back {
    /// Calls back through a handle that the caller has sent.
    pub async fn call_back(&mut self, place: PlaceHandle) -> String {
        let node = place.node().await;
        self.0.push(place);
        node.unwrap_or_default()
    }
}

/// Waits until a node is connected with so many.
async fn connected(node: &Node, count: usize) {
    soon("peers", async {
        while node.peers().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn members(node: &Node) -> Vec<String> {
    node.cluster().members().members.iter().map(|member| member.node.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_calls_services_of_nodes_that_its_seed_knows_and_is_called_back() {
    let cluster = Cluster::start(3).await;
    cluster[2].service("place", Place::default).start().await.unwrap();
    cluster[1].service("back", Back::default).start().await.unwrap();
    let client = cluster.client("a-console", 0).await;
    let place = PlaceHandle::lookup(&client, "place").await.unwrap();
    assert_eq!(place.node().await.unwrap(), "n2");
    connected(&client, 3).await;
    let back = BackHandle::lookup(&client, "back").await.unwrap();
    assert_eq!(back.call_back(client.spawn(Place)).await.unwrap(), "a-console");
    for node in 0..3 {
        let manager = ManagerHandle::on(&client, &format!("n{node}")).await.unwrap();
        assert_eq!(manager.node().await.unwrap().node.as_str(), format!("n{node}"));
        let seen = manager.members().await.unwrap();
        assert_eq!(seen.members.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_no_member_and_its_end_is_nobodys_death() {
    let cluster = Cluster::start_with(3, |node| node.expected_nodes(3)).await;
    settle().await;
    let mut events = cluster[1].events();
    for name in ["a-client", "z-client"] {
        let client = cluster.client(name, 1).await;
        connected(&client, 3).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        for node in 0..3 {
            assert_eq!(members(&cluster[node]), ["n0", "n1", "n2"]);
            assert!(cluster[node].cluster().has_quorum());
        }
        assert!(!client.cluster().has_quorum());
        let all = cluster[0].cluster().reload_all().await;
        assert_eq!(all.nodes.len(), 3, "{all:?}");
        if name == "a-client" {
            client.shutdown().await.unwrap();
        } else {
            drop(client); // abruptly
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let mut seen = Vec::new();
    while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
        seen.push(event);
    }
    let is_of_member = |event: &&Event| {
        matches!(
            event,
            Event::MemberJoined { .. }
                | Event::MemberSuspected { .. }
                | Event::MemberLeft { .. }
                | Event::MemberDied { .. }
                | Event::QuorumLost { .. }
        )
    };
    assert_eq!(seen.iter().find(is_of_member), None);
    let ups = seen.iter().filter(|event| matches!(event, Event::PeerUp { .. })).count();
    assert_eq!(ups, 2, "it saw both: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_comes_back_after_its_nodes_do() {
    let mut cluster = Cluster::start(2).await;
    cluster[1].service("place", Place::default).start().await.unwrap();
    let client = cluster.client("client", 0).await;
    let place = PlaceHandle::lookup(&client, "place").await.unwrap();
    place.node().await.unwrap();
    for node in [0, 1] {
        cluster.kill(node).await;
        cluster.restart(node).await;
    }
    cluster.connected().await;
    cluster[1].service("place", Place::default).start().await.unwrap();
    let place = PlaceHandle::lookup(&client, "place").await.unwrap();
    assert_eq!(soon("an answer", async { place.node().await }).await.unwrap(), "n1");
    connected(&client, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_runs_nothing_under_a_name_and_does_not_listen() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client("client", 0).await;
    let error = client.service("place", Place::default).start().await.unwrap_err();
    assert!(matches!(&error, StartError::Client(node) if node == client.id()), "{error}");
    assert_eq!(error.to_string(), "node client is a client, and runs no services under names");
    let error = Node::builder("b").client().listen("127.0.0.1:0").start().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "setting `client`: a client does not listen, and it is to listen on \"127.0.0.1:0\""
    );
}

#[tokio::test(start_paused = true)]
async fn rules_of_access_hold_for_clients_by_their_names() {
    let rules = || Access::open().allow("admin-*", "skyhold/manager");
    let cluster = Cluster::start_with(1, move |node| node.access(rules())).await;
    for (name, is_allowed) in [("admin-1", true), ("guest", false)] {
        let client = cluster.client(name, 0).await;
        let manager = ManagerHandle::on(&client, "n0").await.unwrap();
        let answer = manager.node().await;
        assert_eq!(answer.is_ok(), is_allowed, "{answer:?}");
        assert!(is_allowed || matches!(answer, Err(CallError::Denied(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_steers_the_members_together() {
    let cluster = Cluster::start(2).await;
    for node in 0..2 {
        cluster[node].service("place", Place::default).start().await.unwrap();
    }
    let client = cluster.client("client", 1).await;
    connected(&client, 2).await;
    let answers = client.cluster().select().restart("place", Pace::Rolling).await;
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.values().all(|answer| *answer == Ok(true)), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_tells_services_events_rules_and_who_supervises_whom() {
    let cluster = Cluster::start_with(2, |node| node.label("zone", "eu")).await;
    cluster[1].service("place", Place::default).instances(2).start().await.unwrap();
    let inner = Supervisor::new("inner", Strategy::RestForOne)
        .child(cluster[1].service("deep", Place::default))
        .child(cluster[1].service("deeper", Place::default));
    let _outer = Supervisor::new("outer", Strategy::OneForAll).child(inner).start(&cluster[1]).await.unwrap();
    let client = cluster.client("client", 0).await;
    PlaceHandle::lookup(&client, "deeper").await.unwrap();
    let manager = ManagerHandle::on(&client, "n0").await.unwrap();
    let services = manager.services().await.unwrap();
    let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["deep", "deeper", "place"]);
    assert_eq!((services[2].instances.len(), services[2].interface.as_str()), (2, "place"));
    assert_eq!(services[2].instances[0].address.node.as_str(), "n1");
    assert_eq!(services[2].instances[0].labels.get("zone"), Some("eu"));
    assert!(manager.routes().await.unwrap().is_empty());
    assert!(manager.tree().await.unwrap().is_empty());

    let manager = ManagerHandle::on(&client, "n1").await.unwrap();
    let mut events = manager.events().await.unwrap();
    let tree = manager.tree().await.unwrap();
    let names: Vec<_> = tree.iter().map(|tree| (tree.name.as_str(), tree.children.len())).collect();
    assert_eq!(names, [("place", 2), ("outer", 1)]);
    let inner = &tree[1].children[0];
    assert_eq!((inner.name.as_str(), inner.strategy), ("inner", Some(Strategy::RestForOne)));
    assert_eq!(inner.children[1].name, "deeper");
    assert_eq!(inner.children[1].address.as_ref().unwrap().node.as_str(), "n1");
    assert!(cluster[1].stop_service("place").await);
    let event = soon("an event", events.next()).await.unwrap().unwrap();
    let EventReport::Happened { node, event, .. } = event else { panic!("{event:?}") };
    assert_eq!(node.as_str(), "n1");
    assert!(matches!(&event, Event::InstanceEnded { service, .. } if service == "place"), "{event:?}");
    assert!(manager.counters().await.unwrap().instances_ended >= 1);
}
