//! The first subscriber and the last one: what begins with the one and is left behind by the other.

use std::time::Duration;

use skyhold::PublishError;

use super::*;
use crate::raw::{has_peers, soon};

#[tokio::test(start_paused = true)]
async fn a_topic_is_in_the_directory_while_it_has_subscribers() {
    let cluster = Cluster::start(2).await;
    let chat = chat::<u64>(&cluster[0]);
    assert!(!is_known(&cluster[0]));
    let first = chat.subscribe().await.unwrap();
    let second = chat.subscribe().await.unwrap();
    settle().await;
    assert!(is_known(&cluster[0]) && is_known(&cluster[1]));
    drop(first);
    settle().await;
    assert!(is_known(&cluster[1]), "one is left");
    drop(chat);
    settle().await;
    assert!(is_known(&cluster[1]), "a subscription needs no topic beside it");
    drop(second);
    settle().await;
    assert!(!is_known(&cluster[0]) && !is_known(&cluster[1]));
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_while_the_last_one_leaves_is_heard_by_all() {
    let cluster = Cluster::start(2).await;
    let publisher = chat::<u64>(&cluster[0]);
    let there = chat::<u64>(&cluster[1]);
    let mut items = there.subscribe().await.unwrap();
    for round in 0..100 {
        drop(items);
        // So that the end of the last one is met at each of its steps.
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        items = there.subscribe().await.unwrap();
        settle().await;
        assert_eq!(reach(publisher.publish(round).unwrap()), (0, 1, 0), "round {round}");
        settle().await;
        assert_eq!(taken(&mut items), [round]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_not_waited_for_leaves_nothing_behind() {
    let cluster = Cluster::start(2).await;
    let chat = chat::<u64>(&cluster[0]);
    for polls in 0..10 {
        let mut subscribe = chat.subscribe().into_future();
        for _ in 0..polls {
            if futures_util::poll!(&mut subscribe).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(subscribe);
        settle().await;
        assert!(!is_known(&cluster[0]) && !is_known(&cluster[1]), "after {polls} polls");
        assert_eq!(reach(chat.publish(1).unwrap()), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_many_come_and_go_on_many_threads_the_last_state_counts() {
    let a = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let b = Node::builder("b")
        .insecure_without_secret()
        .seed(a.address().unwrap().to_string())
        .start()
        .await
        .unwrap();
    has_peers(&a, 1).await;
    let publisher = chat::<u64>(&a);
    for _ in 0..20 {
        let churn = (0..8).map(|_| {
            let b = b.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let items = chat::<u64>(&b).subscribe().await.unwrap();
                    tokio::task::yield_now().await;
                    drop(items);
                }
            })
        });
        let all = futures_util::future::join_all(churn);
        soon("the end of all", all).await.into_iter().for_each(Result::unwrap);
        // With its type the name is free again: nothing of the topic is left on this node.
        until("the end of the topic", || Topic::<String>::open(&b, "chat").is_ok()).await;

        let mut items = chat::<u64>(&b).subscribe().await.unwrap();
        // What the other node knows is of some moment on the way here, until it has read the last word.
        let heard = || {
            publisher.publish(1).unwrap();
            !taken(&mut items).is_empty()
        };
        until("an item", heard).await;
    }
    until("the end of the name", || !is_known(&a) && !is_known(&b)).await;
}

/// Waits until news have come over a real socket.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, wait).await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_its_node_after_what_has_come() {
    let node = local_node().await;
    let chat = chat::<u64>(&node);
    let mut items = chat.subscribe().await.unwrap();
    let waiting = chat.subscribe().await.unwrap();
    let waiting = tokio::spawn(waiting.collect::<Vec<_>>());
    chat.publish(1).unwrap();
    node.shutdown().await.unwrap();
    assert_eq!((items.next().await, items.next().await, items.next().await), (Some(1), None, None));
    assert_eq!(waiting.await.unwrap(), [1]);
    assert_eq!(chat.publish(2), Err(PublishError::NodeStopped(node.id().clone())));
    let stopped = TopicError::NodeStopped(node.id().clone());
    assert_eq!(chat.subscribe().await.unwrap_err(), stopped);
    assert_eq!(Topic::<u64>::open(&node, "other").unwrap_err(), stopped);
}

#[tokio::test(start_paused = true)]
async fn neither_a_topic_nor_a_subscription_keeps_its_node_alive() {
    let node = local_node().await;
    let chat = chat::<u64>(&node);
    let mut items = chat.subscribe().await.unwrap();
    drop(node);
    assert_eq!(items.next().await, None);
    assert!(chat.subscribe().await.is_err());
}

/// Says goodbye on a topic.
struct Polite;

#[service]
impl Polite {
    pub fn ready(&self) {}

    #[on_stop]
    fn end(&mut self, context: &Context) {
        chat::<String>(&context.node()).publish("goodbye".to_owned()).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_publishes_while_its_node_shuts_down() {
    let cluster = Cluster::start(2).await;
    cluster[0].spawn(Polite).ready().await.unwrap();
    let mut there = chat::<String>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    cluster[0].shutdown().await.unwrap();
    let goodbye = tokio::time::timeout(Duration::from_secs(1), there.next()).await;
    assert_eq!(goodbye.unwrap().as_deref(), Some("goodbye"));
}
