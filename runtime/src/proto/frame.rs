//! Frames: the units of the wire. `u32 length | u8 kind | fields | payload`, little-endian.
//!
//! Invariants: a length is compared with the limit before anything is done for it; a payload is a slice of the
//! read buffer, never a copy; a frame that cannot be written leaves the outgoing buffer as it was.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Incarnation, InstanceId, MethodId, NodeId, RequestId, StreamId};
use crate::trace::TraceParent;

use super::bodies;
use super::described::Described;
use super::fence::Word;
use super::fields::Fields;
use super::flow::Amount;
use super::pieces::{self, PieceHead};
use super::put::Unfinished;
use super::watch::Watch;

pub(crate) use super::fields::FrameError;
pub(crate) use super::put::{
    PutError, long_item, long_reply, long_request, put_failure, put_item, put_reply, put_request,
};
pub(crate) use super::refuse::{Refuse, RefuseReason};

/// One unit of the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Handshake 1, dialler to acceptor: who dials.
    Hello(Box<Hello>),
    /// Handshake 2, acceptor to dialler: prove it.
    Challenge(Challenge),
    /// Handshake 3, dialler to acceptor: the proof.
    Proof(Proof),
    /// Handshake 4, acceptor to dialler: who accepted, and its proof.
    Welcome(Box<Welcome>),
    /// The handshake's other end: no connection, and why.
    Refuse(Refuse),
    /// A message for an instance.
    Request(Request),
    /// The result of a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The result, encoded.
        payload: Bytes,
    },
    /// A request gave no result.
    Failure {
        /// The request.
        id: RequestId,
        /// Why.
        error: CallError,
    },
    /// Nobody waits for this request any more.
    Cancel {
        /// The request.
        id: RequestId,
    },
    /// The sender wants to be told of an instance's end.
    Watch(Watch),
    /// It does not any more.
    Unwatch {
        /// The watch.
        id: u64,
        /// Why the watcher itself has ended, if it has and the two were linked.
        reason: Option<StopReason>,
    },
    /// An instance that the receiver watches has ended.
    Down {
        /// The watch.
        id: u64,
        /// Why it ended.
        reason: StopReason,
    },
    /// How much the sender takes ahead: the first frame of each side where both have the feature `FLOW`.
    Window(Window),
    /// The receiver may send to an instance up to these totals.
    Credit {
        /// The instance.
        instance: InstanceId,
        /// Counted from the connection's beginning.
        totals: Amount,
    },
    /// An instance to which the receiver has sent something does not run any more.
    Gone {
        /// The instance.
        instance: InstanceId,
    },
    /// A part of a long message.
    Piece {
        /// Which, and how long that is.
        head: PieceHead,
        /// The part.
        bytes: Bytes,
    },
    /// The receiver may send items of one of its streams up to these totals. The first one says that the stream is read.
    StreamCredit {
        /// The stream, by the number that its maker has given it.
        stream: StreamId,
        /// Counted from the stream's beginning.
        totals: Amount,
    },
    /// An item of a stream that the sender makes.
    StreamItem {
        /// The stream.
        stream: StreamId,
        /// The item, encoded.
        payload: Bytes,
    },
    /// A stream that the sender makes has ended.
    StreamEnd {
        /// The stream.
        stream: StreamId,
        /// Why, if not in order.
        error: Option<CallError>,
    },
    /// Nobody reads a stream of the receiver any more.
    StreamStop {
        /// The stream.
        stream: StreamId,
    },
    /// All that the sender had for this connection before the word of that number has gone.
    Fence {
        /// The word's.
        number: u64,
    },
    /// A word that counts when so many fences of its number have come on the other connections.
    Behind {
        /// Numbers the words that the sender says on all its connections.
        number: u64,
        /// How many of the other connections carry a fence.
        fences: u8,
        /// What is said.
        word: Word,
    },
    /// So many bytes of pieces have been taken off the stream, counted from the connection's beginning.
    Taken {
        /// How many.
        bytes: u64,
    },
    /// Are you there?
    Ping {
        /// Comes back in the `Pong`.
        token: u64,
    },
    /// I am.
    Pong {
        /// The `Ping`'s.
        token: u64,
    },
    /// Which names the sender runs.
    Names(Names),
    /// What else is said of names that the sender runs.
    Described(Described),
    /// Which nodes the sender knows.
    Members(Members),
    /// What the sender knows of the members, in the membership's own form.
    Gossip {
        /// See `cluster::membership`.
        bytes: Bytes,
    },
    /// Say when you route by the names that I have told so far.
    NamesSync {
        /// Comes back in the `NamesSynced`.
        token: u64,
    },
    /// I do.
    NamesSynced {
        /// The `NamesSync`'s.
        token: u64,
    },
    /// The last frame of its sender.
    Goodbye {
        /// Why it goes.
        reason: String,
    },
}

