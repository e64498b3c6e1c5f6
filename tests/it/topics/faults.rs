//! Nodes that stand still, die, come back, or cannot read what they get.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_loses_the_newest_and_the_others_nothing() {
    let cluster = Cluster::start(3).await;
    let publisher = chat::<Vec<u8>>(&cluster[0]);
    let mut here = publisher.subscribe().await.unwrap();
    let mut well = chat::<Vec<u8>>(&cluster[1]).subscribe().await.unwrap();
    let mut still = chat::<Vec<u8>>(&cluster[2]).subscribe().await.unwrap();
    settle().await;
    cluster.pause(2).await;
    assert!(cluster.is_paused(2));
    let mut events = cluster[0].events();
    let (mut sent, mut lost) = (0, 0);
    for number in 0..200_u8 {
        let published = publisher.publish(vec![number; 32 * 1024]).unwrap();
        assert_eq!(published.local, 1);
        sent += published.nodes - 1;
        lost += published.lost;
        settle().await; // the other connection gets its turn
        assert_eq!(taken(&mut here), [vec![number; 32 * 1024]]);
        assert_eq!(taken(&mut well), [vec![number; 32 * 1024]], "nobody waits for the one that stands still");
    }
    assert_eq!(sent + lost, 200);
    assert!(lost > 100, "a connection holds about 1 MiB, {lost} were lost");
    assert!(taken(&mut still).is_empty());
    let letters = dead_letters(&mut events);
    assert_eq!(letters.len(), lost);
    let expected = ("topic/chat@n2".to_owned(), DeadLetterReason::Overloaded);
    assert!(letters.iter().all(|letter| *letter == expected), "{letters:?}");

    cluster.resume(2).await;
    settle().await;
    let arrived: Vec<_> = taken(&mut still).into_iter().map(|item| usize::from(item[0])).collect();
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>(), "what was on its way comes, in order");
    assert_eq!(publisher.publish(vec![0]).unwrap().lost, 0);
    assert_eq!((still.missed(), well.missed(), here.missed()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_died_is_no_target_and_its_next_life_is_one() {
    let mut cluster = Cluster::start(3).await;
    let publisher = chat::<u64>(&cluster[0]);
    let mut dead = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    let mut alive = chat::<u64>(&cluster[2]).subscribe().await.unwrap();
    settle().await;
    assert_eq!(reach(publisher.publish(0).unwrap()), (0, 2, 0));
    settle().await;
    cluster.kill(1).await;
    assert_eq!((dead.next().await, dead.next().await), (Some(0), None), "the node is dead");
    settle().await;
    assert_eq!(reach(publisher.publish(1).unwrap()), (0, 1, 0));
    cluster.restart(1).await;
    let mut next_life = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    assert_eq!(reach(publisher.publish(2).unwrap()), (0, 2, 0));
    settle().await;
    assert_eq!((taken(&mut alive), taken(&mut next_life)), (vec![0, 1, 2], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn after_a_partition_items_flow_again_by_themselves() {
    let cluster = Cluster::start(2).await;
    let publisher = chat::<u64>(&cluster[0]);
    let mut there = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    publisher.publish(0).unwrap();
    settle().await;
    assert!(taken(&mut there).is_empty(), "nothing passes");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(reach(publisher.publish(1).unwrap()), (0, 0, 0), "the peer was given up");
    cluster.heal().await;
    cluster.connected().await;
    settle().await;
    assert_eq!(reach(publisher.publish(2).unwrap()), (0, 1, 0));
    settle().await;
    assert_eq!(taken(&mut there), [2]);
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_during_a_partition_is_heard_after_it() {
    let cluster = Cluster::start(2).await;
    cluster.partition(&[0], &[1]).await;
    assert!(cluster.is_partitioned(0, 1));
    let begin = tokio::time::Instant::now();
    let mut there = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO, "a subscriber waits for no peer");
    let publisher = chat::<u64>(&cluster[0]);
    assert_eq!(reach(publisher.publish(1).unwrap()), (0, 0, 0), "it is not known there");
    cluster.heal().await;
    settle().await;
    assert_eq!(reach(publisher.publish(2).unwrap()), (0, 1, 0));
    settle().await;
    assert_eq!(taken(&mut there), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_too_large_for_a_node_is_lost_for_it_alone() {
    let small = |node: skyhold::NodeBuilder| node.max_message(64 * 1024);
    let cluster = Cluster::start_with(2, small).await;
    let publisher = chat::<Vec<u8>>(&cluster[0]);
    let mut here = publisher.subscribe().await.unwrap();
    let mut there = chat::<Vec<u8>>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    let mut events = cluster[0].events();
    assert_eq!(reach(publisher.publish(vec![0; 200 * 1024]).unwrap()), (1, 0, 1));
    assert_eq!(reach(publisher.publish(vec![0; 1024]).unwrap()), (1, 1, 0));
    settle().await;
    assert_eq!((taken(&mut here).len(), taken(&mut there).len()), (2, 1));
    let expected = ("topic/chat@n1".to_owned(), DeadLetterReason::TooLarge);
    assert_eq!(dead_letters(&mut events), [expected]);
}

/// Panics when the unlucky number is read.
#[derive(Clone, Serialize)]
struct Unlucky(u64);

impl<'de> Deserialize<'de> for Unlucky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert_ne!(number, 13, "the unlucky number");
        Ok(Self(number))
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_panics_when_read_is_lost_alone() {
    let cluster = Cluster::start(2).await;
    let mut there = chat::<Unlucky>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    let mut events = cluster[1].events();
    for number in 12..15 {
        assert_eq!(reach(chat(&cluster[0]).publish(Unlucky(number)).unwrap()), (0, 1, 0));
    }
    settle().await;
    assert_eq!(taken(&mut there).into_iter().map(|item| item.0).collect::<Vec<_>>(), [12, 14]);
    let expected = ("topic/chat".to_owned(), DeadLetterReason::Undecodable);
    assert_eq!(dead_letters(&mut events), [expected]);
}
