//! Topics: who gets what is published, in which order, and what a slow one costs: itself alone.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own tasks")]

mod ends;
mod faults;
mod feeds;
mod wire;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{DeadLetterReason, Event, Events, Published, StartError, Subscription, TopicError, TopicItem};

use crate::gate::{local_node, settle};

/// A service whose lookup tells whether a name is in the directory.
struct Nobody;

#[service]
impl Nobody {
    pub fn nothing(&self) {}
}

/// Whether the topic `chat` has subscribers that this node knows of.
fn is_known(node: &Node) -> bool {
    match NobodyHandle::try_lookup(node, "topic/chat") {
        Err(skyhold::LookupError::NotFound { .. }) => false,
        Err(skyhold::LookupError::Interface { .. }) => true,
        other => panic!("{other:?}"),
    }
}

/// The topic `chat`.
fn chat<T: TopicItem>(node: &Node) -> Topic<T> {
    Topic::open(node, "chat").unwrap()
}

/// Everything that has come to a subscriber.
fn taken<T: TopicItem>(items: &mut Subscription<T>) -> Vec<T> {
    let next = || tokio::task::unconstrained(items.next()).now_or_never().flatten();
    std::iter::from_fn(next).collect()
}

/// How far an item came.
fn reach(published: Published) -> (usize, usize, usize) {
    (published.local, published.nodes, published.lost)
}

/// The dead letters that a node has told of, each with its reason.
fn dead_letters(events: &mut Events) -> Vec<(String, DeadLetterReason)> {
    let mut letters = Vec::new();
    while let Some(Some(event)) = tokio::task::unconstrained(events.next()).now_or_never() {
        if let Event::DeadLetter(letter) = event {
            letters.push((letter.handler, letter.reason));
        }
    }
    letters
}

#[tokio::test(start_paused = true)]
async fn every_subscriber_of_a_node_gets_every_item_in_order() {
    let node = local_node().await;
    let chat = chat::<u64>(&node);
    assert_eq!(reach(chat.publish(0).unwrap()), (0, 0, 0), "nobody is there");
    let mut subscribers = Vec::new();
    for _ in 0..10 {
        subscribers.push(chat.subscribe().await.unwrap());
    }
    for item in 1..=100 {
        assert_eq!(reach(chat.publish(item).unwrap()), (10, 0, 0));
    }
    for subscriber in &mut subscribers {
        assert_eq!(taken(subscriber), (1..=100).collect::<Vec<_>>());
        assert_eq!(subscriber.missed(), 0);
    }
}

/// Counts how often it is written, and how often it is read.
#[derive(Clone)]
struct Counted(u64);