/// Who dials, and what it can do. Its fields stay where they are in every later version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The protocol versions that the dialler speaks.
    pub(crate) versions: RangeInclusive<u16>,
    /// The features that it has, a bit each.
    pub(crate) features: u64,
    /// Whether it has a secret.
    pub(crate) has_secret: bool,
    /// The cluster that it belongs to.
    pub(crate) cluster: String,
    /// Its name.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it listens, if it does.
    pub(crate) listen: Option<SocketAddr>,
    /// The largest frame that it takes once established, in bytes; at least [`SMALLEST_LIMIT`].
    pub(crate) max_frame: u32,
    /// Fresh random bytes.
    pub(crate) nonce: [u8; 32],
    /// What a later version has appended. Ignored, but part of the transcript that is proven.
    pub(crate) later: Bytes,
}

/// The acceptor's choice, and its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The version that is spoken from here on.
    pub(crate) version: u16,
    /// The features that both have.
    pub(crate) features: u64,
    /// Whether the acceptor has a secret.
    pub(crate) needs_secret: bool,
    /// Fresh random bytes.
    pub(crate) nonce: [u8; 32],
}

/// The dialler's proof that it has the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    /// See `handshake`; zeroes without a secret.
    pub(crate) mac: [u8; 32],
}

/// Who accepted, and its proof that it has the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// Its name.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it listens, if it does.
    pub(crate) listen: Option<SocketAddr>,
    /// The largest frame that it takes once established, in bytes; at least [`SMALLEST_LIMIT`].
    pub(crate) max_frame: u32,
    /// See `handshake`; zeroes without a secret.
    pub(crate) mac: [u8; 32],
}

/// A message for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Everything but the arguments.
    pub(crate) head: RequestHead,
    /// The arguments, encoded.
    pub(crate) payload: Bytes,
}

/// Everything of a request but its arguments. A writer may lend the chain: `RequestHead<&[ChainLink]>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHead<C = Vec<ChainLink>> {
    /// Numbers the request on this connection.
    pub(crate) id: RequestId,
    /// For whom it is.
    pub(crate) instance: InstanceId,
    /// What is called.
    pub(crate) method: MethodId,
    /// The time until the deadline; on the wire in milliseconds, rounded up. `None` is no deadline.
    pub(crate) remaining: Option<Duration>,
    /// Whether the sender waits for a reply.
    pub(crate) wants_reply: bool,
    /// Whether it needs no credit, because its receiver is in the chain and waits for it.
    pub(crate) is_ahead: bool,
    /// Whether it is to be refused if there is no room for it: its sender knows another instance.
    pub(crate) is_impatient: bool,
    /// The callers that wait for this request, the first caller first. The [`MAX_CHAIN`] latest are written.
    pub(crate) chain: C,
    /// The span of its sender, if it is sampled and both sides have the feature `TRACE`.
    pub(crate) trace: Option<TraceParent>,
}

/// How much one side takes ahead of what it has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// For each instance.
    pub(crate) instance: Amount,
    /// Bytes of pieces on the whole connection.
    pub(crate) pieces: u64,
}

/// Which names the sender runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// Whether this replaces all that the sender has said before.
    pub(crate) complete: bool,
    /// The names, at most [`MAX_NAMES`]. See [`Names::frames`].
    pub(crate) entries: Vec<NameEntry>,
}

