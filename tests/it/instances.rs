//! The instances of a name as nodes see them: their labels, their changes, and names that one node alone has.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::{Cluster, usage};
use skyhold::{Event, Instances, InstancesWatch, LookupError};

use crate::gate::settle;
use crate::raw::soon;

/// Says where it is.
#[derive(Default)]
pub(crate) struct Place;

#[service]
impl Place {
    pub fn node(&self, context: &Context) -> String {
        context.node().id().to_string()
    }
}

/// The next snapshot of so many instances.
async fn next(watch: &mut InstancesWatch, count: usize) -> Instances {
    let all = async {
        loop {
            let instances = watch.next().await.expect("the node lives");
            if instances.instances.len() == count {
                return instances;
            }
        }
    };
    soon("so many instances", all).await
}

#[tokio::test(start_paused = true)]
async fn the_instances_of_a_name_are_a_snapshot_and_then_each_change() {
    let cluster = Cluster::start_with(3, |node| node.label("disk", "fast")).await;
    cluster[0].service("place", Place::default).label("zone", "eu").start().await.unwrap();
    let place = PlaceHandle::lookup(&cluster[2], "place").await.unwrap();
    let mut watch = place.watch_instances().unwrap();
    let first = next(&mut watch, 1).await;
    assert_eq!(first.instances[0].labels.to_string(), "disk=fast, zone=eu");
    assert_eq!(first.instances[0].address.node.as_str(), "n0");

    cluster[1].service("place", Place::default).instances(2).label("disk", "slow").start().await.unwrap();
    let second = next(&mut watch, 3).await;
    assert!(second.version > first.version);
    let labels: Vec<_> = second.instances.iter().map(|known| known.labels.to_string()).collect();
    assert_eq!(labels, ["disk=fast, zone=eu", "disk=slow", "disk=slow"]);

    cluster[1].service("another", Place::default).start().await.unwrap();
    assert!(PlaceHandle::lookup(&cluster[2], "another").await.is_ok());
    let quiet = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    assert!(quiet.is_err(), "another name is no change of this one");

    cluster.kill(1).await;
    let third = next(&mut watch, 1).await;
    assert_eq!(third.instances, first.instances);
    cluster[2].shutdown().await.unwrap();
    drop((place, cluster));
}

#[tokio::test(start_paused = true)]
async fn a_handle_on_one_node_or_to_one_instance_watches_what_it_leads_to() {
    let cluster = Cluster::start(2).await;
    for index in 0..2 {
        cluster[index].service("place", Place::default).start().await.unwrap();
    }
    let on = PlaceHandle::lookup_on(&cluster[0], "n1", "place").await.unwrap();
    let known = next(&mut on.watch_instances().unwrap(), 1).await;
    assert_eq!(known.instances[0].address.node.as_str(), "n1");
    let anonymous = cluster[0].spawn(Place);
    assert!(matches!(anonymous.watch_instances(), Err(LookupError::Anonymous { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_new_service_is_found_by_all_of_fifty_nodes_within_a_second() {
    let cluster = Cluster::start(50).await;
    cluster.delay(Duration::from_millis(1)).await;
    let begin = tokio::time::Instant::now();
    cluster[7].service("place", Place::default).start().await.unwrap();
    for index in 0..50 {
        let place = PlaceHandle::lookup(&cluster[index], "place").await.unwrap();
        assert_eq!(place.node().await.unwrap(), "n7");
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    cluster.kill(7).await;
    let begin = tokio::time::Instant::now();
    for index in (0..50).filter(|index| *index != 7) {
        let on = PlaceHandle::try_lookup(&cluster[index], "place");
        if let Ok(place) = on {
            next(&mut place.watch_instances().unwrap(), 0).await;
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_instances_without_a_name_cost_the_peers_nothing() {
    let cluster = Cluster::start(2).await;
    settle().await;
    let before = usage(&cluster[1]);
    let places: Vec<_> = (0..100_000).map(|_| cluster[0].spawn(Place)).collect();
    settle().await;
    assert_eq!(usage(&cluster[0]).instances, 100_000);
    assert_eq!(usage(&cluster[1]), before);
    assert_eq!(places[99_999].node().await.unwrap(), "n0");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_label_is_refused_by_name() {
    let error = Node::builder("a").label("zone", "eu west").start().await.unwrap_err();
    let problem =
        "label value name \"eu west\" contains ' '; white space and control characters are not allowed";
    assert_eq!(error.to_string(), format!("setting `label`: {problem}"));
    let node = Node::builder("a").start().await.unwrap();
    let error = node.service("place", Place::default).label("", "x").start().await.unwrap_err();
    assert_eq!(error.to_string(), "setting `label`: of \"place\": label name \"\" is empty");
    assert!(node.service("place", Place::default).start().await.is_ok(), "the name is free");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_one_node_claims_is_refused_to_the_others() {
    let cluster = Cluster::start(2).await;
    let unique = |index: usize| cluster[index].service("place", Place::default).unique(true);
    unique(0).start().await.unwrap();
    let place = PlaceHandle::lookup(&cluster[1], "place").await.unwrap();
    let error = unique(1).start().await.unwrap_err();
    assert_eq!(error.to_string(), "node n0 has the one service named \"place\"");
    let error = cluster[1].service("place", Place::default).start().await.unwrap_err();
    assert_eq!(error.to_string(), "node n0 has the one service named \"place\"");
    assert_eq!(place.node().await.unwrap(), "n0");

    cluster[0].stop_service("place").await;
    next(&mut place.watch_instances().unwrap(), 0).await;
    cluster[1].service("place", Place::default).start().await.unwrap();
    PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
    let error = unique(0).start().await.unwrap_err();
    let expected = "node n1 has a service named \"place\", and this one is to be unique";
    assert_eq!(error.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn of_two_sides_of_a_partition_that_claim_a_name_the_first_one_keeps_it() {
    let cluster = Cluster::start(4).await;
    cluster.partition(&[0, 1], &[2, 3]).await;
    assert!(cluster.is_partitioned(0, 2));
    let unique = |index: usize| cluster[index].service("place", Place::default).unique(true);
    unique(0).start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    // Claims are told apart by the clock of the system, which does not stand still.
    let began = std::time::SystemTime::now();
    while began.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_millis(2)) {
        tokio::task::yield_now().await;
    }
    unique(3).start().await.unwrap();
    let places = [
        PlaceHandle::lookup(&cluster[1], "place").await.unwrap(),
        PlaceHandle::lookup(&cluster[2], "place").await.unwrap(),
    ];
    assert_eq!(places[0].node().await.unwrap(), "n0");
    assert_eq!(places[1].node().await.unwrap(), "n3");

    let mut events = cluster[3].events();
    cluster.heal().await;
    let lost = async {
        loop {
            if let Event::NameLost { name, owner } = events.next().await.expect("the node lives") {
                return (name, owner.to_string());
            }
        }
    };
    assert_eq!(soon("the loss", lost).await, ("place".to_owned(), "n0".to_owned()));
    for place in &places {
        let owner = async { while place.node().await.unwrap() != "n0" {} };
        soon("one owner", owner).await;
    }
    let free = async { while cluster[3].stop_service("place").await {} };
    soon("its end", free).await;
}
