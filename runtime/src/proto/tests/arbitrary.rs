//! Frames of every kind, for property tests. Their values are those that survive a journey: texts within their
//! limits, times in whole milliseconds.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::error::{CallChain, CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId, RequestId, StreamId};
use crate::proto::described::{Described, Description, Understood};
use crate::proto::fence::Word;
use crate::proto::flow::Amount;
use crate::proto::frame::{
    Challenge, Frame, Hello, Member, Members, NameEntry, Names, Proof, Refuse, RefuseReason, Request,
    RequestHead, SMALLEST_LIMIT, Welcome, Window,
};
use crate::proto::pieces::PieceHead;
use crate::proto::watch::Watch;
use crate::trace::TraceParent;

/// Any frame.
pub(super) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![handshake(), data(), data(), watching()]
}

fn handshake() -> impl Strategy<Value = Frame> {
    let mac = any::<[u8; 32]>();
    prop_oneof![
        hello(),
        (any::<u16>(), any::<u64>(), any::<bool>(), any::<[u8; 32]>()).prop_map(
            |(version, features, needs, nonce)| {
                Frame::Challenge(Challenge { version, features, needs_secret: needs, nonce })
            }
        ),
        mac.prop_map(|mac| Frame::Proof(Proof { mac })),
        (node(), any::<u64>(), proptest::option::of(address()), max_frame(), mac).prop_map(
            |(node, incarnation, listen, max_frame, mac)| {
                let incarnation = Incarnation(incarnation);
                Frame::Welcome(Box::new(Welcome { node, incarnation, listen, max_frame, mac }))
            }
        ),
        (reason(), text()).prop_map(|(reason, detail)| Frame::Refuse(Refuse { reason, detail })),
    ]
}

fn hello() -> impl Strategy<Value = Frame> {
    let numbers = (any::<(u16, u16)>(), any::<u64>(), any::<bool>(), any::<u64>(), max_frame());
    let names = ("[a-z]{1,128}", node(), proptest::option::of(address()));
    (numbers, names, any::<[u8; 32]>(), bytes(40)).prop_map(|(numbers, names, nonce, later)| {
        let ((one, other), features, has_secret, incarnation, max_frame) = numbers;
        let (cluster, node, listen) = names;
        Frame::Hello(Box::new(Hello {
            versions: one.min(other)..=one.max(other),
            features,
            has_secret,
            cluster,
            node,
            incarnation: Incarnation(incarnation),
            listen,
            max_frame,
            nonce,
            later,
        }))
    })
}

fn data() -> impl Strategy<Value = Frame> {
    let id = any::<u64>().prop_map(RequestId);
    prop_oneof![
        request().prop_map(Frame::Request),
        (id.clone(), bytes(300)).prop_map(|(id, payload)| Frame::Reply { id, payload }),
        (id.clone(), call_error()).prop_map(|(id, error)| Frame::Failure { id, error }),
        id.prop_map(|id| Frame::Cancel { id }),
        any::<u64>().prop_map(|token| Frame::Ping { token }),
        any::<u64>().prop_map(|token| Frame::Pong { token }),
        any::<u64>().prop_map(|token| Frame::NamesSync { token }),
        any::<u64>().prop_map(|token| Frame::NamesSynced { token }),
        (any::<bool>(), vec(name_entry(), 0..4))
            .prop_map(|(complete, entries)| Frame::Names(Names { complete, entries })),
        described().prop_map(Frame::Described),
        vec(member(), 0..4).prop_map(|members| Frame::Members(Members { members })),
        vec(any::<u8>(), 0..64).prop_map(|bytes| Frame::Gossip { bytes: bytes.into() }),
        text().prop_map(|reason| Frame::Goodbye { reason }),
        flow(),
        streams(),
    ]
}

fn described() -> impl Strategy<Value = Described> {
    let method = any::<(u32, u32)>().prop_map(|(name, signature)| MethodId { name, signature });
    let understood =
        ("[a-z]{0,256}", vec(method, 0..4)).prop_map(|(name, methods)| Understood { name, methods });
    let load = any::<(u64, u32)>().prop_map(|(instance, load)| (InstanceId(instance), load));
    prop_oneof![
        vec(description(), 0..4).prop_map(Described::Traits),
        vec(understood, 0..4).prop_map(Described::Methods),
        vec(load, 0..4).prop_map(Described::Loads),
    ]
}

fn description() -> impl Strategy<Value = Description> {
    let claim = proptest::option::of(any::<u64>());
    let labels = vec(("[a-z]{0,64}", "[a-z]{0,128}"), 0..4).prop_map(|labels| labels.into_iter().collect());
    ("[a-z]{0,256}", claim, labels).prop_map(|(name, claim, labels)| Description { name, claim, labels })
}

fn watching() -> impl Strategy<Value = Frame> {
    let linked = proptest::option::of(any::<u64>().prop_map(InstanceId));
    prop_oneof![
        (any::<(u64, u64)>(), linked).prop_map(|((id, instance), linked)| {
            Frame::Watch(Watch { id, instance: InstanceId(instance), linked })
        }),
        (any::<u64>(), proptest::option::of(stop_reason()))
            .prop_map(|(id, reason)| Frame::Unwatch { id, reason }),
        (any::<u64>(), stop_reason()).prop_map(|(id, reason)| Frame::Down { id, reason }),
    ]
}

fn stop_reason() -> impl Strategy<Value = StopReason> {
    prop_oneof![
        Just(StopReason::Normal),
        Just(StopReason::Shutdown),
        text().prop_map(StopReason::Error),
        text().prop_map(StopReason::Panicked),
        Just(StopReason::Killed),
        text().prop_map(StopReason::NodeDown),
        Just(StopReason::Stale),
        Just(StopReason::Gone),
    ]
}