/// One name and all that its node runs under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameEntry {
    /// The name.
    pub(crate) name: String,
    /// The interface that its instances have.
    pub(crate) interface: String,
    /// All instances of the name on the sender, at most [`MAX_INSTANCES`]; none means that the name is gone.
    pub(crate) instances: Vec<InstanceId>,
}

/// Which nodes the sender knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Members {
    /// The nodes, at most [`MAX_MEMBERS`]. See [`Members::frames`].
    pub(crate) members: Vec<Member>,
}

/// One node, as another knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) node: NodeId,
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Takes one frame off the front of `buffer`; `None` says that more bytes are needed.
///
/// A frame of an unknown kind from 0x80 on is skipped. After an error the buffer's place in the stream is
/// unknown: the connection must end.
///
/// # Errors
/// [`FrameError`] names what is wrong, and what was expected.
pub(crate) fn parse(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, FrameError> {
    loop {
        let Some(end) = next_end(buffer, limit)? else { return Ok(None) };
        let kind = buffer[LENGTH];
        match kind {
            kind::REQUEST => {
                let mut fields = Fields::new("request", &buffer[LENGTH + 1..end]);
                let head = bodies::read_head(&mut fields)?;
                let payload = fields.rest().len();
                let payload = take(buffer, end, payload);
                return Ok(Some(Frame::Request(Request { head, payload })));
            }
            kind::REPLY => {
                let mut fields = Fields::new("reply", &buffer[LENGTH + 1..end]);
                let id = RequestId(fields.u64("id")?);
                let payload = fields.rest().len();
                let payload = take(buffer, end, payload);
                return Ok(Some(Frame::Reply { id, payload }));
            }
            kind::STREAM_ITEM => {
                let mut fields = Fields::new("stream item", &buffer[LENGTH + 1..end]);
                let stream = StreamId(fields.u64("stream")?);
                let payload = fields.rest().len();
                let payload = take(buffer, end, payload);
                return Ok(Some(Frame::StreamItem { stream, payload }));
            }
            kind::PIECE => {
                let mut fields = Fields::new("piece", &buffer[LENGTH + 1..end]);
                let head = pieces::read_fields(&mut fields)?;
                let bytes = fields.rest().len();
                let bytes = take(buffer, end, bytes);
                return Ok(Some(Frame::Piece { head, bytes }));
            }
            FIRST_SKIPPED.. if !kind::MAY_BE_SKIPPED.contains(&kind) => buffer.advance(end),
            _ => {
                let frame = bodies::read(kind, &buffer[LENGTH + 1..end])?;
                buffer.advance(end);
                return Ok(Some(frame));
            }
        }
    }
}

/// How a TLS record begins, of a handshake or of its end, up to the high byte of its length, which is little.
const TLS_HANDSHAKE: &[u8; LENGTH] = &[0x16, 3, 1, 0];
const TLS_ALERT: &[u8; LENGTH] = &[0x15, 3, 3, 0];

/// Where the first frame in `buffer` ends, once it is all there.
#[inline]
fn next_end(buffer: &mut BytesMut, limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let size = u32::from_le_bytes(*length) as usize;
    if size > limit {
        return Err(match length {
            TLS_HANDSHAKE | TLS_ALERT => FrameError::Tls,
            _ => FrameError::TooLarge { size, limit },
        });
    }
    if size == 0 {
        return Err(FrameError::Empty);
    }
    let end = LENGTH + size;
    if buffer.len() < end {
        // One reservation instead of many saves copies, but memory follows what has arrived, not what is claimed.
        let wanted = end.min(RESERVE.max(2 * buffer.len()));
        buffer.reserve(wanted - buffer.len());
        return Ok(None);
    }
    Ok(Some(end))
}

/// Takes a frame that ends at `end` off the buffer and gives its payload, the last `payload` bytes.
#[inline]
fn take(buffer: &mut BytesMut, end: usize, payload: usize) -> Bytes {
    buffer.advance(end - payload);
    if payload == 0 { Bytes::new() } else { buffer.split_to(payload).freeze() }
}

/// Takes the beginning of a piece off the front of `buffer`, with those of its bytes that are there, if more are to
/// come: so that they need not go through `buffer`. `None` if the front is something else, or not clear yet. To be asked
/// when [`parse`] has found no frame.
pub(crate) fn begin_piece(buffer: &mut BytesMut) -> Option<Begun> {
    let end = LENGTH + u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    if end <= buffer.len() || *buffer.get(LENGTH)? != kind::PIECE {
        return None;
    }
    let mut fields = Fields::new("piece", &buffer[LENGTH + 1..]);
    let before = fields.rest().len();
    let head = pieces::read_fields(&mut fields).ok()?; // the fields may have come in part
    let taken = before - fields.rest().len();
    let length = (end - LENGTH - 1).checked_sub(taken)?;
    buffer.advance(LENGTH + 1 + taken);
    let part = buffer.split();
    let missing = length - part.len();
    Some(Begun { head, length, part, missing })
}

/// A piece of which a part is yet to come.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) head: PieceHead,
    /// How many bytes it has.
    pub(crate) length: usize,
    /// Those that are there.
    pub(crate) part: BytesMut,
    /// How many are not.
    pub(crate) missing: usize,
}

