//! Payloads: any bytes as the arguments and replies of methods, with numbers, texts, byte strings, handles and streams in
//! them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::input::Input;
use crate::config::Limits;
use crate::error::CallError;
use crate::node::node::Node;
use crate::port::Link;
use crate::proto::codec::Encoder;
use crate::proto::settings::PeerIdentity;
use crate::service::ambient;
use crate::service::message::{Message, WireMessage};
use crate::service::payload::{Decoder, PlainForm, ReplyForm, ResultForm};
use crate::service::reply::ReplyPath;
use crate::service::streaming::Streaming;

/// What decodes is encoded to what decodes to the same; of streams no more are read than may be, nobody who reads one is
/// forgotten at the connection's end, and nothing stays.
pub fn payload(data: &[u8]) {
    let mut input = Input::new(data);
    let (choice, bytes) = (usize::from(input.u8()), Bytes::copy_from_slice(input.rest()));
    NODE.with(|node| {
        let Running { runtime, node } = node.get_or_init(Running::new);
        let _enter = runtime.enter();
        let link = Link::new(&peer(), Limits::default().streams(STREAMS), Arc::new(drop));
        ambient::reading(&node.inner().host, Some(&link), || read(choice, &bytes, &link));
        assert!(link.kept()[2] == 0, "streams are left: {:?}", link.kept());
    });
}

/// How many streams may be read at a time.
const STREAMS: usize = 4;

thread_local! {
    /// For whom is read. Handles need one, and making one takes longer than all the rest.
    static NODE: OnceCell<Running> = const { OnceCell::new() };
}

struct Running {
    runtime: Runtime,
    node: Node,
}

impl Running {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let node = runtime.block_on(Node::builder("a").start()).expect("a node that does not listen");
        Self { runtime, node }
    }
}

fn peer() -> PeerIdentity {
    use crate::proto::settings::{DEFAULT_MAX_FRAME, FEATURES};
    PeerIdentity {
        node: crate::id::NodeId::new("b").expect("a name"),
        incarnation: crate::id::Incarnation(1),
        listen: None,
        version: 1,
        features: FEATURES,
        max_frame: DEFAULT_MAX_FRAME,
        dial: 1,
        challenge: [1; 32],
        extra: None,
    }
}

/// What stands inside of an argument.
#[derive(Debug, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Text(String),
    Tree(Vec<Shape>),
    Table(BTreeMap<String, (u8, Option<char>)>),
    Number { small: i16, large: u128, broken: f32 },
}

#[skyhold_macros::service(crate = crate)]
trait Target {
    fn plain(&self, number: u64, text: String, flag: Option<bool>);
    fn bytes(&self, one: Bytes, many: Vec<Bytes>, perhaps: Option<Bytes>);
    fn shapes(&self, shape: Shape, list: Vec<i64>);
    fn handles(&self, one: TargetHandle, many: Vec<TargetHandle>);
    fn streams(&self, one: Streaming<u64>, many: Vec<Streaming<Bytes>>);
}

fn read(choice: usize, bytes: &Bytes, link: &Arc<Link>) {
    let methods = TargetMessage::METHODS;
    let Some(method) = methods.get(choice % (methods.len() + 4)) else {
        return read_reply(choice % (methods.len() + 4) - methods.len(), bytes);
    };
    let name = method.id().name;
    let Ok(message) = TargetMessage::decode(name, Decoder::new(bytes), ReplyPath(None)) else { return };
    if let TargetMessage::Streams { one, many, .. } = message {
        return read_streams(one, many, link);
    }
    let encoded = encode(|out| message.encode(out));
    let again = TargetMessage::decode(name, Decoder::new(&encoded), ReplyPath(None));
    let Ok(again) = again else { panic!("what was encoded does not decode: {encoded:?}") };
    assert_eq!(encode(|out| again.encode(out)), encoded, "it changes on its way");
}

fn encode<E: std::fmt::Debug>(put: impl FnOnce(&mut Encoder<'_>) -> Result<(), E>) -> Bytes {
    let mut out = BytesMut::new();
    put(&mut Encoder::new(&mut out, usize::MAX)).expect("what was decoded encodes");
    out.freeze()
}

fn read_streams(one: Streaming<u64>, many: Vec<Streaming<Bytes>>, link: &Arc<Link>) {
    assert!(link.kept()[2] <= STREAMS, "more streams are read than may be: {:?}", link.kept());
    // Whatever is dropped before the end, the others hear of that.
    let kept: Vec<_> = many.into_iter().rev().step_by(2).collect();
    link.close("the end", None);
    assert_ends(one);
    kept.into_iter().for_each(assert_ends);
}

fn assert_ends<T>(stream: Streaming<T>) {
    let mut stream = std::pin::pin!(stream);
    let next = stream.as_mut().poll_next(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(next, std::task::Poll::Ready(Some(Err(_)))), "nobody told the reader of {stream:?}");
}

/// What a peer answers.
fn read_reply(form: usize, bytes: &Bytes) {
    type Answer = Result<Option<Bytes>, Shape>;
    fn check<T>(
        read: impl Fn(&Bytes) -> Result<T, CallError>,
        write: impl Fn(&T, &mut Encoder<'_>) -> Result<(), crate::proto::codec::CodecError>,
        bytes: &Bytes,
    ) {
        let Ok(value) = read(bytes) else { return };
        let encoded = encode(|out| write(&value, out));
        let Ok(again) = read(&encoded) else { panic!("what was encoded does not decode: {encoded:?}") };
        assert_eq!(encode(|out| write(&again, out)), encoded, "it changes on its way");
    }
    macro_rules! check {
        ($type:ty) => {
            check(
                |bytes| (&ReplyForm::<$type>::NEW).read(bytes),
                |value: &$type, out| (&ReplyForm::<$type>::NEW).write(value, out),
                bytes,
            )
        };
    }
    match form {
        0 => check!(Answer),
        1 => check!(Vec<Bytes>),
        2 => check!((u8, Vec<String>, Option<Shape>)),
        _ => check!(Result<(), String>),
    }
}
