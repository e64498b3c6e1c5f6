//! An established connection, and what its driver keeps for the peer: any frames, in any order, between any of the
//! driver's own steps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio_util::codec::Decoder;

use super::input::Input;
use crate::config::{LEAST_CREDIT, Limits};
use crate::error::CallError;
use crate::id::{Incarnation, InstanceId, MethodId, NodeId, StreamId};
use crate::net::framing::{FrameDecoder, Next, ReadError};
use crate::port::{self, Head, Items, Link, Released, ReplySlot, WatchId, Watcher};
use crate::proto::connection::{CloseReason, Connection, ConnectionConfig, Event, MAX_TRANSMIT};
use crate::proto::fence::TooMany;
use crate::proto::frame::{Begun, Request, SMALLEST_LIMIT};
use crate::proto::inbound::Insert;
use crate::proto::inflow::MAX_GONE;
use crate::proto::outgoing::Outgoing;
use crate::proto::pieces::{MAX_OPEN, PieceHead};
use crate::proto::settings::{FEATURES, FLOW, Identity, STREAMS};
use crate::time;
use crate::trace::TraceParent;

/// Whatever the peer says ends the connection with a reason or leaves it within its bounds; and what it is told is, after
/// its end, not changed any more.
pub fn connection(data: &[u8]) {
    let mut input = Input::new(data);
    let features = input.one_of(&[FEATURES, 0, FLOW, STREAMS]);
    let mut scene = Scene::new(features);
    for _ in 0..2000 {
        if input.is_empty() || scene.closed.is_some() {
            break;
        }
        scene.step(&mut input);
        scene.drain();
        scene.check();
    }
    scene.end();
}

/// How many instances run here: those of the first numbers.
const INSTANCES: u64 = 4;

const REQUESTS: usize = 8;
const WATCHES: usize = 4;
const READ: usize = 4;
const ITEMS: usize = 3;
const ITEM_BYTES: usize = 64;

/// One side, with the instances that it has.
struct Scene {
    connection: Connection,
    link: Arc<Link>,
    now: Instant,
    out: Outgoing,
    /// What each instance was sent, and has not dealt with.
    waiting: BTreeMap<InstanceId, VecDeque<usize>>,
    /// What waited when its instance ended: it leaves later.
    late: VecDeque<(InstanceId, usize)>,
    streams: BTreeMap<u64, Arc<Items>>,
    replies: Vec<tokio::sync::oneshot::Receiver<Result<bytes::Bytes, CallError>>>,
    closed: Option<CloseReason>,
}