/// Reads a long message whose pieces have all come: a frame without its length.
///
/// # Errors
/// As [`parse`]. Only requests, replies and items of streams come in pieces.
pub(crate) fn parse_long(message: &Bytes) -> Result<Frame, FrameError> {
    let (kind, body) = message.split_first().ok_or(FrameError::Empty)?;
    match *kind {
        kind::REQUEST => {
            let mut fields = Fields::new("request", body);
            let head = bodies::read_head(&mut fields)?;
            let payload = message.slice(message.len() - fields.rest().len()..);
            Ok(Frame::Request(Request { head, payload }))
        }
        kind::REPLY => {
            let mut fields = Fields::new("reply", body);
            let id = RequestId(fields.u64("id")?);
            let payload = message.slice(message.len() - fields.rest().len()..);
            Ok(Frame::Reply { id, payload })
        }
        kind::STREAM_ITEM => {
            let mut fields = Fields::new("stream item", body);
            let stream = StreamId(fields.u64("stream")?);
            let payload = message.slice(message.len() - fields.rest().len()..);
            Ok(Frame::StreamItem { stream, payload })
        }
        other => Err(FrameError::UnknownKind(other)),
    }
}

impl Frame {
    /// Appends the frame to `out`. The writer answers for its size; strings and lists are cut to their limits.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let frame = Unfinished::begin(out, bodies::kind(self));
        bodies::write(self, frame.out);
        frame.finish();
    }
}

impl Names {
    /// Packs any number of names into frames within every limit, the first of which is `complete` if all
    /// together are. There is at least one frame if so, even for no names.
    pub(crate) fn frames(complete: bool, entries: Vec<NameEntry>) -> Vec<Self> {
        let mut frames = vec![];
        let mut frame = Self { complete, entries: vec![] };
        let mut size = 0;
        for entry in entries {
            let more = bodies::name_size(&entry);
            if frame.entries.len() == MAX_NAMES || size + more > LIST_FRAME {
                frames.push(std::mem::replace(&mut frame, Self { complete: false, entries: vec![] }));
                size = 0;
            }
            size += more;
            frame.entries.push(entry);
        }
        if frame.complete || !frame.entries.is_empty() {
            frames.push(frame);
        }
        frames
    }
}

impl Members {
    /// Packs any number of members into frames within every limit.
    pub(crate) fn frames(members: &[Member]) -> Vec<Self> {
        members.chunks(MAX_MEMBERS).map(|members| Self { members: members.to_vec() }).collect()
    }
}