static WRITTEN: AtomicUsize = AtomicUsize::new(0);
static READ: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.fetch_add(1, Ordering::SeqCst);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        READ.fetch_add(1, Ordering::SeqCst);
        u64::deserialize(deserializer).map(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_is_written_once_and_read_once_on_each_node_however_many_subscribe_there() {
    let cluster = Cluster::start(4).await;
    let mut subscribers = Vec::new();
    for (node, count) in [(0, 1), (1, 7), (2, 3)] {
        let chat = chat::<Counted>(&cluster[node]);
        for _ in 0..count {
            subscribers.push(chat.subscribe().await.unwrap());
        }
    }
    settle().await;
    let publisher = chat::<Counted>(&cluster[0]);
    for item in 0..100 {
        assert_eq!(reach(publisher.publish(Counted(item)).unwrap()), (1, 2, 0), "the fourth has nobody");
    }
    settle().await;
    for subscriber in &mut subscribers {
        let items: Vec<_> = taken(subscriber).into_iter().map(|item| item.0).collect();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
    assert_eq!((WRITTEN.load(Ordering::SeqCst), READ.load(Ordering::SeqCst)), (100, 200));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_only_publishes_is_no_subscriber() {
    let cluster = Cluster::start(2).await;
    let _open = chat::<u64>(&cluster[1]);
    let mut here = chat::<u64>(&cluster[0]).subscribe().await.unwrap();
    settle().await;
    assert_eq!(reach(chat(&cluster[0]).publish(1_u64).unwrap()), (1, 0, 0));
    assert_eq!(reach(chat(&cluster[1]).publish(2_u64).unwrap()), (0, 1, 0));
    settle().await;
    assert_eq!(taken(&mut here), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_later_gets_nothing_from_before() {
    let cluster = Cluster::start(2).await;
    let publisher = chat::<u64>(&cluster[0]);
    let mut first = publisher.subscribe().await.unwrap();
    publisher.publish(1).unwrap();
    let mut here = publisher.subscribe().await.unwrap();
    let mut there = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    publisher.publish(2).unwrap();
    settle().await;
    assert_eq!(taken(&mut first), [1, 2]);
    assert_eq!(taken(&mut here), [2]);
    assert_eq!(taken(&mut there), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_misses_the_oldest_and_those_beside_it_nothing() {
    let cluster = Cluster::start(2).await;
    let publisher = chat::<u64>(&cluster[0]);
    for node in [0, 1] {
        let chat = chat::<u64>(&cluster[node]);
        let mut slow = chat.subscribe().buffer(3).await.unwrap();
        let mut quick = chat.subscribe().await.unwrap();
        settle().await;
        for item in 0..1000 {
            publisher.publish(item).unwrap();
        }
        settle().await;
        assert_eq!(slow.missed(), 997);
        assert_eq!(taken(&mut slow), [997, 998, 999]);
        assert_eq!(taken(&mut quick), (0..1000).collect::<Vec<_>>());
        publisher.publish(1000).unwrap();
        settle().await;
        assert_eq!(taken(&mut slow), [1000], "what it has missed is behind it");
        assert_eq!((slow.missed(), quick.missed()), (997, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_says_nothing_may_be_1024_items_behind() {
    let node = local_node().await;
    let chat = chat::<u64>(&node);
    let mut items = chat.subscribe().await.unwrap();
    for item in 0..1024 {
        chat.publish(item).unwrap();
    }
    assert_eq!(items.missed(), 0);
    chat.publish(1024).unwrap();
    assert_eq!((items.missed(), items.next().await), (1, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_a_stream() {
    let node = local_node().await;
    let chat = chat::<String>(&node);
    let items = chat.subscribe().await.unwrap();
    let reader = tokio::spawn(items.map(|item| item.len()).take(3).collect::<Vec<_>>());
    for item in ["a", "bb", "ccc", "dddd"] {
        settle().await; // the reader waits for this one
        chat.publish(item.to_owned()).unwrap();
    }
    assert_eq!(reader.await.unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn two_topics_and_a_service_of_one_name_have_nothing_to_do_with_each_other() {
    let cluster = Cluster::start(2).await;
    cluster[1].service("chat", || Nobody).start().await.unwrap();
    let mut chat = chat::<u64>(&cluster[1]).subscribe().await.unwrap();
    let mut news = Topic::<u64>::open(&cluster[1], "news").unwrap().subscribe().await.unwrap();
    settle().await;
    Topic::open(&cluster[0], "news").unwrap().publish(1_u64).unwrap();
    settle().await;
    assert_eq!((taken(&mut chat), taken(&mut news)), (vec![], vec![1]));
    NobodyHandle::lookup(&cluster[0], "chat").await.unwrap().nothing().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_used_is_refused_with_its_reason() {
    let node = local_node().await;
    let refused = |name: &str| Topic::<u64>::open(&node, name).unwrap_err().to_string();
    assert_eq!(refused(""), "topic name \"\" is empty");
    assert!(refused("a b").contains("white space"));
    assert!(refused(&"x".repeat(251)).contains("at most 250"));
    assert_eq!(Topic::<u64>::open(&node, "x".repeat(250)).unwrap().name().len(), 250);
    let error = node.service("topic/chat", || Nobody).start().await.unwrap_err();
    assert!(matches!(error, StartError::InvalidName(_)), "{error:?}");
    assert!(error.to_string().contains("kept for topics"), "{error}");
    let error = chat::<u64>(&node).subscribe().buffer(0).await.unwrap_err();
    assert_eq!(error.to_string(), "setting `buffer`: is 0; at least 1 is needed");
}

#[tokio::test(start_paused = true)]
async fn one_name_with_two_types_on_one_node_is_an_error_that_names_both() {
    let node = local_node().await;
    let numbers = chat::<u64>(&node);
    let error = Topic::<String>::open(&node, "chat").unwrap_err();
    assert!(matches!(error, TopicError::OtherType { .. }), "{error:?}");
    assert_eq!(error.to_string(), "topic \"chat\" carries `u64` on this node, not `alloc::string::String`");
    let items = numbers.subscribe().await.unwrap();
    drop(numbers);
    assert!(Topic::<String>::open(&node, "chat").is_err(), "a subscription keeps the type too");
    drop(items);
    settle().await;
    chat::<String>(&node).publish("the name is free again".to_owned()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_type_gets_nothing_and_counts_as_lost() {
    let cluster = Cluster::start(3).await;
    let mut words = chat::<String>(&cluster[1]).subscribe().await.unwrap();
    let mut numbers = chat::<u64>(&cluster[2]).subscribe().await.unwrap();
    settle().await;
    let mut events = cluster[0].events();
    assert_eq!(reach(chat(&cluster[0]).publish(7_u64).unwrap()), (0, 1, 1));
    settle().await;
    assert_eq!(taken(&mut words), [""; 0]);
    assert_eq!(taken(&mut numbers), [7]);
    let expected = ("topic/chat@n1".to_owned(), DeadLetterReason::Undecodable);
    assert_eq!(dead_letters(&mut events), [expected]);
    assert_eq!(cluster[0].counters().dead_letters, 1);
    assert_eq!(cluster[1].counters().dead_letters, 0, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_written_reaches_nobody() {
    #[derive(Clone, Deserialize)]
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("it will not be written"))
        }
    }
    let cluster = Cluster::start(2).await;
    let publisher = chat::<Stubborn>(&cluster[0]);
    let mut here = publisher.subscribe().await.unwrap();
    assert_eq!(reach(publisher.publish(Stubborn).unwrap()), (1, 0, 0), "here it need not be written");
    assert_eq!(taken(&mut here).len(), 1);
    let mut there = chat::<Stubborn>(&cluster[1]).subscribe().await.unwrap();
    settle().await;
    let error = publisher.publish(Stubborn).unwrap_err();
    assert!(error.to_string().contains("it will not be written"), "{error}");
    settle().await;
    assert_eq!((taken(&mut here).len(), taken(&mut there).len()), (0, 0));
}
