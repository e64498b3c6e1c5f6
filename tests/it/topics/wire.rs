//! A topic as its peers see it: over TCP, by hand.

use super::*;
use crate::raw::{Fields, Frame, Hello, Raw, kind, soon};

const STRING: &str = "alloc::string::String";

/// Says that the peer has subscribers for `chat`.
fn subscribes(item: &str, instance: u64) -> Vec<u8> {
    let names = Fields::default().u8(1).u16(1).string("topic/chat").string(item);
    names.u16(1).u64(instance).frame(kind::NAMES)
}

/// A node, and a peer by hand that the node knows as a subscriber.
async fn scene(item: &str) -> (Node, Raw) {
    let node = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let mut raw = Raw::join(&node, &Hello::default()).await;
    raw.write(&subscribes(item, 77)).await;
    let known = async {
        while !is_known(&node) {
            tokio::task::yield_now().await;
        }
    };
    soon("the peer's names", known).await;
    (node, raw)
}

/// The instance, the method's two hashes, the time, the flags and the payload of a request.
fn request(frame: &Frame) -> (u64, [u32; 2], u32, u8, Vec<u8>) {
    let mut fields = frame.fields();
    fields.u64(); // its number
    let instance = fields.u64();
    let mut u32 = || u32::from(fields.u16()) | u32::from(fields.u16()) << 16;
    let (method, time) = ([u32(), u32()], u32());
    (instance, method, time, fields.u8(), fields.0.to_vec())
}

#[tokio::test]
async fn an_item_is_one_request_without_reply_to_the_peers_number() {
    let (node, mut raw) = scene(STRING).await;
    let _here = chat::<String>(&node).subscribe().await.unwrap();
    let _here_too = chat::<String>(&node).subscribe().await.unwrap();
    for _ in 0..3 {
        assert_eq!(reach(chat(&node).publish("hello".to_owned()).unwrap()), (2, 1, 0));
    }
    let frames = raw.is_served().await;
    let requests: Vec<_> = frames.iter().filter(|frame| frame.kind == kind::REQUEST).map(request).collect();
    let expected = (77, [fnv("item\0"), fnv("String\0")], 0, 0, b"\x05hello".to_vec());
    assert_eq!(requests, vec![expected; 3]);
}

/// FNV-1a with 32 bits, as the protocol's document names it.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[tokio::test]
async fn a_peer_with_another_type_gets_nothing() {
    let (node, mut raw) = scene("other::Line").await;
    assert_eq!(reach(chat(&node).publish("hello".to_owned()).unwrap()), (0, 0, 1));
    assert!(raw.is_served().await.iter().all(|frame| frame.kind != kind::REQUEST));
}

#[tokio::test]
async fn a_peer_that_knows_the_type_under_another_path_gets_its_items() {
    let (node, _raw) = scene("somewhere::String").await;
    assert_eq!(reach(chat(&node).publish("hello".to_owned()).unwrap()), (0, 1, 0));
}

#[tokio::test]
async fn what_is_no_item_reaches_no_subscriber() {
    let (node, mut raw) = scene(STRING).await;
    let mut items = chat::<String>(&node).subscribe().await.unwrap();
    let mut events = node.events();
    let names = raw.until(kind::NAMES).await;
    let names = if names.fields().0[1..3] == [0, 0] { raw.until(kind::NAMES).await } else { names };
    let mut fields = names.fields();
    assert_eq!((fields.u8(), fields.u16()), (0, 1), "a change, of one name");
    assert_eq!((fields.string(), fields.string()), ("topic/chat".to_owned(), STRING.to_owned()));
    assert_eq!(fields.u16(), 1);
    let hub = fields.u64();
    let item = [fnv("item\0"), fnv("String\0")];
    for (id, method, flags, payload) in [
        (1, item, 1, &b"\x05hello"[..]), // a call
        (2, [item[0], item[1] ^ 1], 0, b"\x05hello"),
        (3, [item[0] ^ 1, item[1]], 0, b"\x05hello"),
        (4, item, 0, b"\x06hello"),
        (5, item, 0, b"\x05hello more"),
    ] {
        let head = Fields::default().u64(id).u64(hub).u32(method[0]).u32(method[1]);
        raw.write(&head.u32(0).u8(flags).bytes(payload).frame(kind::REQUEST)).await;
    }
    let head = Fields::default().u64(6).u64(hub).u32(item[0]).u32(item[1]);
    raw.write(&head.u32(0).u8(0).bytes(b"\x02ok").frame(kind::REQUEST)).await;
    assert_eq!(soon("the item", items.next()).await.as_deref(), Some("ok"));
    let failure = raw.until(kind::FAILURE).await;
    let mut fields = failure.fields();
    assert_eq!((fields.u64(), fields.u8()), (1, 6), "no such method");
    let expected = ("topic/chat".to_owned(), DeadLetterReason::Undecodable);
    assert_eq!(dead_letters(&mut events), vec![expected; 5]);
}