/// The kinds of frames. A number is never given another meaning.
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const CHALLENGE: u8 = 0x02;
    pub(crate) const PROOF: u8 = 0x03;
    pub(crate) const WELCOME: u8 = 0x04;
    pub(crate) const REFUSE: u8 = 0x05;
    pub(crate) const REQUEST: u8 = 0x10;
    pub(crate) const REPLY: u8 = 0x11;
    pub(crate) const FAILURE: u8 = 0x12;
    pub(crate) const CANCEL: u8 = 0x13;
    pub(crate) const CREDIT: u8 = 0x14;
    pub(crate) const GONE: u8 = 0x15;
    pub(crate) const WINDOW: u8 = 0x16;
    pub(crate) const PIECE: u8 = 0x17;
    pub(crate) const WATCH: u8 = 0x18;
    pub(crate) const UNWATCH: u8 = 0x19;
    pub(crate) const DOWN: u8 = 0x1A;
    pub(crate) const TAKEN: u8 = 0x1B;
    pub(crate) const FENCE: u8 = 0x1C;
    pub(crate) const BEHIND: u8 = 0x1D;
    pub(crate) const PING: u8 = 0x20;
    pub(crate) const PONG: u8 = 0x21;
    pub(crate) const STREAM_CREDIT: u8 = 0x28;
    pub(crate) const STREAM_ITEM: u8 = 0x29;
    pub(crate) const STREAM_END: u8 = 0x2A;
    pub(crate) const STREAM_STOP: u8 = 0x2B;
    pub(crate) const NAMES: u8 = 0x30;
    pub(crate) const MEMBERS: u8 = 0x31;
    pub(crate) const GOSSIP: u8 = 0x32;
    pub(crate) const GOODBYE: u8 = 0x3F;
    pub(crate) const NAMES_SYNC: u8 = 0xB0;
    pub(crate) const NAMES_SYNCED: u8 = 0xB1;
    pub(crate) const DESCRIBED: u8 = 0xB2;
    pub(crate) const METHODS: u8 = 0xB3;
    pub(crate) const LOADS: u8 = 0xB4;

    /// The kinds from 0x80 on that this version knows; an earlier one skips them.
    pub(crate) const MAY_BE_SKIPPED: [u8; 5] = [NAMES_SYNC, NAMES_SYNCED, DESCRIBED, METHODS, LOADS];
}

/// From this kind on, a frame that is not known is skipped.
const FIRST_SKIPPED: u8 = 0x80;

/// The bytes of the length field.
pub(super) const LENGTH: usize = 4;

/// How much is reserved at once for a frame, or a long message, of which less has arrived.
pub(super) const RESERVE: usize = 64 * 1024;

/// The longest frame that is written whole where both sides have the feature `FLOW`, without its length, in bytes.
pub(crate) const PIECE: usize = 64 * 1024;

/// The frame limit until a connection is established, in bytes: no stranger needs more.
pub(crate) const HANDSHAKE_LIMIT: usize = 4096;

/// The smallest frame limit that an established connection may have, in bytes: what the framework itself says
/// always fits in it.
pub(crate) const SMALLEST_LIMIT: usize = 64 * 1024;

/// The links that a call chain on the wire has at most.
pub(crate) const MAX_CHAIN: usize = 64;

/// The names of one `Names` frame at most.
pub(crate) const MAX_NAMES: usize = 1024;

/// The instances of one name at most.
pub(crate) const MAX_INSTANCES: usize = 4096;

/// The nodes of one `Members` frame at most.
pub(crate) const MAX_MEMBERS: usize = 256;

/// The longest cluster's name, in bytes.
pub(crate) const MAX_CLUSTER: usize = 128;

/// The longest service's name, in bytes.
pub(crate) const MAX_NAME: usize = 256;

/// The longest interface's name, in bytes.
pub(crate) const MAX_INTERFACE: usize = 1024;

/// The longest text of a refusal, a failure, a goodbye or an instance's end, in bytes; what is longer is cut.
pub(crate) const MAX_TEXT: usize = 1024;

/// The longest name of a handler in a call chain, in bytes; what is longer is cut.
pub(crate) const MAX_HANDLER: usize = 256;

/// The bytes of names after which [`Names::frames`] begins another frame.
pub(super) const LIST_FRAME: usize = 48 * 1024;
