//! Frames to bytes and back: any frame, any bytes, any cut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::error::{CallChain, CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId, RequestId};
use crate::proto::codec::CodecError;
use crate::proto::frame::{
    Frame, FrameError, MAX_CHAIN, MAX_INSTANCES, MAX_MEMBERS, MAX_TEXT, Member, Members, NameEntry, Names,
    PutError, Request, RequestHead, SMALLEST_LIMIT, parse, put_failure, put_reply, put_request,
};

use super::arbitrary;

const LIMIT: usize = 64 * 1024;

fn encoded(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

/// A frame as a peer might write it.
fn raw(kind: u8, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(u32::try_from(1 + body.len()).unwrap());
    bytes.put_u8(kind);
    bytes.put_slice(body);
    bytes
}

fn head() -> RequestHead {
    RequestHead {
        id: RequestId(1),
        instance: InstanceId(2),
        method: MethodId { name: 3, signature: 4 },
        remaining: None,
        wants_reply: true,
        is_ahead: false,
        is_impatient: false,
        chain: vec![],
        trace: None,
    }
}

/// Feeds `bytes` in pieces; gives the frames up to the first error, and checks what is reserved.
fn parse_pieces(bytes: &[u8], cuts: &[usize], limit: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = BytesMut::new();
    let mut frames = vec![];
    let mut rest = bytes;
    for cut in cuts.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        buffer.extend_from_slice(piece);
        loop {
            match parse(&mut buffer, limit) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        let bound = 2 * (buffer.len() + bytes.len()) + limit.min(LIMIT) + 64;
        assert!(buffer.capacity() <= bound, "{} bytes reserved, {bound} allowed", buffer.capacity());
    }
    (frames, None)
}

proptest! {
    #[test]
    fn every_frame_comes_back_as_it_was_however_it_is_cut(
        frames in vec(arbitrary::frame(), 0..5),
        cuts in vec(0..200_usize, 0..20),
    ) {
        let bytes = encoded(&frames);
        let (parsed, error) = parse_pieces(&bytes, &cuts, LIMIT);
        prop_assert_eq!(error, None);
        prop_assert_eq!(parsed, frames);
    }

    #[test]
    fn no_bytes_panic_or_reserve_beyond_the_limit(
        bytes in vec(any::<u8>(), 0..300),
        cuts in vec(0..40_usize, 0..8),
        limit in prop_oneof![Just(16_usize), Just(4096), Just(usize::MAX)],
    ) {
        parse_pieces(&bytes, &cuts, limit);
    }

    #[test]
    fn no_changed_frame_panics_or_reserves_beyond_the_limit(
        frames in vec(arbitrary::frame(), 1..4),
        changes in vec(any::<(prop::sample::Index, u8)>(), 1..6),
        cuts in vec(0..200_usize, 0..8),
    ) {
        let mut bytes = encoded(&frames);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        parse_pieces(&bytes, &cuts, LIMIT);
    }

    #[test]
    fn no_body_of_any_kind_panics(kind in any::<u8>(), body in vec(any::<u8>(), 0..200)) {
        let bytes = raw(kind, &body);
        parse_pieces(&bytes, &[], LIMIT);
    }

    #[test]
    fn the_hot_paths_write_what_the_frame_writes(request in arbitrary::request()) {
        let Request { head, payload } = &request;
        let lent = RequestHead {
            id: head.id,
            instance: head.instance,
            method: head.method,
            remaining: head.remaining,
            wants_reply: head.wants_reply,
            is_ahead: head.is_ahead,
            is_impatient: head.is_impatient,
            chain: head.chain.as_slice(),
            trace: head.trace,
        };
        let mut out = BytesMut::new();
        put_request(&mut out, &lent, LIMIT, |out| out.put_bytes(payload)).unwrap();
        put_reply(&mut out, head.id, LIMIT, |out| out.put_bytes(payload)).unwrap();
        let reply = Frame::Reply { id: head.id, payload: payload.clone() };
        prop_assert_eq!(out, encoded(&[Frame::Request(request), reply]));
    }
}

#[test]
fn a_payload_is_a_slice_of_the_read_buffer() {
    let payload = Bytes::from(vec![7; 1000]);
    for frame in [
        Frame::Request(Request { head: head(), payload: payload.clone() }),
        Frame::Reply { id: RequestId(1), payload: payload.clone() },
    ] {
        let mut buffer = encoded(std::slice::from_ref(&frame));
        let range = buffer.as_ptr_range();
        let Some(Frame::Request(Request { payload, .. }) | Frame::Reply { payload, .. }) =
            parse(&mut buffer, LIMIT).unwrap()
        else {
            panic!("not the frame that was written");
        };
        assert!(range.contains(&payload.as_ptr()) && payload.len() == 1000);
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_anything_is_reserved() {
    let mut buffer = BytesMut::with_capacity(16);
    buffer.put_slice(&[0xFF; 4]);
    let capacity = buffer.capacity();
    let error = parse(&mut buffer, 1_048_576).unwrap_err();
    assert_eq!(error.to_string(), "frame of 4294967295 bytes, the limit is 1048576");
    assert_eq!(buffer.capacity(), capacity);
}

#[test]
fn a_claimed_length_reserves_no_more_than_a_piece() {
    let limit = 64 << 20;
    let mut buffer = BytesMut::new();
    buffer.put_u32_le(u32::try_from(limit).unwrap());
    assert_eq!(parse(&mut buffer, limit), Ok(None));
    assert!(buffer.capacity() <= 130 * 1024, "{} bytes for four that have arrived", buffer.capacity());
}

#[test]
fn what_is_not_a_frame_is_named_with_what_was_expected() {
    let hello = "HELLO\0\0\0".as_bytes();
    for (kind, body, expected) in [
        (0x3E, &[][..], "frame of unknown kind 0x3e, a kind of this version or one from 0x80 was expected"),
        (0x20, &[1, 2][..], "ping frame ends within `token`"),
        (0xB0, &[1, 2][..], "names sync frame ends within `token`"),
        (0xB1, &[0; 9][..], "names synced frame has 1 bytes after its last field"),
        (0x20, &[0; 9][..], "ping frame has 1 bytes after its last field"),
        (0x01, hello, "the peer does not speak this protocol: a hello begins with SKYHOLD"),
        (0x01, b"GET", "hello frame ends within `magic`"),
        (0x3F, &[0xFF, 0xFF][..], "`reason` of goodbye frame has length 65535, the limit is 1024"),
        (0x3F, &[1, 0, 0xFF][..], "`reason` of goodbye frame is not UTF-8"),
        (0x18, &[0; 16][..], "watch frame ends within `linked`"),
        (0x18, &[2; 17][..], "`linked` of watch frame is 2, 0 or 1 was expected"),
        (0x18, &[1; 24][..], "watch frame ends within `watcher`"),
        (0x18, &[0; 18][..], "watch frame has 1 bytes after its last field"),
        (0x19, &[0; 10][..], "unwatch frame has 1 bytes after its last field"),
        (0x1A, &[0; 9][..], "`reason` of down frame is 0, 1 or more was expected"),
        (0x1A, &[1; 9][..], "down frame ends within `text`"),
        (
            0x1A,
            &[3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 4, 0][..],
            "`text` of down frame has length 1025, the limit is 1024",
        ),
        (0x30, &[2][..], "`complete` of names frame is 2, 0 or 1 was expected"),
        (0x30, &[1, 0xFF, 0xFF][..], "`entries` of names frame has length 65535, the limit is 1024"),
        (0x30, &[1, 0, 4][..], "names frame ends within `entries`"),
        (
            0x31,
            &[1, 0, 1, 0, b' ', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            "node name \" \" contains ' '; white space and control characters are not allowed",
        ),
        (
            0x31,
            &[1, 0, 1, 0, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0][..],
            "`address` of members frame is 5, 0, 4 or 6 was expected",
        ),
    ] {
        let mut buffer = raw(kind, body);
        assert_eq!(parse(&mut buffer, LIMIT).unwrap_err().to_string(), expected);
    }
    let mut buffer = BytesMut::from(&[0; 4][..]);
    assert_eq!(parse(&mut buffer, LIMIT), Err(FrameError::Empty));
}

#[test]
fn unknown_kinds_from_0x80_are_skipped() {
    let mut buffer = BytesMut::from(&b"\x03\0\0\0\x80ab\x01\0\0\0\xFF"[..]);
    Frame::Ping { token: 1 }.encode(&mut buffer);
    assert_eq!(parse(&mut buffer, LIMIT), Ok(Some(Frame::Ping { token: 1 })));
    assert!(buffer.is_empty());
}

#[test]
fn a_frame_that_is_not_written_leaves_the_buffer_as_it_was() {
    let refused = || Err(CodecError::Encode("no".to_owned()));
    let mut out = encoded(&[Frame::Ping { token: 1 }]);
    let before = out.clone();

    let half = put_request(&mut out, &head(), LIMIT, |out| {
        out.put_bytes(b"half")?;
        refused()
    });
    assert_eq!(half, Err(PutError::Codec(CodecError::Encode("no".to_owned()))));
    assert_eq!(out, before);

    let large = put_reply(&mut out, RequestId(1), 100, |out| out.put_bytes(&[0; 92]));
    assert_eq!(large, Err(PutError::TooLarge { limit: 100 }));
    assert_eq!(out, before);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = put_request(&mut out, &head(), LIMIT, |out| {
            out.put_bytes(b"half")?;
            std::panic::resume_unwind(Box::new("a panic in the user's Serialize"))
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(out, before);

    let fits = put_reply(&mut out, RequestId(1), 100, |out| out.put_bytes(&[0; 91]));
    assert_eq!(fits, Ok(()), "the limit itself is allowed");
}

#[test]
fn remaining_time_is_rounded_up_and_never_becomes_none() {
    for (remaining, expected) in [
        (None, None),
        (Some(Duration::ZERO), Some(1)),
        (Some(Duration::from_nanos(1)), Some(1)),
        (Some(Duration::from_millis(1)), Some(1)),
        (Some(Duration::from_micros(1001)), Some(2)),
        (Some(Duration::from_secs(30)), Some(30_000)),
        (Some(Duration::MAX), Some(u64::from(u32::MAX))),
    ] {
        let request = Request { head: RequestHead { remaining, ..head() }, payload: Bytes::new() };
        let mut buffer = encoded(&[Frame::Request(request)]);
        let Ok(Some(Frame::Request(request))) = parse(&mut buffer, LIMIT) else { panic!("no request") };
        assert_eq!(request.head.remaining, expected.map(Duration::from_millis), "{remaining:?}");
    }
}

fn long_chain(links: usize) -> Vec<ChainLink> {
    let link = |instance| ChainLink {
        address: Address {
            node: NodeId::new("n".repeat(NodeId::MAX_LEN)).unwrap(),
            incarnation: Incarnation(1),
            instance: InstanceId(instance),
        },
        handler: "é".repeat(400).into(),
        exclusive: false,
    };
    (0..links as u64).map(link).collect()
}

#[test]
fn what_is_too_long_is_cut_so_that_the_peer_can_read_it() {
    let text = format!("a{}", "é".repeat(1000));
    let mut out = BytesMut::new();
    put_failure(&mut out, RequestId(1), &CallError::Panicked(text.clone().into()));
    let Ok(Some(Frame::Failure { error: CallError::Panicked(cut), .. })) = parse(&mut out, LIMIT) else {
        panic!("not the failure that was written");
    };
    assert_eq!(cut.as_str().len(), MAX_TEXT - 1, "cut before the character that does not fit");
    assert!(text.starts_with(cut.as_str()));

    let down = Frame::Down { id: 1, reason: StopReason::Error(text.clone()) };
    let mut down = encoded(&[down]);
    let Ok(Some(Frame::Down { reason: StopReason::Error(cut), .. })) = parse(&mut down, LIMIT) else {
        panic!("not the end that was written");
    };
    assert_eq!(cut.len(), MAX_TEXT - 1, "cut before the character that does not fit");

    let chain = long_chain(100);
    put_failure(&mut out, RequestId(1), &CallError::Deadlock(CallChain::new(chain)));
    assert!(out.len() < SMALLEST_LIMIT);
    let Ok(Some(Frame::Failure { error: CallError::Deadlock(chain), .. })) = parse(&mut out, LIMIT) else {
        panic!("not the failure that was written");
    };
    assert_eq!(chain.links().len(), MAX_CHAIN);
    assert_eq!(chain.links()[MAX_CHAIN - 1].address.instance, InstanceId(99), "the latest callers are kept");
}

#[test]
fn any_number_of_names_fits_in_frames_within_the_smallest_limit() {
    let entry = |i: usize| NameEntry {
        name: format!("{i}{}", "n".repeat(250)),
        interface: "i".repeat(1024),
        instances: (0..(i as u64 * 37) % 5000).map(InstanceId).collect(),
    };
    for count in [0, 1, 2, 300] {
        let entries: Vec<_> = (0..count).map(entry).collect();
        let frames = Names::frames(true, entries.clone());
        assert_eq!(frames.iter().map(|names| names.complete).filter(|complete| *complete).count(), 1);
        assert!(frames[0].complete, "the first replaces what was said before, the others add to it");
        let mut read = vec![];
        for names in frames {
            let mut buffer = encoded(&[Frame::Names(names)]);
            assert!(buffer.len() - 4 <= SMALLEST_LIMIT, "{} bytes", buffer.len());
            let Ok(Some(Frame::Names(names))) = parse(&mut buffer, SMALLEST_LIMIT) else {
                panic!("no names")
            };
            read.extend(names.entries);
        }
        let mut expected = entries;
        for entry in &mut expected {
            entry.instances.truncate(MAX_INSTANCES);
        }
        assert_eq!(read, expected);
    }
    assert_eq!(Names::frames(false, vec![]), []);
    let tiny = NameEntry { name: "n".to_owned(), interface: "i".to_owned(), instances: vec![InstanceId(1)] };
    assert_eq!(Names::frames(false, vec![tiny; 1025]).len(), 2);
}

#[test]
fn any_number_of_members_fits_in_frames_within_the_smallest_limit() {
    let member = Member {
        node: NodeId::new("n".repeat(NodeId::MAX_LEN)).unwrap(),
        incarnation: Incarnation(1),
        address: "[2001:db8::1]:1".parse().unwrap(),
    };
    let frames = Members::frames(&vec![member; MAX_MEMBERS + 1]);
    assert_eq!(frames.iter().map(|members| members.members.len()).collect::<Vec<_>>(), [MAX_MEMBERS, 1]);
    for members in frames {
        let buffer = encoded(&[Frame::Members(members)]);
        assert!(buffer.len() - 4 <= SMALLEST_LIMIT, "{} bytes", buffer.len());
    }
}
