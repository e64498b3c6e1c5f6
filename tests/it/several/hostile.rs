//! Who says to be a further connection of a peer, by hand.

use std::time::Duration;

use skyhold::prelude::*;

use crate::raw::{Fields, Hello, Raw, feature, has_peers, kind};

async fn node() -> Node {
    let builder = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0");
    builder.connections_per_peer(4).start().await.unwrap()
}

/// The first connection's `Hello`.
fn first() -> Hello {
    Hello { features: feature::ALL | feature::FOUR, ..Hello::default() }
}

/// That of a further one.
fn extra(number: u8, first_nonce: [u8; 32]) -> Hello {
    let later = Fields::default().u8(number).bytes(&first_nonce).0;
    Hello { later, nonce: [number.wrapping_add(10); 32], ..first() }
}

/// Dials, and expects to be refused: gives the reason and the text.
async fn refused(to: &Node, hello: &Hello) -> (u8, String) {
    let mut raw = Raw::connect(to).await;
    raw.write(&hello.frame()).await;
    let challenge = raw.expect(kind::CHALLENGE).await;
    raw.write(&hello.proof(&challenge)).await;
    let refusal = raw.expect(kind::REFUSE).await.refusal();
    assert!(raw.rest().await.is_empty(), "it is closed");
    refusal
}

#[tokio::test]
async fn a_further_connection_without_its_first_one_is_refused() {
    let node = node().await;
    assert_eq!(refused(&node, &extra(1, [9; 32])).await.0, 12, "there is none");
    let mut one = Raw::connect(&node).await;
    let nonce = one.greet(&first()).await;
    let mut guessed = nonce;
    guessed[31] ^= 1;
    let (reason, text) = refused(&node, &extra(1, guessed)).await;
    assert_eq!(reason, 12);
    assert!(text.contains("is another one, or there is none"), "{text}");
    let others = Hello { node: "other".into(), ..extra(1, nonce) };
    assert_eq!(refused(&node, &others).await.0, 12, "it is not that node's");
    let later = Hello { incarnation: 2, ..extra(1, nonce) };
    assert_eq!(refused(&node, &later).await.0, 12, "nor that life's");
    for number in [4, 255] {
        assert_eq!(refused(&node, &extra(number, nonce)).await.0, 12, "there are four");
    }
    let mut two = Raw::connect(&node).await;
    two.greet(&extra(1, nonce)).await;
    let (reason, text) = refused(&node, &extra(1, nonce)).await;
    assert_eq!(reason, 12);
    assert!(text.contains("already"), "{text}");
    one.is_served().await;
    two.is_served().await;
}

#[tokio::test]
async fn a_further_connection_that_is_cut_off_in_its_name_is_refused_at_its_hello() {
    let node = node().await;
    let mut one = Raw::connect(&node).await;
    let nonce = one.greet(&first()).await;
    let mut raw = Raw::connect(&node).await;
    let mut short = extra(1, nonce);
    short.later.pop();
    raw.write(&short.frame()).await;
    let (reason, text) = raw.expect(kind::REFUSE).await.refusal();
    assert_eq!(reason, 1);
    assert!(text.contains("31 bytes"), "{text}");
    one.is_served().await;
}

#[tokio::test]
async fn where_one_connection_was_agreed_on_the_end_of_a_hello_is_a_later_versions() {
    let node = node().await;
    let hello = Hello { features: feature::ALL, ..extra(1, [9; 32]) };
    let mut raw = Raw::connect(&node).await;
    raw.greet(&hello).await;
    raw.is_served().await;
    has_peers(&node, 1).await;
}

#[tokio::test]
async fn with_a_further_connection_the_first_one_ends() {
    let node = node().await;
    let mut one = Raw::connect(&node).await;
    let nonce = one.greet(&first()).await;
    let mut others = Vec::new();
    for number in 1..4 {
        let mut raw = Raw::connect(&node).await;
        raw.greet(&extra(number, nonce)).await;
        others.push(raw);
    }
    has_peers(&node, 1).await;
    others.truncate(2);
    let frames = one.rest().await;
    assert!(frames.iter().all(|frame| frame.kind != kind::GOODBYE), "the node has not gone");
    assert!(node.peers().is_empty());
}

#[tokio::test]
async fn a_peer_that_connects_anew_is_there_while_its_further_connections_are_made() {
    let node = node().await;
    let mut old = Vec::new();
    let mut one = Raw::connect(&node).await;
    let nonce = one.greet(&first()).await;
    for number in 1..4 {
        let mut raw = Raw::connect(&node).await;
        raw.greet(&extra(number, nonce)).await;
        old.push(raw);
    }
    has_peers(&node, 1).await;
    let mut anew = Raw::connect(&node).await;
    anew.greet(&Hello { nonce: [8; 32], ..first() }).await;
    anew.is_served().await;
    assert_eq!(node.peers().len(), 1);
}

#[tokio::test]
async fn fences_where_one_connection_was_agreed_on_end_the_connection() {
    let node = node().await;
    let mut raw = Raw::join(&node, &Hello { features: feature::ALL, ..Hello::default() }).await;
    raw.write(&Fields::default().u64(1).frame(kind::FENCE)).await;
    let text = raw.until(kind::GOODBYE).await.fields().string();
    assert!(text.contains("fence frame, although the feature was not agreed on"), "{text}");
}

#[tokio::test]
async fn words_behind_fences_that_never_come_are_bounded() {
    let limits = skyhold::Limits::default().watches(1);
    let builder = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0");
    let node = builder.connections_per_peer(4).limits(limits).start().await.unwrap();
    let mut raw = Raw::connect(&node).await;
    raw.greet(&first()).await;
    for number in 0..10_000 {
        let word = Fields::default().u64(number).u8(3).u8(kind::DOWN).u64(number).u8(1).string("");
        raw.write_what_is_taken(&word.frame(kind::BEHIND)).await;
    }
    let text = raw.until(kind::GOODBYE).await.fields().string();
    assert!(text.contains("fences that do not come"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn further_connections_are_a_peers_and_no_strangers() {
    // One stranger at a time: were further connections strangers for long, they would push each other out.
    let cluster = skyhold::testing::Cluster::start_with(2, |node| {
        node.connections_per_peer(8).limits(skyhold::Limits::default().strangers(1))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    for node in [&cluster[0], &cluster[1]] {
        assert_eq!(node.peers().len(), 1);
    }
}