impl Scene {
    fn new(features: u64) -> Self {
        let now = time::now();
        let limits = Limits::default()
            .credit(LEAST_CREDIT.0, LEAST_CREDIT.1)
            .requests(REQUESTS)
            .watches(WATCHES)
            .streams(READ)
            .stream_credit(ITEMS, ITEM_BYTES);
        let config = |node: &str, features| {
            let node = NodeId::new(node).expect("a name");
            let identity =
                Identity { cluster: "demo".to_owned(), node, incarnation: Incarnation(1), listen: None };
            let mut config = ConnectionConfig::new(identity, None);
            config.features = features;
            config.max_frame = 2 * SMALLEST_LIMIT;
            config.limits = limits;
            config
        };
        let mut peer = Connection::dial(config("a", features), [1; 32], now);
        let mut connection = Connection::accept(config("b", FEATURES), [2; 32], now);
        let mut established = None;
        while established.is_none() {
            while let Some(frame) = peer.poll_transmit() {
                connection.handle_frame(now, frame);
            }
            match connection.poll_event() {
                Some(Event::Admit(_)) => connection.admit(now, Ok(())),
                Some(Event::Established(peer)) => established = Some(peer),
                other => assert_eq!(other, None),
            }
            if established.is_none()
                && let Some(frame) = connection.poll_transmit()
            {
                peer.handle_frame(now, frame);
            }
        }
        let peer = established.expect("the loop ends with it");
        Self {
            connection,
            link: Link::new(&peer, limits, Arc::new(drop)),
            now,
            out: Outgoing::default(),
            waiting: BTreeMap::new(),
            late: VecDeque::new(),
            streams: BTreeMap::new(),
            replies: Vec::new(),
            closed: None,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.u8() % 32 {
            kind @ 0..=15 => {
                let kind = [
                    0x10, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x18, 0x19, 0x1A, 0x1B, 0x28, 0x29, 0x2A,
                    0x2B,
                ][usize::from(kind)];
                let frame = input.frame(kind, 0);
                self.read(frame);
            }
            16 => {
                let kind = input.u8();
                let frame = input.frame(kind, 0);
                self.read(frame);
            }
            17 => {
                // Long, up to the limit and a little beyond.
                let (kind, zeroes) = (input.one_of(&[0x10, 0x11, 0x29]), input.u16());
                let frame = input.frame(kind, usize::from(zeroes));
                self.read(frame);
            }
            18..=20 => self.read_piece(input),
            21 => {
                let length = usize::from(input.u8());
                self.read(BytesMut::from(input.take(length)));
            }
            22 => {
                self.now += Duration::from_millis(u64::from(input.u8()) * 40);
                self.connection.handle_timeout(self.now);
            }
            23 => self.deal_with(InstanceId(u64::from(input.u8()) % INSTANCES)),
            24 => {
                if let Some((instance, bytes)) = self.late.pop_front() {
                    self.connection.consumed(instance, bytes);
                }
            }
            25 => {
                let instance = InstanceId(u64::from(input.u8()) % INSTANCES);
                let late = self.waiting.remove(&instance).unwrap_or_default();
                self.late.extend(late.into_iter().map(|bytes| (instance, bytes)));
                self.connection.gone(instance);
            }
            26 => {
                let stream = u64::from(input.u8() % 8);
                self.streams.entry(stream).or_insert_with(|| self.link.read_stream(StreamId(stream)));
            }
            27 => self.read_item(u64::from(input.u8() % 8)),
            28 => {
                let stream = u64::from(input.u8() % 8);
                if let Some(items) = self.streams.remove(&stream) {
                    self.link.stop_reading(StreamId(stream), &items);
                }
            }
            29 => self.write(usize::from(input.u16())),
            30 => self.call(input),
            _ => self.connection.probe(self.now),
        }
    }

    /// What a peer sends goes the way that it goes in the driver.
    fn read(&mut self, mut bytes: BytesMut) {
        let mut decoder = FrameDecoder { limit: self.connection.limit() };
        match decoder.decode(&mut bytes) {
            Ok(Some(Next::Frame(frame))) => self.connection.handle_frame(self.now, frame),
            Ok(Some(Next::Piece(Begun { head, length, part, .. }))) => {
                self.begin_piece(head, length);
                if let Some(place) = self.connection.piece_bytes() {
                    place.extend_from_slice(&part);
                }
                // The rest of it never comes.
                self.connection.handle_end(self.now, None);
            }
            Ok(None) => self.connection.handle_part(self.now),
            Err(ReadError::Frame(error)) => self.connection.handle_error(self.now, &error),
            Err(ReadError::Io(error)) => panic!("no stream was read: {error}"),
        }
    }

    /// A piece that comes whole, in two parts.
    fn read_piece(&mut self, input: &mut Input<'_>) {
        let message = u32::from(input.u8() % 10);
        let total = match input.u8() {
            0..=127 => None,
            128..=191 => Some(usize::from(input.u8())),
            _ => Some(usize::from(input.u16()) * 4),
        };
        let is_given_up = total.is_none() && input.u8() > 200;
        let length = match input.u8() {
            small @ 0..=200 => usize::from(small),
            _ => usize::from(input.u16()),
        };
        let begin = input.take(length.min(64));
        self.begin_piece(PieceHead { message, total, is_given_up }, length);
        if let Some(place) = self.connection.piece_bytes() {
            place.extend_from_slice(begin);
            place.resize(place.len() + length - begin.len(), 0);
        }
        self.connection.handle_piece_end(self.now);
    }

    fn begin_piece(&mut self, head: PieceHead, length: usize) {
        self.connection.handle_piece_begin(self.now, head, length);
    }

    /// Hands on what has happened, as the driver does.
    fn drain(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            assert!(self.closed.is_none(), "{event:?} after the end");
            let link = &self.link;
            match event {
                Event::Request(request) => self.request(&request),
                Event::Reply { id, payload } => link.answered(id, Ok(payload)),
                Event::Failure { id, error } => link.answered(id, Err(error)),
                Event::Cancel { id } => link.cancel_inbound(id),
                Event::Pong { token } => link.ponged(token),
                Event::Watch(watch) => match link.begin_watch(watch) {
                    Insert::New if watch.instance.0 < INSTANCES => {}
                    Insert::New => link.down(watch.id, crate::StopReason::Gone),
                    Insert::Duplicate => self.connection.close(self.now, "sent twice"),
                    Insert::Full => link.refuse_watch(watch.id),
                },
                Event::Unwatch { id, .. } => drop(link.end_watch(id)),
                Event::Down { id, reason } => link.watched_ended(id, reason),
                Event::Window(window) => link.set_window(window),
                Event::Credit { instance, totals } => link.grant(instance, totals),
                Event::Gone { instance } => link.gone(instance),
                Event::StreamCredit { stream, totals } => link.stream_credit(stream, totals),
                Event::StreamItem { stream, payload } => {
                    if !link.stream_item(stream, payload) {
                        self.connection.close(self.now, "beyond its credit");
                    }
                }
                Event::StreamEnd { stream, error } => link.stream_end(stream, error),
                Event::StreamStop { stream } => link.stream_stop(stream),
                Event::Taken { bytes } => link.pieces_taken(bytes, self.now),
                Event::Fence { number } => match link.fence(number) {
                    Ok(_) => {}
                    Err(TooMany) => self.connection.close(self.now, "too many"),
                },
                Event::Behind { number, fences, word } => match link.behind(number, fences, word) {
                    Ok(_) => {}
                    Err(TooMany) => self.connection.close(self.now, "too many"),
                },
                Event::Closed(reason) => self.closed = Some(reason),
                Event::Admit(_) | Event::Established(_) => panic!("it is established: {event:?}"),
                Event::Names(_)
                | Event::Described(_)
                | Event::Members(_)
                | Event::Gossip { .. }
                | Event::NamesSync { .. }
                | Event::NamesSynced { .. }
                | Event::Goodbye { .. } => {}
            }
        }
    }

