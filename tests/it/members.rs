//! Who is a member, and what is told when somebody comes, stands still, goes or dies.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::{Cluster, first_revision};
use skyhold::{Event, Events, MemberEnd, MemberState};

use crate::instances::{Place, PlaceHandle};
use crate::raw::soon;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Waits until a node sees so many members.
async fn sees(node: &Node, count: usize) {
    let mut watch = node.cluster().watch();
    let all = async { while watch.next().await.expect("the node lives").members.len() != count {} };
    soon("enough members", all).await;
}

/// The next thing that is told of a member.
async fn told(events: &mut Events) -> Event {
    let next = async {
        loop {
            let event = events.next().await.expect("the node lives");
            if matches!(
                event,
                Event::MemberJoined { .. }
                    | Event::MemberSuspected { .. }
                    | Event::MemberRefuted { .. }
                    | Event::MemberLeft { .. }
                    | Event::MemberDied { .. }
            ) {
                return event;
            }
        }
    };
    soon("a word of a member", next).await
}

#[tokio::test(start_paused = true)]
async fn all_nodes_are_members_of_each_other_and_versions_go_up() {
    let cluster = Cluster::start(5).await;
    for index in 0..5 {
        sees(&cluster[index], 5).await;
        let members = cluster[index].cluster().members();
        let names: Vec<_> = members.members.iter().map(|member| member.node.to_string()).collect();
        assert_eq!(names, ["n0", "n1", "n2", "n3", "n4"]);
        assert!(members.members.iter().all(|member| member.state == MemberState::Alive));
        assert_eq!(members.members[index].incarnation, cluster[index].incarnation());
    }
    let mut watch = cluster[0].cluster().watch();
    let first = watch.next().await.unwrap();
    cluster.kill(4).await;
    let then = soon("a change", watch.next()).await.unwrap();
    assert!(then.version > first.version);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_alone_is_a_member_and_wakes_for_nothing() {
    let node = Node::builder("alone").start().await.unwrap();
    let members = node.cluster().members();
    assert_eq!(members.members.len(), 1);
    assert_eq!(members.members[0].node, id("alone"));
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_is_known_to_be_dead_at_once_and_a_goodbye_as_such() {
    let mut cluster = Cluster::start(4).await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
    let mut events = [cluster[0].events(), cluster[2].events()];
    let incarnation = cluster[1].incarnation();
    let begin = tokio::time::Instant::now();
    cluster.kill(1).await;
    let reason = MemberEnd::ProcessGone;
    for events in &mut events {
        assert_eq!(told(events).await, Event::MemberDied { node: id("n1"), incarnation, reason });
    }
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());

    let incarnation = cluster[3].incarnation();
    cluster[3].shutdown().await.unwrap();
    for events in &mut events {
        assert_eq!(told(events).await, Event::MemberLeft { node: id("n3"), incarnation });
    }

    cluster.restart(1).await;
    let incarnation = cluster[1].incarnation();
    for events in &mut events {
        assert_eq!(told(events).await, Event::MemberJoined { node: id("n1"), incarnation });
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_suspected_and_then_a_death_within_five_seconds_and_the_node_comes_back() {
    let cluster = Cluster::start(4).await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
    let mut events = cluster[0].events();
    let incarnation = cluster[2].incarnation();
    cluster.pause(2).await;
    assert!(cluster.is_paused(2));
    let begin = tokio::time::Instant::now();
    assert_eq!(told(&mut events).await, Event::MemberSuspected { node: id("n2"), incarnation });
    let suspected = cluster[0].cluster().members();
    assert_eq!(suspected.members[2].state, MemberState::Suspected);
    let reason = MemberEnd::NoAnswer;
    assert_eq!(told(&mut events).await, Event::MemberDied { node: id("n2"), incarnation, reason });
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    cluster.resume(2).await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_that_declared_each_other_dead_while_their_connection_stood_are_members_again() {
    let cluster = Cluster::start_with(2, |node| node.expected_nodes(2)).await;
    for index in 0..2 {
        sees(&cluster[index], 2).await;
    }
    cluster.pause(1).await;
    assert!(cluster.is_paused(1));
    for index in 0..2 {
        sees(&cluster[index], 1).await;
        assert_eq!(cluster[index].peers().len(), 1, "the silence has not ended the connection");
    }
    assert!(!cluster[0].cluster().has_quorum());
    cluster.resume(1).await;
    for index in 0..2 {
        sees(&cluster[index], 2).await;
        assert!(cluster[index].cluster().has_quorum());
    }
}

#[tokio::test(start_paused = true)]
async fn the_sides_of_a_partition_lose_each_other_and_find_together_again() {
    let cluster = Cluster::start(5).await;
    for index in 0..5 {
        sees(&cluster[index], 5).await;
    }
    cluster.partition(&[0, 1, 2], &[3, 4]).await;
    assert!(cluster.is_partitioned(0, 3));
    for (index, count) in [(0, 3), (1, 3), (2, 3), (3, 2), (4, 2)] {
        sees(&cluster[index], count).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    cluster.heal().await;
    for index in 0..5 {
        sees(&cluster[index], 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_loses_all_others_within_the_silence() {
    let cluster = Cluster::start(5).await;
    for index in 0..5 {
        sees(&cluster[index], 5).await;
    }
    let begin = tokio::time::Instant::now();
    cluster.partition(&[4], &[0, 1, 2, 3]).await;
    assert!(cluster.is_partitioned(4, 0));
    for (index, count) in [(0, 4), (1, 4), (2, 4), (3, 4), (4, 1)] {
        sees(&cluster[index], count).await;
    }
    assert!(begin.elapsed() <= Duration::from_millis(5100), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_from_behind_a_partition_makes_nobody_dead_who_is_not() {
    let cluster = Cluster::start(4).await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
    cluster.partition(&[3], &[0, 1, 2]).await;
    assert!(cluster.is_partitioned(3, 0));
    for (index, count) in [(0, 3), (1, 3), (2, 3), (3, 1)] {
        sees(&cluster[index], count).await;
    }
    let mut events = [cluster[0].events(), cluster[1].events(), cluster[2].events()];
    cluster.heal().await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    for events in &mut events {
        let told = std::iter::from_fn(|| futures_util::FutureExt::now_or_never(events.next()).flatten());
        let died: Vec<_> = told.filter(|event| matches!(event, Event::MemberDied { .. })).collect();
        assert_eq!(died, []);
    }
}

#[tokio::test(start_paused = true)]
async fn one_node_that_reaches_another_no_more_does_not_make_it_dead() {
    let cluster = Cluster::start(4).await;
    for index in 0..4 {
        sees(&cluster[index], 4).await;
    }
    let mut events = cluster[0].events();
    cluster.partition(&[1], &[2]).await;
    assert!(cluster.is_partitioned(1, 2));
    tokio::time::sleep(Duration::from_secs(60)).await;
    cluster.heal().await;
    assert!(!now(&mut events).iter().any(|event| matches!(event, Event::MemberDied { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_the_first_revision_is_connected_and_no_member() {
    let cluster = Cluster::start_with(2, |node| {
        if format!("{node:?}").contains("\"n1\"") { first_revision(node) } else { node }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    for index in 0..2 {
        assert_eq!(cluster[index].peers().len(), 1);
        assert_eq!(cluster[index].cluster().members().members.len(), 1);
    }
}

/// Waits until a node has a quorum, or has none any more.
async fn has_quorum(node: &Node, expected: bool) {
    let mut watch = node.cluster().watch();
    let all = async { while watch.next().await.expect("the node lives").has_quorum != expected {} };
    soon("the quorum", all).await;
}

#[tokio::test(start_paused = true)]
async fn of_the_sides_of_a_partition_the_larger_one_alone_has_a_quorum() {
    let cluster = Cluster::start_with(5, |node| node.expected_nodes(5)).await;
    for index in 0..5 {
        has_quorum(&cluster[index], true).await;
    }
    let mut lost = [cluster[3].events(), cluster[4].events()];
    let mut kept = cluster[0].events();
    let begin = tokio::time::Instant::now();
    cluster.partition(&[0, 1, 2], &[3, 4]).await;
    assert!(cluster.is_partitioned(0, 3));
    for (index, events) in [3, 4].into_iter().zip(&mut lost) {
        has_quorum(&cluster[index], false).await;
        assert!(!cluster[index].cluster().has_quorum());
        let is_lost = |event: &Event| matches!(event, Event::QuorumLost { expected: 5, alive: 1..=2, .. });
        assert!(now(events).iter().any(is_lost));
    }
    assert!(begin.elapsed() <= Duration::from_secs(5), "{:?}", begin.elapsed());
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!((0..3).all(|index| cluster[index].cluster().has_quorum()));
    assert!(!now(&mut kept).iter().any(|event| matches!(event, Event::QuorumLost { .. })));
    cluster.heal().await;
    has_quorum(&cluster[3], true).await;
    let is_reached = |event: &Event| matches!(event, Event::QuorumReached { expected: 5, alive: 3, .. });
    assert!(now(&mut lost[0]).iter().any(is_reached));
}

#[tokio::test(start_paused = true)]
async fn half_of_the_nodes_are_no_quorum_and_where_nobody_has_said_how_many_there_are_there_is_none() {
    let cluster = Cluster::start_with(2, |node| node.expected_nodes(4)).await;
    sees(&cluster[0], 2).await;
    assert!(!cluster[0].cluster().has_quorum());
    let cluster = Cluster::start(3).await;
    sees(&cluster[0], 3).await;
    assert!(!cluster[0].cluster().has_quorum());
    let alone = Node::builder("alone").expected_nodes(1).start().await.unwrap();
    has_quorum(&alone, true).await;
}

/// What has been told by now.
fn now(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| futures_util::FutureExt::now_or_never(events.next()).flatten()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_known_to_have_left_and_goes_on_by_itself() {
    let cluster = Cluster::start(3).await;
    for index in 0..3 {
        sees(&cluster[index], 3).await;
        cluster[index].service("place", Place::default).start().await.unwrap();
        for from in 0..3 {
            PlaceHandle::lookup_on(&cluster[from], &format!("n{index}"), "place").await.unwrap();
        }
    }
    let mut events = cluster[0].events();
    let incarnation = cluster[2].incarnation();
    let begin = tokio::time::Instant::now();
    cluster[2].cluster().leave().await;
    assert_eq!(told(&mut events).await, Event::MemberLeft { node: id("n2"), incarnation });
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cluster[2].peers(), []);
    assert_eq!(cluster[0].peers(), [id("n1")]);
    sees(&cluster[1], 2).await;
    let own = PlaceHandle::lookup(&cluster[2], "place").await.unwrap();
    assert_eq!(own.node().await.unwrap(), "n2");
    let others = PlaceHandle::lookup(&cluster[0], "place").await.unwrap();
    for _ in 0..10 {
        assert_ne!(others.node().await.unwrap(), "n2");
    }
    cluster[2].cluster().leave().await;
    cluster[2].shutdown().await.unwrap();
}
