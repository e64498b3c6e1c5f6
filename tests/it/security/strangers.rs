//! Strangers by the hundred: they cost their own places and nobody else's.

use skyhold::prelude::*;
use skyhold::{Limits, NodeBuilder};

use super::{CounterHandle, calling, counting};
use crate::raw::{Hello, Raw, kind, soon};

#[tokio::test]
async fn above_the_limit_of_an_address_its_longest_stranger_leaves_and_peers_go_on() {
    let limits = Limits::default().strangers_per_address(4);
    let a = counting(|a| a.insecure_without_secret().limits(limits)).await;
    let b = calling("b", &a, NodeBuilder::insecure_without_secret).await;
    let counter = CounterHandle::lookup(&b, "counter").await.unwrap();
    counter.add(1).await.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..5 {
        strangers.push(Raw::connect(&a).await);
    }
    assert!(soon("the first is closed", strangers[0].rest()).await.is_empty());
    counter.add(1).await.unwrap();
    strangers.pop().unwrap().greet(&Hello::default()).await;
}

#[tokio::test]
async fn above_the_limit_of_connections_of_an_address_one_more_is_closed_at_once() {
    let limits = Limits::default().connections_per_address(2);
    let a = counting(|a| a.insecure_without_secret().limits(limits)).await;
    let mut first = Raw::join(&a, &Hello::default()).await;
    let mut second = Raw::join(&a, &Hello { node: "other".into(), ..Hello::default() }).await;
    let mut third = Raw::connect(&a).await;
    assert!(soon("the third is closed", third.rest()).await.is_empty());
    first.is_served().await;
    second.is_served().await;
}

#[tokio::test]
async fn above_the_limit_of_all_the_longest_there_makes_room_for_the_newest() {
    let limits = Limits::default().strangers(3);
    let a = counting(|a| a.insecure_without_secret().limits(limits)).await;
    let mut first = Raw::connect(&a).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(Raw::connect(&a).await);
    }
    assert!(soon("the first is closed", first.rest()).await.is_empty());
    others.pop().unwrap().greet(&Hello::default()).await;
}

#[tokio::test]
async fn above_the_limit_of_peers_one_more_is_refused_and_told_why() {
    let limits = Limits::default().connections(1);
    let a = counting(|a| a.insecure_without_secret().limits(limits)).await;
    let mut first = Raw::join(&a, &Hello::default()).await;
    let mut second = Raw::connect(&a).await;
    let hello = Hello { node: "other".into(), ..Hello::default() };
    second.write(&hello.frame()).await;
    let challenge = second.expect(kind::CHALLENGE).await;
    second.write(&hello.proof(&challenge)).await;
    assert_eq!(second.expect(kind::REFUSE).await.refusal().0, 8);
    first.is_served().await;
}
