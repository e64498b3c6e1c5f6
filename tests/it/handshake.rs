//! Who is let in: over TCP, what a stranger with the wrong secret, name, version or bytes gets, and what both logs say.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::time::{Duration, Instant};

use skyhold::prelude::*;
use skyhold::{Events, NodeBuilder};

use crate::raw::{Fields, Hello, PATIENCE, Raw, has_peers, kind, refusal, soon};

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

const RIGHT: &str = "the right secret of this test";
const WRONG: &str = "another secret than this test's";

/// A node that listens, and its events.
async fn listening(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> (Node, Events) {
    let node =
        configure(Node::builder("a").insecure_without_secret().listen("127.0.0.1:0")).start().await.unwrap();
    let events = node.events();
    (node, events)
}

/// Starts a node that dials another, and checks what the events of both say of the refusal.
async fn check_refused(
    listener: impl FnOnce(NodeBuilder) -> NodeBuilder,
    dialler: impl FnOnce(NodeBuilder) -> NodeBuilder,
    by_listener: &str,
    by_dialler: &str,
) {
    let (a, mut a_events) = listening(listener).await;
    let seed = a.address().unwrap().to_string();
    let b = dialler(Node::builder("b").insecure_without_secret().seed(seed)).start().await.unwrap();
    let mut b_events = b.events();
    assert_eq!(refusal(&mut a_events).await, by_listener);
    assert_eq!(refusal(&mut b_events).await, by_dialler);
    assert!(a.peers().is_empty() && b.peers().is_empty());
    assert!(a.counters().refused_connections >= 1);
    assert!(b.counters().refused_connections >= 1);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_both_sides_say_so() {
    check_refused(
        |a| a.secret(secret(RIGHT)),
        |b| b.secret(secret(WRONG)),
        "refused by this node: wrong secret",
        "refused by the peer, in its words: wrong secret",
    )
    .await;
}

#[tokio::test]
async fn a_secret_on_one_side_only_is_refused_and_both_sides_say_so() {
    check_refused(
        |a| a.secret(secret(RIGHT)),
        |b| b,
        "refused by this node: wrong secret: the peer has none, this node has one",
        "refused by the peer, in its words: wrong secret: the peer has none, this node has one",
    )
    .await;
    check_refused(
        |a| a,
        |b| b.secret(secret(RIGHT)),
        "refused by this node: wrong secret: the peer has one, this node has none",
        "refused by the peer, in its words: wrong secret: the peer has one, this node has none",
    )
    .await;
}

#[tokio::test]
async fn another_cluster_is_refused_and_is_not_told_this_one_s_name() {
    check_refused(
        |a| a.cluster("this-one"),
        |b| b.cluster("another"),
        "refused by this node: cluster name differs: the peer says \"another\"",
        "refused by the peer, in its words: cluster name differs: the peer says \"another\"",
    )
    .await;
}

#[tokio::test]
async fn a_node_with_this_node_s_name_is_refused_and_both_sides_say_so() {
    let (a, mut a_events) = listening(|a| a).await;
    let seed = a.address().unwrap().to_string();
    let twin = Node::builder("a").insecure_without_secret().seed(seed).start().await.unwrap();
    let mut twin_events = twin.events();
    let text = "node name is taken: the peer has the name of this node, \"a\"";
    assert_eq!(refusal(&mut a_events).await, format!("refused by this node: {text}"));
    assert_eq!(refusal(&mut twin_events).await, format!("refused by the peer, in its words: {text}"));
    assert!(a.peers().is_empty() && twin.peers().is_empty());
}

#[tokio::test]
async fn the_right_secret_is_let_in() {
    let (a, _) = listening(|a| a.secret(secret(RIGHT))).await;
    let seed = a.address().unwrap().to_string();
    let b = Node::builder("b").seed(seed).secret(secret(RIGHT)).start().await.unwrap();
    has_peers(&a, 1).await;
    has_peers(&b, 1).await;
    let hello = Hello { secret: Some(RIGHT.into()), ..Hello::default() };
    let mut raw = Raw::join(&a, &hello).await;
    raw.is_served().await;
}

#[tokio::test]
async fn a_dialler_of_later_versions_only_is_refused_with_both_ranges() {
    let (a, mut events) = listening(|a| a).await;
    let mut raw = Raw::connect(&a).await;
    raw.write(&Hello { versions: (2, 3), ..Hello::default() }.frame()).await;
    let text = "the peer speaks 2 to 3, this node 1 to 1";
    assert_eq!(raw.expect(kind::REFUSE).await.refusal(), (2, text.to_owned()));
    assert!(raw.rest().await.is_empty());
    let told = refusal(&mut events).await;
    assert_eq!(told, format!("refused by this node: no common protocol version: {text}"));
}

#[tokio::test]
async fn a_dialler_of_later_versions_too_is_let_in_with_the_common_one() {
    let (a, _) = listening(|a| a).await;
    let mut raw = Raw::connect(&a).await;
    let mut hello = Hello { versions: (1, 9), ..Hello::default() }.frame();
    // What a later version appends to its `Hello` is passed over.
    hello.extend_from_slice(b"of a later version");
    let length = u32::try_from(hello.len() - 4).unwrap();
    hello[..4].copy_from_slice(&length.to_le_bytes());
    raw.write(&hello).await;
    assert_eq!(raw.expect(kind::CHALLENGE).await.fields().u16(), 1);
    raw.write(&Fields::default().bytes(&[0; 32]).frame(kind::PROOF)).await;
    raw.expect(kind::WELCOME).await;
    raw.is_served().await;
}

#[tokio::test]
async fn an_acceptor_that_chooses_another_version_is_refused() {
    let (listener, address) = Raw::listener().await;
    let node = Node::builder("b").insecure_without_secret().seed(address.to_string()).start().await.unwrap();
    let mut events = node.events();
    let mut raw = Raw::accept(&listener).await;
    raw.expect(kind::HELLO).await;
    raw.write(&Fields::default().u16(9).u64(0).u8(0).bytes(&[1; 32]).frame(kind::CHALLENGE)).await;
    let text = "the peer chose version 9, this node speaks 1 to 1";
    assert_eq!(raw.expect(kind::REFUSE).await.refusal(), (1, text.to_owned()));
    assert!(raw.rest().await.is_empty());
    assert_eq!(refusal(&mut events).await, format!("refused by this node: protocol error: {text}"));
}

#[tokio::test]
async fn an_acceptor_without_the_secret_is_refused_although_it_welcomes() {
    let (listener, address) = Raw::listener().await;
    let node = Node::builder("b").seed(address.to_string()).secret(secret(RIGHT)).start().await.unwrap();
    let mut events = node.events();
    let mut raw = Raw::accept(&listener).await;
    raw.expect(kind::HELLO).await;
    raw.write(&Fields::default().u16(1).u64(0).u8(1).bytes(&[1; 32]).frame(kind::CHALLENGE)).await;
    raw.expect(kind::PROOF).await;
    let welcome = Fields::default().string("impostor").u64(1).u8(0).u32(1 << 20).bytes(&[0; 32]);
    raw.write(&welcome.frame(kind::WELCOME)).await;
    assert_eq!(raw.expect(kind::REFUSE).await.refusal().0, 4);
    assert!(raw.rest().await.is_empty());
    assert_eq!(refusal(&mut events).await, "refused by this node: wrong secret");
    assert!(node.peers().is_empty());
}

#[tokio::test]
async fn a_recorded_handshake_is_worth_nothing() {
    let (a, mut events) = listening(|a| a.secret(secret(RIGHT))).await;
    let hello = Hello { secret: Some(RIGHT.into()), ..Hello::default() };
    let mut first = Raw::connect(&a).await;
    first.write(&hello.frame()).await;
    let proof = hello.proof(&first.expect(kind::CHALLENGE).await);
    first.write(&proof).await;
    first.expect(kind::WELCOME).await;

    let mut again = Raw::connect(&a).await;
    again.write(&hello.frame()).await;
    again.expect(kind::CHALLENGE).await;
    again.write(&proof).await;
    assert_eq!(again.expect(kind::REFUSE).await.refusal().0, 4);
    assert!(again.rest().await.is_empty());
    assert_eq!(refusal(&mut events).await, "refused by this node: wrong secret");
    first.is_served().await;
}

/// Writes `bytes` to a node as the first ones, and checks that it closes the stream, says why, and serves others.
async fn check_closed(bytes: &[u8], expected: &str) {
    let (a, mut events) = listening(|a| a).await;
    let mut raw = Raw::connect(&a).await;
    raw.write_what_is_taken(bytes).await;
    let told = raw.rest().await;
    assert!(told.iter().all(|frame| [kind::CHALLENGE, kind::REFUSE].contains(&frame.kind)), "{told:?}");
    let reason = refusal(&mut events).await;
    assert!(reason.starts_with("refused by this node: protocol error: "), "{reason}");
    assert!(reason.contains(expected), "{reason}, and {expected:?} was expected");
    Raw::join(&a, &Hello::default()).await.is_served().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_log_says_what_came() {
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03];
    check_closed(request, "limit").await;
    check_closed(&tls, "limit").await;
    check_closed(&[0xFF; 64], "limit").await;
    check_closed(&[0; 64], "").await;
    check_closed(&Fields::default().bytes(b"SKYHOLD?").frame(kind::HELLO), "").await;
    check_closed(&Fields::default().bytes(&[0; 5000]).frame(kind::HELLO), "limit").await;
}

#[tokio::test]
async fn frames_before_the_handshake_is_done_are_refused() {
    check_closed(&Fields::default().u64(1).frame(kind::PING), "hello was expected").await;
    check_closed(&Fields::default().u64(1).frame(kind::CANCEL), "hello was expected").await;
    let hello = Hello::default().frame();
    check_closed(&[hello.clone(), hello].concat(), "a proof was expected").await;
    let names = Fields::default().u8(1).u16(0).frame(kind::NAMES);
    check_closed(&[Hello::default().frame(), names].concat(), "a proof was expected").await;
}

/// Connects, writes the beginning of a handshake, then nothing more: the node closes within its timeout.
async fn check_timed_out(beginning: &[u8]) {
    const LIMIT: Duration = Duration::from_millis(300);
    let (a, mut events) = listening(|a| a.handshake_timeout(LIMIT)).await;
    let begin = Instant::now();
    let mut raw = Raw::connect(&a).await;
    raw.write(beginning).await;
    raw.rest().await;
    let took = begin.elapsed();
    assert!(took >= LIMIT && took < PATIENCE / 4, "{took:?}");
    assert_eq!(refusal(&mut events).await, "the handshake was not done in time");
}

#[tokio::test]
async fn who_says_nothing_is_closed_within_the_handshake_timeout() {
    check_timed_out(b"").await;
}

#[tokio::test]
async fn who_stops_in_the_middle_of_the_handshake_is_closed_within_the_handshake_timeout() {
    let hello = Hello::default().frame();
    check_timed_out(&hello[..3]).await;
    check_timed_out(&hello[..hello.len() - 1]).await;
    check_timed_out(&hello).await;
}

#[tokio::test]
async fn who_sends_a_byte_now_and_then_gets_no_more_time() {
    let limit = Duration::from_millis(300);
    let (a, mut events) = listening(|a| a.handshake_timeout(limit)).await;
    let mut raw = Raw::connect(&a).await;
    let hello = Hello { cluster: "x".repeat(128), node: "y".repeat(128), ..Hello::default() }.frame();
    let end = async {
        for byte in hello {
            raw.write_what_is_taken(&[byte]).await;
            let readable = tokio::time::timeout(Duration::from_millis(20), raw.stream.readable());
            if readable.await.is_ok() {
                break;
            }
        }
        raw.rest().await;
    };
    soon("the end of a slow handshake", end).await;
    assert_eq!(refusal(&mut events).await, "the handshake was not done in time");
}

#[tokio::test]
async fn silent_strangers_do_not_keep_a_peer_out() {
    let (a, _) = listening(|a| a).await;
    let mut strangers = Vec::new();
    for _ in 0..50 {
        strangers.push(Raw::connect(&a).await);
    }
    Raw::join(&a, &Hello::default()).await.is_served().await;
    assert_eq!(strangers.len(), 50);
}