    fn request(&mut self, request: &Request) {
        let (id, instance, bytes) = (request.head.id, request.head.instance, request.payload.len());
        let begun =
            if request.head.wants_reply { self.link.begin_inbound(id, instance) } else { Insert::New };
        match begun {
            Insert::Duplicate => return self.connection.close(self.now, "sent twice"),
            Insert::Full => {
                self.link.refuse(id, instance, &CallError::Overloaded("full".into()));
            }
            Insert::New if instance.0 >= INSTANCES => {
                self.link.fail(id, &CallError::Stopped("gone".into()));
                return self.connection.gone(instance);
            }
            // What is ahead, or comes without credit, never waits.
            Insert::New if !request.head.is_ahead && self.link.has_flow() => {
                return self.waiting.entry(instance).or_default().push_back(bytes);
            }
            Insert::New => self.link.fail(id, &CallError::Overloaded("full".into())),
        }
        if !request.head.is_ahead {
            self.connection.consumed(instance, bytes);
        }
    }

    /// An instance takes the oldest that waits for it.
    fn deal_with(&mut self, instance: InstanceId) {
        if let Some(bytes) = self.waiting.get_mut(&instance).and_then(VecDeque::pop_front) {
            self.connection.consumed(instance, bytes);
        }
    }

    fn read_item(&mut self, stream: u64) {
        if let Some(items) = self.streams.get(&stream) {
            let next = items.poll_next(&Context::from_waker(Waker::noop()));
            if let std::task::Poll::Ready(port::Next::Item(item)) = next {
                self.link.item_read(StreamId(stream), item.len(), items);
            }
        }
    }

