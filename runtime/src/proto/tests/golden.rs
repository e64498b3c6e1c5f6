//! The bytes of each kind of frame, typed by hand from the written specification and not made by the encoder.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::{CallChain, CallError, ChainLink, Detail};
use crate::event::StopReason;
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId, RequestId, StreamId};
use crate::proto::described::{Described, Description, Understood};
use crate::proto::fence::Word;
use crate::proto::flow::Amount;
use crate::proto::frame::{
    Challenge, Frame, FrameError, Hello, Member, Members, NameEntry, Names, Proof, Refuse, RefuseReason,
    Request, RequestHead, Welcome, Window, parse,
};
use crate::proto::pieces::PieceHead;
use crate::proto::watch::Watch;
use crate::trace::TraceParent;

/// The bytes of digits with spaces between.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The frame has these bytes, and these bytes are the frame.
fn check(frame: &Frame, hex: &str) {
    let bytes = bytes(hex);
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    assert_eq!(format!("{:02x?}", &out[..]), format!("{bytes:02x?}"), "the bytes of {frame:?}");
    let mut buffer = BytesMut::from(&bytes[..]);
    assert_eq!(parse(&mut buffer, 4096).unwrap().as_ref(), Some(frame));
    assert!(buffer.is_empty());
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn link() -> ChainLink {
    let address = Address { node: node("n"), incarnation: Incarnation(9), instance: InstanceId(2) };
    ChainLink { address, handler: "a.b".into(), exclusive: true }
}

/// The frames of the document's last section: what stands in front of two spaces, in one line or in several.
fn published() -> Vec<Vec<u8>> {
    let section = include_str!("../../../PROTOCOL.md").split("\n## Bytes\n").nth(1).unwrap();
    let dump = section.split("```").nth(1).unwrap().trim_start_matches("text");
    let mut frames: Vec<String> = Vec::new();
    for line in dump.lines().filter(|line| !line.is_empty()) {
        let (is_first, bytes) = (!line.starts_with(' '), line.trim_start().split("  ").next().unwrap());
        if is_first {
            frames.push(String::new());
        }
        frames.last_mut().unwrap().push_str(bytes);
    }
    frames.iter().map(|frame| bytes(frame)).collect()
}

#[test]
fn the_documents_bytes_are_frames_and_every_kind_is_among_them() {
    let mut kinds = std::collections::BTreeSet::new();
    for frame in published() {
        let mut buffer = BytesMut::from(&frame[..]);
        let parsed = parse(&mut buffer, 4096).unwrap().unwrap();
        assert!(buffer.is_empty(), "{frame:02x?}");
        let mut out = BytesMut::new();
        parsed.encode(&mut out);
        assert_eq!(out, frame, "the bytes of {parsed:?}");
        kinds.insert(frame[4]);
    }
    let all = (0..=255).filter(|kind| {
        // A known kind without its fields is short, or is a frame; an unknown one is an error or is skipped.
        let mut buffer = BytesMut::from(&[1, 0, 0, 0, *kind][..]);
        !matches!(parse(&mut buffer, 4096), Err(FrameError::UnknownKind(_)) | Ok(None))
    });
    assert!(all.eq(kinds));
}

#[test]
fn hello_has_its_published_bytes() {
    let mut hello = Hello {
        versions: 1..=3,
        features: 5,
        has_secret: true,
        cluster: "demo".to_owned(),
        node: node("alpha"),
        incarnation: Incarnation(0x0102_0304_0506_0708),
        listen: Some("127.0.0.1:7001".parse().unwrap()),
        max_frame: 65_536,
        nonce: [0xAA; 32],
        later: Bytes::new(),
    };
    let fields = "01 534b59484f4c4400 0100 0300 0500000000000000 01 0400 64656d6f 0500 616c706861
        0807060504030201 04 7f000001 591b 00000100
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    check(&Frame::Hello(Box::new(hello.clone())), &format!("56000000 {fields}"));
    hello.later = Bytes::from_static(b"new");
    check(&Frame::Hello(Box::new(hello)), &format!("59000000 {fields} 6e6577"));
}

#[test]
fn the_rest_of_the_handshake_has_its_published_bytes() {
    check(
        &Frame::Challenge(Challenge { version: 1, features: 4, needs_secret: false, nonce: [0xBB; 32] }),
        "2c000000 02 0100 0400000000000000 00
         bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    );
    check(
        &Frame::Proof(Proof { mac: [0xCC; 32] }),
        "21000000 03 cccccccccccccccccccccccccccccccc cccccccccccccccccccccccccccccccc",
    );
    let mut welcome = Welcome {
        node: node("b"),
        incarnation: Incarnation(1),
        listen: None,
        max_frame: 0x0012_0000,
        mac: [0xDD; 32],
    };
    check(
        &Frame::Welcome(Box::new(welcome.clone())),
        "31000000 04 0100 62 0100000000000000 00 00001200
         dddddddddddddddddddddddddddddddd dddddddddddddddddddddddddddddddd",
    );
    welcome.listen = Some("[2001:db8::1]:80".parse().unwrap());
    check(
        &Frame::Welcome(Box::new(welcome)),
        "43000000 04 0100 62 0100000000000000 06 20010db8000000000000000000000001 5000 00001200
         dddddddddddddddddddddddddddddddd dddddddddddddddddddddddddddddddd",
    );
    check(&Frame::Refuse(Refuse::new(RefuseReason::Cluster, "no")), "06000000 05 03 0200 6e6f");
}

#[test]
fn every_refusal_has_its_published_number() {
    for (reason, code) in [
        (RefuseReason::Protocol, "01"),
        (RefuseReason::Version, "02"),
        (RefuseReason::Cluster, "03"),
        (RefuseReason::Secret, "04"),
        (RefuseReason::Duplicate, "05"),
        (RefuseReason::StaleIncarnation, "06"),
        (RefuseReason::NameTaken, "07"),
        (RefuseReason::TooBusy, "08"),
        (RefuseReason::ShuttingDown, "09"),
        (RefuseReason::Certificate, "0a"),
        (RefuseReason::TurnedOff, "0b"),
        (RefuseReason::Unknown(200), "c8"),
    ] {
        check(&Frame::Refuse(reason.into()), &format!("04000000 05 {code} 0000"));
    }
}

/// The head of a call.
fn head() -> RequestHead {
    RequestHead {
        id: RequestId(7),
        instance: InstanceId(3),
        method: MethodId { name: 0x1122_3344, signature: 0x5566_7788 },
        remaining: Some(Duration::from_secs(30)),
        wants_reply: true,
        is_ahead: false,
        is_impatient: false,
        chain: vec![],
        trace: None,
    }
}

#[test]
fn request_has_its_published_bytes() {
    let head = head();
    let payload = Bytes::from_static(b"\x01\x02");
    let ids = "10 0700000000000000 0300000000000000 44332211 88776655";
    check(
        &Frame::Request(Request { head: head.clone(), payload: payload.clone() }),
        &format!("20000000 {ids} 30750000 01 0102"),
    );
    let send = RequestHead { remaining: None, wants_reply: false, ..head.clone() };
    check(
        &Frame::Request(Request { head: send, payload: Bytes::new() }),
        &format!("1e000000 {ids} 00000000 00"),
    );
    let nested = RequestHead { chain: vec![link()], ..head };
    check(
        &Frame::Request(Request { head: nested, payload }),
        &format!(
            "3b000000 {ids} 30750000 03
             0100 0100 6e 0900000000000000 0200000000000000 01 0300 612e62 0102"
        ),
    );
}

#[test]
fn a_request_of_a_trace_has_its_published_bytes() {
    let head = RequestHead {
        chain: vec![link()],
        trace: Some(TraceParent {
            trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
            span_id: 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
            flags: 1,
        }),
        ..head()
    };
    let ids = "10 0700000000000000 0300000000000000 44332211 88776655";
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7 01";
    check(
        &Frame::Request(Request { head: head.clone(), payload: Bytes::from_static(b"\x01\x02") }),
        &format!(
            "54000000 {ids} 30750000 13
             0100 0100 6e 0900000000000000 0200000000000000 01 0300 612e62 {trace} 0102"
        ),
    );
    let send = RequestHead { remaining: None, wants_reply: false, chain: vec![], ..head };
    check(
        &Frame::Request(Request { head: send, payload: Bytes::new() }),
        &format!("37000000 {ids} 00000000 10 {trace}"),
    );
}

#[test]
fn the_answers_and_the_cancel_have_their_published_bytes() {
    let id = RequestId(0x0A);
    check(&Frame::Reply { id, payload: Bytes::from_static(b"\xFF") }, "0a000000 11 0a00000000000000 ff");
    check(&Frame::Cancel { id }, "09000000 13 0a00000000000000");
    check(
        &Frame::Failure { id, error: CallError::Deadlock(CallChain::new(vec![link()])) },
        "25000000 12 0a00000000000000 0a
         0100 0100 6e 0900000000000000 0200000000000000 01 0300 612e62",
    );
}

#[test]
fn every_error_has_its_published_number() {
    type Make = fn(Detail) -> CallError;
    let all: [(Make, &str); 14] = [
        (CallError::NoRoute, "01"),
        (CallError::Overloaded, "02"),
        (CallError::Stopped, "03"),
        (CallError::Stale, "04"),
        (CallError::Denied, "05"),
        (CallError::Incompatible, "06"),
        (CallError::TooLarge, "07"),
        (CallError::Expired, "08"),
        (CallError::Codec, "09"),
        (CallError::Timeout, "0b"),
        (CallError::Disconnected, "0c"),
        (CallError::Panicked, "0d"),
        (CallError::NoReply, "0e"),
        (CallError::BadReply, "0f"),
    ];
    for (make, code) in all {
        let failure = Frame::Failure { id: RequestId(1), error: make("why".into()) };
        check(&failure, &format!("0f000000 12 0100000000000000 {code} 0300 776879"));
    }
}

#[test]
fn an_error_of_a_later_version_promises_nothing() {
    let mut buffer = BytesMut::from(&b"\x0c\0\0\0\x12\x01\0\0\0\0\0\0\0\x63\xFF\xFF"[..]);
    let error = CallError::NoReply("unknown error code 99 from the peer".into());
    assert!(error.may_have_run());
    assert_eq!(parse(&mut buffer, 64), Ok(Some(Frame::Failure { id: RequestId(1), error })));
}

#[test]
fn credit_and_pieces_have_their_published_bytes() {
    let (instance, totals) = (InstanceId(3), Amount { messages: 0x0102, bytes: 0x0304_0506 });
    check(
        &Frame::Credit { instance, totals },
        "19000000 14 0300000000000000 0201000000000000 0605040300000000",
    );
    check(&Frame::Gone { instance }, "09000000 15 0300000000000000");
    let window = Window { instance: Amount { messages: 16, bytes: 65_536 }, pieces: 0x0010_0000 };
    let fields = "16 1000000000000000 0000010000000000 0000100000000000";
    check(&Frame::Window(window), &format!("19000000 {fields}"));
    let mut later = BytesMut::from(&b"\x1c\0\0\0"[..]);
    later.extend_from_slice(&[
        0x16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
    ]);
    later.extend_from_slice(b"new");
    assert_eq!(
        parse(&mut later, 64),
        Ok(Some(Frame::Window(window))),
        "what a later version appends is skipped"
    );
    let bytes = Bytes::from_static(b"\xAA\xBB");
    let head = PieceHead { message: 7, total: Some(0x0001_0203), is_given_up: false };
    check(&Frame::Piece { head, bytes: bytes.clone() }, "0c000000 17 07000000 01 03020100 aabb");
    let head = PieceHead { total: None, ..head };
    check(&Frame::Piece { head, bytes }, "08000000 17 07000000 00 aabb");
    let head = PieceHead { is_given_up: true, ..head };
    check(&Frame::Piece { head, bytes: Bytes::new() }, "06000000 17 07000000 02");
    check(&Frame::Taken { bytes: 0x0102 }, "09000000 1b 0201000000000000");
}

#[test]
fn what_comes_behind_all_connections_has_its_published_bytes() {
    check(&Frame::Fence { number: 7 }, "09000000 1c 0700000000000000");
    let behind = |word| Frame::Behind { number: 7, fences: 3, word };
    let down = Word::Down { id: 11, reason: StopReason::Panicked("why".to_owned()) };
    check(&behind(down), "19000000 1d 0700000000000000 03 1a 0b00000000000000 04 0300 776879");
    let synced = Word::NamesSynced { token: 0x0102 };
    check(&behind(synced), "13000000 1d 0700000000000000 03 b1 0201000000000000");
}

#[test]
fn streams_have_their_published_bytes() {
    let stream = StreamId(5);
    let totals = Amount { messages: 256, bytes: 0x0010_0000 };
    check(
        &Frame::StreamCredit { stream, totals },
        "19000000 28 0500000000000000 0001000000000000 0000100000000000",
    );
    let payload = Bytes::from_static(b"\x01\x02");
    check(&Frame::StreamItem { stream, payload }, "0b000000 29 0500000000000000 0102");
    check(&Frame::StreamEnd { stream, error: None }, "0a000000 2a 0500000000000000 00");
    let error = Some(CallError::NoReply("why".into()));
    check(&Frame::StreamEnd { stream, error }, "0f000000 2a 0500000000000000 0e 0300 776879");
    check(&Frame::StreamStop { stream }, "09000000 2b 0500000000000000");
}

#[test]
fn a_request_with_the_new_flags_has_its_published_bytes() {
    let head = RequestHead { is_ahead: true, is_impatient: true, chain: vec![link()], ..head() };
    check(
        &Frame::Request(Request { head, payload: Bytes::new() }),
        "39000000 10 0700000000000000 0300000000000000 44332211 88776655 30750000 0f
         0100 0100 6e 0900000000000000 0200000000000000 01 0300 612e62",
    );
}

#[test]
fn watching_has_its_published_bytes() {
    let mut watch = Watch { id: 0x0B, instance: InstanceId(3), linked: None };
    check(&Frame::Watch(watch), "12000000 18 0b00000000000000 0300000000000000 00");
    watch.linked = Some(InstanceId(5));
    check(&Frame::Watch(watch), "1a000000 18 0b00000000000000 0300000000000000 01 0500000000000000");
    check(&Frame::Unwatch { id: 0x0B, reason: None }, "0a000000 19 0b00000000000000 00");
    let reason = StopReason::Panicked("why".to_owned());
    check(
        &Frame::Unwatch { id: 0x0B, reason: Some(reason.clone()) },
        "0f000000 19 0b00000000000000 04 0300 776879",
    );
    check(&Frame::Down { id: 0x0B, reason }, "0f000000 1a 0b00000000000000 04 0300 776879");
}

#[test]
fn every_reason_of_an_end_has_its_published_number() {
    for (reason, bytes) in [
        (StopReason::Normal, "01 0000"),
        (StopReason::Shutdown, "02 0000"),
        (StopReason::Error("e".to_owned()), "03 0100 65"),
        (StopReason::Panicked("p".to_owned()), "04 0100 70"),
        (StopReason::Killed, "05 0000"),
        (StopReason::NodeDown("n".to_owned()), "06 0100 6e"),
        (StopReason::Stale, "07 0000"),
        (StopReason::Gone, "08 0000"),
    ] {
        let length = if bytes.len() > 7 { "0d" } else { "0c" };
        check(&Frame::Down { id: 1, reason }, &format!("{length}000000 1a 0100000000000000 {bytes}"));
    }
}

#[test]
fn a_reason_of_a_later_version_is_a_failure() {
    let mut buffer = BytesMut::from(&b"\x0c\0\0\0\x1a\x01\0\0\0\0\0\0\0\x63\xFF\xFF"[..]);
    let reason = StopReason::Error("an unknown reason (kind 99)".to_owned());
    assert!(reason.is_failure());
    assert_eq!(parse(&mut buffer, 64), Ok(Some(Frame::Down { id: 1, reason })));
}

#[test]
fn heartbeats_and_goodbye_have_their_published_bytes() {
    check(&Frame::Ping { token: 0x0102 }, "09000000 20 0201000000000000");
    check(&Frame::Pong { token: 0x0102 }, "09000000 21 0201000000000000");
    check(&Frame::Goodbye { reason: "bye".to_owned() }, "06000000 3f 0300 627965");
}

#[test]
fn names_and_members_have_their_published_bytes() {
    let entries = vec![
        NameEntry {
            name: "db".to_owned(),
            interface: "Db".to_owned(),
            instances: vec![InstanceId(1), InstanceId(2)],
        },
        NameEntry { name: "x".to_owned(), interface: String::new(), instances: vec![] },
    ];
    check(
        &Frame::Names(Names { complete: true, entries }),
        "25000000 30 01 0200
         0200 6462 0200 4462 0200 0100000000000000 0200000000000000
         0100 78 0000 0000",
    );
    let address = "10.0.0.2:7000".parse().unwrap();
    check(
        &Frame::Members(Members {
            members: vec![Member { node: node("b"), incarnation: Incarnation(5), address }],
        }),
        "15000000 31 0100 0100 62 0500000000000000 04 0a000002 581b",
    );
    check(&Frame::Gossip { bytes: Bytes::from_static(&[1, 0xAA, 0xBB]) }, "04000000 32 01aabb");
    let labels = [("zone".to_owned(), "eu".to_owned())].into_iter().collect();
    let descriptions = vec![
        Description { name: "db".to_owned(), claim: Some(5), labels },
        Description { name: "x".to_owned(), ..Description::default() },
    ];
    check(
        &Frame::Described(Described::Traits(descriptions)),
        "22000000 b2 0200
         0200 6462 01 0500000000000000 0100 0400 7a6f6e65 0200 6575
         0100 78 00 0000",
    );
    let methods = vec![MethodId { name: 0x0102_0304, signature: 0x0a0b_0c0d }];
    check(
        &Frame::Described(Described::Methods(vec![Understood { name: "db".to_owned(), methods }])),
        "11000000 b3 0100 0200 6462 0100 04030201 0d0c0b0a",
    );
    check(
        &Frame::Described(Described::Loads(vec![(InstanceId(2), 8)])),
        "0f000000 b4 0100 0200000000000000 08000000",
    );
    check(&Frame::NamesSync { token: 0x0102 }, "09000000 b0 0201000000000000");
    check(&Frame::NamesSynced { token: 0x0102 }, "09000000 b1 0201000000000000");
}
