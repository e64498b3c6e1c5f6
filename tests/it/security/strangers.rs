//! Strangers by the hundred: they cost their own places and nobody else's.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use skyhold::prelude::*;
use skyhold::{EndedConnections, Limits, NodeBuilder};

use super::{CounterHandle, calling, counting};
use crate::raw::{Fields, Hello, Raw, kind, soon};

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
    assert_eq!(a.counters().ended_connections.crowded, 1);
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

#[tokio::test]
async fn what_ends_a_connection_is_counted_by_its_name() {
    let limit = std::time::Duration::from_millis(100);
    let a = counting(|a| a.insecure_without_secret().handshake_timeout(limit)).await;
    let mut events = a.events();
    let mut garbage = Raw::connect(&a).await;
    garbage.write_what_is_taken(b"GET / HTTP/1.1\r\n\r\n").await;
    garbage.rest().await;
    Raw::connect(&a).await.rest().await; // says nothing
    drop(Raw::connect(&a).await); // goes without a word
    let mut breaks_off = Raw::join(&a, &Hello::default()).await;
    breaks_off.write_what_is_taken(&Fields::default().frame(kind::HELLO)).await;
    breaks_off.rest().await;
    let mut leaves = Raw::join(&a, &Hello::default()).await;
    leaves.write(&Fields::default().string("bye").frame(kind::GOODBYE)).await;
    leaves.rest().await;
    let counted = |ended: EndedConnections| {
        [ended.refused, ended.late, ended.protocol, ended.goodbye, ended.broken, ended.silent, ended.crowded]
    };
    // The end of one is counted when its last words are written.
    soon("the counts", async {
        while counted(a.counters().ended_connections) != [1, 1, 1, 1, 1, 0, 0] {
            tokio::select! {
                _ = events.next() => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            }
        }
    })
    .await;
}