    /// The socket takes so many bytes.
    fn write(&mut self, most: usize) {
        let mut released = Released::default();
        self.link.take_outgoing(&mut self.out, &mut released, self.now);
        self.transmit();
        let written = most.min(self.out.remaining());
        self.out.advance(written);
    }

    fn transmit(&mut self) {
        while let Some(frame) = self.connection.poll_transmit() {
            self.out.append(|last| frame.encode(last));
        }
    }

    /// A call, a send or a watch of this side.
    fn call(&mut self, input: &mut Input<'_>) {
        let (instance, form, length) = (InstanceId(u64::from(input.u8() % 4)), input.u8(), input.u16());
        if form == 0xFF {
            let watched = self.link.watch(instance, None, Arc::new(Nobody), WatchId(1), 1);
            return drop(watched);
        }
        let (slot, reply): (ReplySlot, _) = tokio::sync::oneshot::channel();
        let head = Head {
            instance,
            method: MethodId { name: 1, signature: 1 },
            remaining: None,
            chain: Vec::new(),
            is_ahead: false,
            is_impatient: false,
            trace: (form & 0x40 != 0).then(|| TraceParent::from_bytes(&[form; 25])),
            order: u64::from(form % 3),
            is_likely_long: length > 0x8000,
        };
        let payload = vec![7_u8; usize::from(length)];
        let is_call = form & 0x80 == 0;
        if self.link.request(head, is_call.then_some(slot), &|out| out.put(&payload), None).is_ok() && is_call
        {
            self.replies.push(reply);
        }
    }

    fn check(&self) {
        let (events, frames, kept) = self.connection.kept();
        assert!(events == 0 && frames <= MAX_TRANSMIT + 2, "{events} events and {frames} frames wait");
        assert!(kept.instances as u64 <= INSTANCES && kept.gone <= MAX_GONE, "{kept:?}");
        let most = 2 * (2 * SMALLEST_LIMIT) + MAX_OPEN * 64 * 1024;
        assert!(kept.messages <= MAX_OPEN && kept.reserved <= most, "{kept:?}");
        let [requests, watches, streams, _] = self.link.kept();
        assert!(requests <= REQUESTS && watches <= WATCHES && streams <= READ, "{:?}", self.link.kept());
        for (instance, waiting) in &self.waiting {
            let bytes: usize = waiting.iter().sum();
            let before_last = bytes - waiting.back().copied().unwrap_or_default();
            assert!(waiting.len() <= LEAST_CREDIT.0, "{} wait for {instance}", waiting.len());
            assert!(before_last <= LEAST_CREDIT.1, "{bytes} bytes wait for {instance}");
        }
    }

    /// Whoever waits is told of the end.
    fn end(mut self) {
        self.connection.close(self.now, "the end");
        self.drain();
        assert!(self.closed.is_some(), "there is a reason");
        self.connection.handle_timeout(self.now + Duration::from_secs(60));
        assert_eq!(self.connection.poll_event(), None, "after the end");
        self.transmit();
        assert_eq!(self.connection.poll_timeout(), None);
        self.link.close("the end", Some(&self.out));
        self.link.end_watches("the end").for_each(|watch| assert!(watch.instance.0 < INSTANCES));
        for reply in &mut self.replies {
            assert!(reply.try_recv().is_ok(), "a caller is forgotten");
        }
        for (stream, items) in &self.streams {
            let mut last = items.poll_next(&Context::from_waker(Waker::noop()));
            for _ in 0..=ITEMS {
                if let std::task::Poll::Ready(port::Next::Item(_)) = last {
                    last = items.poll_next(&Context::from_waker(Waker::noop()));
                }
            }
            let is_told = matches!(last, std::task::Poll::Ready(port::Next::End(_)));
            assert!(is_told, "the reader of stream {stream} is forgotten, or has too many items: {last:?}");
        }
        assert!(self.link.is_unused() || self.link.kept()[3] > 0 || self.link.kept()[0] > 0);
    }
}

/// Watches, and does nothing.
#[derive(Debug)]
struct Nobody;

impl Watcher for Nobody {
    fn down(&self, _: WatchId, _: crate::StopReason) {}
}
