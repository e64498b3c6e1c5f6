//! What is left behind: nothing.

use super::*;
use crate::node::node::Node;

/// Lets the keepers do what they have to, until so many topics are open and have subscribers.
async fn settled(node: &Node, expected: (usize, usize)) {
    for _ in 0..1000 {
        if node.inner().topics.len() == expected {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{:?} instead of {expected:?}", node.inner().topics.len());
}

#[tokio::test]
async fn ten_thousand_subscriptions_one_after_another_leave_nothing_behind() {
    let node = Node::builder("a").start().await.unwrap();
    for round in 0..10_000 {
        let topic = Topic::<u64>::open(&node, format!("t{}", round % 7)).unwrap();
        let subscription = topic.subscribe().await.unwrap();
        assert_eq!(topic.publish(round).unwrap().local, 1);
        drop((subscription, topic));
    }
    settled(&node, (0, 0)).await;
    assert!((0..7).all(|n| node.inner().names.current().candidates(&format!("topic/t{n}")).is_empty()));
}

#[tokio::test]
async fn ten_thousand_subscriptions_at_once_leave_nothing_behind() {
    let node = Node::builder("a").start().await.unwrap();
    let topic = Topic::<u64>::open(&node, "t").unwrap();
    let mut subscriptions = Vec::new();
    for _ in 0..10_000 {
        subscriptions.push(topic.subscribe().await.unwrap());
    }
    settled(&node, (1, 1)).await;
    assert_eq!(topic.publish(1).unwrap().local, 10_000);
    drop(subscriptions);
    assert_eq!(topic.publish(2).unwrap().local, 0);
    settled(&node, (1, 0)).await;
    drop(topic);
    settled(&node, (0, 0)).await;
}

#[tokio::test]
async fn the_end_of_a_node_takes_its_topics_out_of_the_tables() {
    let node = Node::builder("a").start().await.unwrap();
    let topic = Topic::<u64>::open(&node, "t").unwrap();
    let subscription = topic.subscribe().await.unwrap();
    settled(&node, (1, 1)).await;
    node.shutdown().await.unwrap();
    settled(&node, (1, 0)).await;
    drop((subscription, topic));
    settled(&node, (0, 0)).await;
}