/// What one side lets the other send, and pieces.
pub(super) fn flow() -> impl Strategy<Value = Frame> {
    let amount = || any::<(u64, u64)>().prop_map(|(messages, bytes)| Amount { messages, bytes });
    let instance = any::<u64>().prop_map(InstanceId);
    let large = || 1 << 16..=u64::MAX;
    prop_oneof![
        (16..=u64::MAX, large(), large()).prop_map(|(messages, bytes, pieces)| {
            Frame::Window(Window { instance: Amount { messages, bytes }, pieces })
        }),
        (instance.clone(), amount()).prop_map(|(instance, totals)| Frame::Credit { instance, totals }),
        instance.prop_map(|instance| Frame::Gone { instance }),
        any::<u64>().prop_map(|bytes| Frame::Taken { bytes }),
        any::<u64>().prop_map(|number| Frame::Fence { number }),
        (any::<u64>(), any::<u8>(), word()).prop_map(|(number, fences, word)| Frame::Behind {
            number,
            fences,
            word
        }),
        (any::<u32>(), 0..3_u8, any::<u32>(), bytes(300)).prop_map(|(message, form, total, bytes)| {
            let total = (form == 1).then_some(total as usize);
            Frame::Piece { head: PieceHead { message, total, is_given_up: form == 2 }, bytes }
        }),
    ]
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        (any::<u64>(), stop_reason()).prop_map(|(id, reason)| Word::Down { id, reason }),
        any::<u64>().prop_map(|token| Word::NamesSynced { token }),
    ]
}

/// What is said about streams.
pub(super) fn streams() -> impl Strategy<Value = Frame> {
    let stream = || any::<u64>().prop_map(StreamId);
    prop_oneof![
        (stream(), any::<(u64, u64)>()).prop_map(|(stream, (messages, bytes))| {
            Frame::StreamCredit { stream, totals: Amount { messages, bytes } }
        }),
        (stream(), bytes(300)).prop_map(|(stream, payload)| Frame::StreamItem { stream, payload }),
        (stream(), proptest::option::of(call_error()))
            .prop_map(|(stream, error)| Frame::StreamEnd { stream, error }),
        stream().prop_map(|stream| Frame::StreamStop { stream }),
    ]
}

/// Any request.
pub(super) fn request() -> impl Strategy<Value = Request> {
    let method = any::<(u32, u32)>().prop_map(|(name, signature)| MethodId { name, signature });
    let remaining =
        proptest::option::of((1..=u32::MAX).prop_map(|millis| Duration::from_millis(millis.into())));
    let chain = prop_oneof![3 => Just(vec![]), 1 => vec(link(), 0..5)];
    let ids = any::<(u64, u64)>();
    (ids, method, remaining, any::<bool>(), chain, bytes(300)).prop_map(
        |((id, instance), method, remaining, wants_reply, chain, payload)| {
            let (id, instance) = (RequestId(id), InstanceId(instance));
            let is_ahead = id.0.is_multiple_of(3) && !chain.is_empty();
            let is_impatient = id.0.is_multiple_of(5);
            let bytes = std::array::from_fn(|at| id.0.to_le_bytes()[at % 8]);
            let trace = id.0.is_multiple_of(2).then(|| TraceParent::from_bytes(&bytes));
            let head = RequestHead {
                id,
                instance,
                method,
                remaining,
                wants_reply,
                is_ahead,
                is_impatient,
                chain,
                trace,
            };
            Request { head, payload }
        },
    )
}

fn call_error() -> impl Strategy<Value = CallError> {
    prop_oneof![
        vec(link(), 0..5).prop_map(|links| CallError::Deadlock(CallChain::new(links))),
        (0..14_usize, text()).prop_map(|(variant, text)| {
            let make = [
                CallError::NoRoute,
                CallError::Overloaded,
                CallError::Stopped,
                CallError::Stale,
                CallError::Denied,
                CallError::Incompatible,
                CallError::TooLarge,
                CallError::Expired,
                CallError::Codec,
                CallError::Timeout,
                CallError::Disconnected,
                CallError::Panicked,
                CallError::NoReply,
                CallError::BadReply,
            ][variant];
            make(text.into())
        }),
    ]
}

fn link() -> impl Strategy<Value = ChainLink> {
    (node(), any::<(u64, u64, bool)>(), "[a-z]{0,20}\\.[a-z]{0,20}").prop_map(
        |(node, (incarnation, instance, exclusive), handler)| {
            let (incarnation, instance) = (Incarnation(incarnation), InstanceId(instance));
            let address = Address { node, incarnation, instance };
            ChainLink { address, handler: handler.into(), exclusive }
        },
    )
}

fn name_entry() -> impl Strategy<Value = NameEntry> {
    (text(), text(), vec(any::<u64>().prop_map(InstanceId), 0..5))
        .prop_map(|(name, interface, instances)| NameEntry { name, interface, instances })
}

fn member() -> impl Strategy<Value = Member> {
    (node(), any::<u64>(), address()).prop_map(|(node, incarnation, address)| {
        let incarnation = Incarnation(incarnation);
        Member { node, incarnation, address }
    })
}

fn node() -> impl Strategy<Value = NodeId> {
    "[a-zé.-]{1,40}".prop_map(|name| NodeId::new(name).unwrap())
}

fn address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
}

fn reason() -> impl Strategy<Value = RefuseReason> {
    any::<u8>().prop_map(RefuseReason::from_code)
}

fn max_frame() -> impl Strategy<Value = u32> {
    u32::try_from(SMALLEST_LIMIT).unwrap()..
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,30}"
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}
