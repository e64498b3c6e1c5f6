//! What stands in each kind of frame: its fields, read and written side by side.
//!
//! Invariant: whatever is written here is within the limits with which it is read here.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{CallChain, CallError, ChainLink, Detail};
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId, RequestId, StreamId, check_name};

use super::fence::Word;
use super::fields::{Fields, FrameError, put_address, put_count, put_string};
use super::flow::{Amount, SMALLEST_WINDOW};
use super::frame::{
    Challenge, Frame, Hello, MAX_CHAIN, MAX_CLUSTER, MAX_HANDLER, MAX_INSTANCES, MAX_INTERFACE, MAX_MEMBERS,
    MAX_NAME, MAX_NAMES, MAX_TEXT, Member, Members, NameEntry, Names, PIECE, Proof, Refuse, RefuseReason,
    Request, RequestHead, SMALLEST_LIMIT, Welcome, Window, kind,
};
use super::{described, pieces, watch};

/// The first bytes of every `Hello`.
const MAGIC: [u8; 8] = *b"SKYHOLD\0";

/// The kind of a frame.
pub(super) fn kind(frame: &Frame) -> u8 {
    match frame {
        Frame::Hello(_) => kind::HELLO,
        Frame::Challenge(_) => kind::CHALLENGE,
        Frame::Proof(_) => kind::PROOF,
        Frame::Welcome(_) => kind::WELCOME,
        Frame::Refuse(_) => kind::REFUSE,
        Frame::Request(_) => kind::REQUEST,
        Frame::Reply { .. } => kind::REPLY,
        Frame::Failure { .. } => kind::FAILURE,
        Frame::Cancel { .. } => kind::CANCEL,
        Frame::Watch(_) => kind::WATCH,
        Frame::Unwatch { .. } => kind::UNWATCH,
        Frame::Down { .. } => kind::DOWN,
        Frame::Window(_) => kind::WINDOW,
        Frame::Credit { .. } => kind::CREDIT,
        Frame::Gone { .. } => kind::GONE,
        Frame::Piece { .. } => kind::PIECE,
        Frame::Taken { .. } => kind::TAKEN,
        Frame::Fence { .. } => kind::FENCE,
        Frame::Behind { .. } => kind::BEHIND,
        Frame::StreamCredit { .. } => kind::STREAM_CREDIT,
        Frame::StreamItem { .. } => kind::STREAM_ITEM,
        Frame::StreamEnd { .. } => kind::STREAM_END,
        Frame::StreamStop { .. } => kind::STREAM_STOP,
        Frame::Ping { .. } => kind::PING,
        Frame::Pong { .. } => kind::PONG,
        Frame::Names(_) => kind::NAMES,
        Frame::Described(_) => kind::DESCRIBED,
        Frame::Members(_) => kind::MEMBERS,
        Frame::Gossip { .. } => kind::GOSSIP,
        Frame::NamesSync { .. } => kind::NAMES_SYNC,
        Frame::NamesSynced { .. } => kind::NAMES_SYNCED,
        Frame::Goodbye { .. } => kind::GOODBYE,
    }
}

/// What a frame is called in a log.
pub(super) fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "hello",
        Frame::Challenge(_) => "challenge",
        Frame::Proof(_) => "proof",
        Frame::Welcome(_) => "welcome",
        Frame::Refuse(_) => "refuse",
        Frame::Request(_) => "request",
        Frame::Reply { .. } => "reply",
        Frame::Failure { .. } => "failure",
        Frame::Cancel { .. } => "cancel",
        Frame::Watch(_) => "watch",
        Frame::Unwatch { .. } => "unwatch",
        Frame::Down { .. } => "down",
        Frame::Window(_) => "window",
        Frame::Credit { .. } => "credit",
        Frame::Gone { .. } => "gone",
        Frame::Piece { .. } => "piece",
        Frame::Taken { .. } => "taken",
        Frame::Fence { .. } => "fence",
        Frame::Behind { .. } => "behind",
        Frame::StreamCredit { .. } => "stream credit",
        Frame::StreamItem { .. } => "stream item",
        Frame::StreamEnd { .. } => "stream end",
        Frame::StreamStop { .. } => "stream stop",
        Frame::Ping { .. } => "ping",
        Frame::Pong { .. } => "pong",
        Frame::Names(_) => "names",
        Frame::Described(_) => "described",
        Frame::Members(_) => "members",
        Frame::Gossip { .. } => "gossip",
        Frame::NamesSync { .. } => "names sync",
        Frame::NamesSynced { .. } => "names synced",
        Frame::Goodbye { .. } => "goodbye",
    }
}

/// Writes all that follows the kind.
pub(super) fn write(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Hello(hello) => write_hello(hello, out),
        Frame::Challenge(challenge) => write_challenge(challenge, out),
        Frame::Proof(proof) => out.put_slice(&proof.mac),
        Frame::Welcome(welcome) => write_welcome(welcome, out),
        Frame::Refuse(refuse) => {
            out.put_u8(refuse.reason.code());
            put_string(out, &refuse.detail, MAX_TEXT);
        }
        Frame::Request(Request { head, payload }) => {
            write_head(head, out);
            out.put_slice(payload);
        }
        Frame::Reply { id, payload } => {
            out.put_u64_le(id.0);
            out.put_slice(payload);
        }
        Frame::Failure { id, error } => write_failure(*id, error, out),
        Frame::Cancel { id } => out.put_u64_le(id.0),
        Frame::Watch(frame) => watch::write_watch(frame, out),
        Frame::Unwatch { id, reason } => watch::write_unwatch(*id, reason.as_ref(), out),
        Frame::Down { id, reason } => watch::write_down(*id, reason, out),
        Frame::Window(window) => write_window(window, out),
        Frame::Credit { instance, totals } => {
            out.put_u64_le(instance.0);
            out.put_u64_le(totals.messages);
            out.put_u64_le(totals.bytes);
        }
        Frame::Gone { instance } => out.put_u64_le(instance.0),
        Frame::Piece { head, bytes } => {
            pieces::put_fields(out, *head);
            out.put_slice(bytes);
        }
        Frame::Taken { bytes } => out.put_u64_le(*bytes),
        Frame::Fence { number } => out.put_u64_le(*number),
        Frame::Behind { number, fences, word } => write_behind(*number, *fences, word, out),
        Frame::StreamCredit { stream, totals } => {
            out.put_u64_le(stream.0);
            out.put_u64_le(totals.messages);
            out.put_u64_le(totals.bytes);
        }
        Frame::StreamItem { stream, payload } => {
            out.put_u64_le(stream.0);
            out.put_slice(payload);
        }
        Frame::StreamEnd { stream, error } => {
            out.put_u64_le(stream.0);
            match error {
                None => out.put_u8(IN_ORDER),
                Some(error) => write_error(error, out),
            }
        }
        Frame::StreamStop { stream } => out.put_u64_le(stream.0),
        Frame::Ping { token }
        | Frame::Pong { token }
        | Frame::NamesSync { token }
        | Frame::NamesSynced { token } => out.put_u64_le(*token),
        Frame::Names(names) => write_names(names, out),
        Frame::Described(descriptions) => described::write(descriptions, out),
        Frame::Members(members) => write_members(members, out),
        Frame::Gossip { bytes } => out.put_slice(bytes),
        Frame::Goodbye { reason } => put_string(out, reason, MAX_TEXT),
    }
}

/// Reads all that follows the kind, to its end. Requests, replies, items and pieces are not for here: `frame::parse` reads them.
pub(super) fn read(kind: u8, bytes: &[u8]) -> Result<Frame, FrameError> {
    let fields = |frame| Fields::new(frame, bytes);
    let (frame, fields) = match kind {
        // What follows the known fields of these, and of a window, is a later version's.
        kind::HELLO => return read_hello(&mut fields("hello")),
        kind::REFUSE => return read_refuse(&mut fields("refuse")),
        kind::CHALLENGE => whole(read_challenge, fields("challenge")),
        kind::PROOF => whole(|f| Ok(Frame::Proof(Proof { mac: f.array("mac")? })), fields("proof")),
        kind::WELCOME => whole(read_welcome, fields("welcome")),
        kind::FAILURE => whole(read_failure, fields("failure")),
        kind::CANCEL => whole(|f| Ok(Frame::Cancel { id: RequestId(f.u64("id")?) }), fields("cancel")),
        kind::WATCH => whole(watch::read_watch, fields("watch")),
        kind::UNWATCH => whole(watch::read_unwatch, fields("unwatch")),
        kind::DOWN => whole(watch::read_down, fields("down")),
        kind::WINDOW => return read_window(&mut fields("window")),
        kind::CREDIT => whole(read_credit, fields("credit")),
        kind::GONE => whole(|f| Ok(Frame::Gone { instance: InstanceId(f.u64("instance")?) }), fields("gone")),
        kind::STREAM_CREDIT => whole(read_stream_credit, fields("stream credit")),
        kind::STREAM_END => whole(read_stream_end, fields("stream end")),
        kind::STREAM_STOP => {
            whole(|f| Ok(Frame::StreamStop { stream: StreamId(f.u64("stream")?) }), fields("stream stop"))
        }
        kind::TAKEN => whole(|f| Ok(Frame::Taken { bytes: f.u64("bytes")? }), fields("taken")),
        kind::FENCE => whole(|f| Ok(Frame::Fence { number: f.u64("number")? }), fields("fence")),
        kind::BEHIND => return read_behind(&mut fields("behind")),
        kind::PING => whole(|f| Ok(Frame::Ping { token: f.u64("token")? }), fields("ping")),
        kind::PONG => whole(|f| Ok(Frame::Pong { token: f.u64("token")? }), fields("pong")),
        kind::NAMES => whole(read_names, fields("names")),
        kind::DESCRIBED => whole(described::read, fields("described")),
        kind::MEMBERS => whole(read_members, fields("members")),
        kind::GOSSIP => return Ok(Frame::Gossip { bytes: Bytes::copy_from_slice(bytes) }),
        kind::NAMES_SYNC => whole(|f| Ok(Frame::NamesSync { token: f.u64("token")? }), fields("names sync")),
        kind::NAMES_SYNCED => {
            whole(|f| Ok(Frame::NamesSynced { token: f.u64("token")? }), fields("names synced"))
        }
        kind::GOODBYE => whole(
            |f| Ok(Frame::Goodbye { reason: f.string("reason", MAX_TEXT)?.to_owned() }),
            fields("goodbye"),
        ),
        other => return Err(FrameError::UnknownKind(other)),
    }?;
    fields.end()?;
    Ok(frame)
}

fn whole<'a>(
    read: impl FnOnce(&mut Fields<'a>) -> Result<Frame, FrameError>,
    mut fields: Fields<'a>,
) -> Result<(Frame, Fields<'a>), FrameError> {
    Ok((read(&mut fields)?, fields))
}

fn write_hello(hello: &Hello, out: &mut BytesMut) {
    out.put_slice(&MAGIC);
    out.put_u16_le(*hello.versions.start());
    out.put_u16_le(*hello.versions.end());
    out.put_u64_le(hello.features);
    out.put_u8(hello.has_secret.into());
    put_string(out, &hello.cluster, MAX_CLUSTER);
    put_string(out, hello.node.as_str(), NodeId::MAX_LEN);
    out.put_u64_le(hello.incarnation.0);
    put_address(out, hello.listen);
    out.put_u32_le(hello.max_frame);
    out.put_slice(&hello.nonce);
    out.put_slice(&hello.later);
}

fn read_hello(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    if fields.array("magic")? != MAGIC {
        return Err(FrameError::Magic);
    }
    let (min, max) = (fields.u16("min version")?, fields.u16("max version")?);
    if min > max {
        return Err(fields.wrong("max version", max.into(), "at least the min version"));
    }
    let features = fields.u64("features")?;
    let has_secret = fields.bool("has_secret")?;
    let cluster = fields.string("cluster", MAX_CLUSTER)?;
    check_name("cluster", cluster, MAX_CLUSTER)?;
    Ok(Frame::Hello(Box::new(Hello {
        versions: min..=max,
        features,
        has_secret,
        cluster: cluster.to_owned(),
        node: fields.node("node")?,
        incarnation: Incarnation(fields.u64("incarnation")?),
        listen: fields.optional_address("listen")?,
        max_frame: read_max_frame(fields)?,
        nonce: fields.array("nonce")?,
        later: Bytes::copy_from_slice(fields.rest()),
    })))
}

fn write_behind(number: u64, fences: u8, word: &Word, out: &mut BytesMut) {
    out.put_u64_le(number);
    out.put_u8(fences);
    match word {
        Word::Down { id, reason } => {
            out.put_u8(kind::DOWN);
            watch::write_down(*id, reason, out);
        }
        Word::NamesSynced { token } => {
            out.put_u8(kind::NAMES_SYNCED);
            out.put_u64_le(*token);
        }
    }
}

fn read_behind(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let (number, fences) = (fields.u64("number")?, fields.u8("fences")?);
    let kind = fields.u8("kind")?;
    let word = match kind {
        kind::DOWN | kind::NAMES_SYNCED => read(kind, fields.rest())?,
        other => return Err(fields.wrong("kind", other.into(), "that of a down or a names synced")),
    };
    let word = match word {
        Frame::Down { id, reason } => Word::Down { id, reason },
        Frame::NamesSynced { token } => Word::NamesSynced { token },
        other => return Err(FrameError::UnknownKind(self::kind(&other))),
    };
    Ok(Frame::Behind { number, fences, word })
}

fn write_challenge(challenge: &Challenge, out: &mut BytesMut) {
    out.put_u16_le(challenge.version);
    out.put_u64_le(challenge.features);
    out.put_u8(challenge.needs_secret.into());
    out.put_slice(&challenge.nonce);
}

fn read_challenge(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(Frame::Challenge(Challenge {
        version: fields.u16("version")?,
        features: fields.u64("features")?,
        needs_secret: fields.bool("needs_secret")?,
        nonce: fields.array("nonce")?,
    }))
}

fn write_welcome(welcome: &Welcome, out: &mut BytesMut) {
    put_string(out, welcome.node.as_str(), NodeId::MAX_LEN);
    out.put_u64_le(welcome.incarnation.0);
    put_address(out, welcome.listen);
    out.put_u32_le(welcome.max_frame);
    out.put_slice(&welcome.mac);
}

fn read_welcome(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(Frame::Welcome(Box::new(Welcome {
        node: fields.node("node")?,
        incarnation: Incarnation(fields.u64("incarnation")?),
        listen: fields.optional_address("listen")?,
        max_frame: read_max_frame(fields)?,
        mac: fields.array("mac")?,
    })))
}

fn read_max_frame(fields: &mut Fields<'_>) -> Result<u32, FrameError> {
    match fields.u32("max_frame")? {
        small if (small as usize) < SMALLEST_LIMIT => {
            Err(fields.wrong("max_frame", small.into(), "at least 65536"))
        }
        enough => Ok(enough),
    }
}

fn read_refuse(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let reason = RefuseReason::from_code(fields.u8("reason")?);
    Ok(Frame::Refuse(Refuse { reason, detail: fields.string("detail", MAX_TEXT)?.to_owned() }))
}

/// The sender waits for a reply.
const WANTS_REPLY: u8 = 0b01;
/// A call chain follows the flags.
const HAS_CHAIN: u8 = 0b10;
/// It needs no credit: somebody in the chain waits for it, and holds up the mailbox that it would wait for.
const AHEAD: u8 = 0b100;
/// It is refused rather than that it waits for room.
const IMPATIENT: u8 = 0b1000;

/// Writes a request up to its payload.
#[inline]
pub(super) fn write_head<C: AsRef<[ChainLink]>>(head: &RequestHead<C>, out: &mut BytesMut) {
    let chain = head.chain.as_ref();
    let mut flags = if head.wants_reply { WANTS_REPLY } else { 0 };
    if !chain.is_empty() {
        flags |= HAS_CHAIN;
    }
    if head.is_ahead {
        flags |= AHEAD;
    }
    if head.is_impatient {
        flags |= IMPATIENT;
    }
    // One append of a known size is cheaper than six of which each looks for room.
    let mut fixed = [0; HEAD];
    fixed[0..8].copy_from_slice(&head.id.0.to_le_bytes());
    fixed[8..16].copy_from_slice(&head.instance.0.to_le_bytes());
    fixed[16..20].copy_from_slice(&head.method.name.to_le_bytes());
    fixed[20..24].copy_from_slice(&head.method.signature.to_le_bytes());
    fixed[24..28].copy_from_slice(&remaining_millis(head.remaining).to_le_bytes());
    fixed[28] = flags;
    out.put_slice(&fixed);
    if !chain.is_empty() {
        write_chain(chain, out);
    }
}

/// Reads a request up to its payload.
#[inline]
pub(super) fn read_head(fields: &mut Fields<'_>) -> Result<RequestHead, FrameError> {
    let fixed: [u8; HEAD] = fields.array("head")?;
    let id = RequestId(u64_at(&fixed, 0));
    let instance = InstanceId(u64_at(&fixed, 8));
    let method = MethodId { name: u32_at(&fixed, 16), signature: u32_at(&fixed, 20) };
    let remaining = match u32_at(&fixed, 24) {
        0 => None,
        millis => Some(Duration::from_millis(millis.into())),
    };
    let flags = fixed[28];
    if flags & !(WANTS_REPLY | HAS_CHAIN | AHEAD | IMPATIENT) != 0 {
        return Err(fields.wrong("flags", flags.into(), "0 to 15"));
    }
    let (wants_reply, is_ahead) = (flags & WANTS_REPLY != 0, flags & AHEAD != 0);
    let is_impatient = flags & IMPATIENT != 0;
    let chain = if flags & HAS_CHAIN == 0 { vec![] } else { read_chain(fields)? };
    if is_ahead && chain.is_empty() {
        return Err(fields.wrong("flags", flags.into(), "a chain where bit 2 is set"));
    }
    Ok(RequestHead { id, instance, method, remaining, wants_reply, is_ahead, is_impatient, chain })
}

/// The bytes of a request's fields up to its flags.
const HEAD: usize = 29;

fn u64_at(fixed: &[u8; HEAD], at: usize) -> u64 {
    u64::from(u32_at(fixed, at)) | u64::from(u32_at(fixed, at + 4)) << 32
}

fn u32_at(fixed: &[u8; HEAD], at: usize) -> u32 {
    u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
}

/// Milliseconds, rounded up so that a short deadline does not become none or expire on the way; 0 is no deadline.
fn remaining_millis(remaining: Option<Duration>) -> u32 {
    let Some(remaining) = remaining else { return 0 };
    let millis = remaining.as_nanos().div_ceil(1_000_000).max(1);
    u32::try_from(millis).unwrap_or(u32::MAX)
}

fn write_chain(chain: &[ChainLink], out: &mut BytesMut) {
    let latest = &chain[chain.len().saturating_sub(MAX_CHAIN)..];
    put_count(out, latest.len());
    for link in latest {
        put_string(out, link.address.node.as_str(), NodeId::MAX_LEN);
        out.put_u64_le(link.address.incarnation.0);
        out.put_u64_le(link.address.instance.0);
        out.put_u8(link.exclusive.into());
        put_string(out, &link.handler, MAX_HANDLER);
    }
}

fn read_chain(fields: &mut Fields<'_>) -> Result<Vec<ChainLink>, FrameError> {
    fields.list("chain", MAX_CHAIN, 22, |fields| {
        let node = fields.node("chain node")?;
        let incarnation = Incarnation(fields.u64("chain incarnation")?);
        let instance = InstanceId(fields.u64("chain instance")?);
        let exclusive = fields.bool("chain exclusive")?;
        let handler = fields.string("chain handler", MAX_HANDLER)?.into();
        Ok(ChainLink { address: Address { node, incarnation, instance }, handler, exclusive })
    })
}

/// Writes a failure.
pub(super) fn write_failure(id: RequestId, error: &CallError, out: &mut BytesMut) {
    out.put_u64_le(id.0);
    write_error(error, out);
}

/// In the place of an error's code: there is none.
const IN_ORDER: u8 = 0;

fn write_error(error: &CallError, out: &mut BytesMut) {
    let (code, detail) = match error {
        CallError::NoRoute(detail) => (1, detail),
        CallError::Overloaded(detail) => (2, detail),
        CallError::Stopped(detail) => (3, detail),
        CallError::Stale(detail) => (4, detail),
        CallError::Denied(detail) => (5, detail),
        CallError::Incompatible(detail) => (6, detail),
        CallError::TooLarge(detail) => (7, detail),
        CallError::Expired(detail) => (8, detail),
        CallError::Codec(detail) => (9, detail),
        CallError::Deadlock(chain) => {
            out.put_u8(DEADLOCK);
            return write_chain(chain.links(), out);
        }
        CallError::Timeout(detail) => (11, detail),
        CallError::Disconnected(detail) => (12, detail),
        CallError::Panicked(detail) => (13, detail),
        CallError::NoReply(detail) => (14, detail),
        CallError::BadReply(detail) => (15, detail),
    };
    out.put_u8(code);
    put_string(out, detail.as_str(), MAX_TEXT);
}

const DEADLOCK: u8 = 10;

fn read_failure(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let id = RequestId(fields.u64("id")?);
    match read_error(fields)? {
        Some(error) => Ok(Frame::Failure { id, error }),
        None => Err(fields.wrong("code", IN_ORDER.into(), "1 or more")),
    }
}

fn read_error(fields: &mut Fields<'_>) -> Result<Option<CallError>, FrameError> {
    let make: fn(Detail) -> CallError = match fields.u8("code")? {
        IN_ORDER => return Ok(None),
        1 => CallError::NoRoute,
        2 => CallError::Overloaded,
        3 => CallError::Stopped,
        4 => CallError::Stale,
        5 => CallError::Denied,
        6 => CallError::Incompatible,
        7 => CallError::TooLarge,
        8 => CallError::Expired,
        9 => CallError::Codec,
        DEADLOCK => {
            return Ok(Some(CallError::Deadlock(CallChain::new(read_chain(fields)?))));
        }
        11 => CallError::Timeout,
        12 => CallError::Disconnected,
        13 => CallError::Panicked,
        14 => CallError::NoReply,
        15 => CallError::BadReply,
        unknown => {
            // The error that promises least: the request may have run.
            fields.skip_rest();
            return Ok(Some(CallError::NoReply(
                format!("unknown error code {unknown} from the peer").into(),
            )));
        }
    };
    Ok(Some(make(fields.string("detail", MAX_TEXT)?.into())))
}

fn write_window(window: &Window, out: &mut BytesMut) {
    out.put_u64_le(window.instance.messages);
    out.put_u64_le(window.instance.bytes);
    out.put_u64_le(window.pieces);
}

fn read_window(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let least = |fields: &mut Fields<'_>, field, least: u64, expected| match fields.u64(field)? {
        small if small < least => Err(fields.wrong(field, small, expected)),
        enough => Ok(enough),
    };
    let Amount { messages, bytes } = SMALLEST_WINDOW;
    Ok(Frame::Window(Window {
        instance: Amount {
            messages: least(fields, "messages", messages, "at least 16")?,
            bytes: least(fields, "bytes", bytes, "at least 65536")?,
        },
        pieces: least(fields, "pieces", PIECE as u64, "at least 65536")?,
    }))
}

fn read_credit(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let instance = InstanceId(fields.u64("instance")?);
    let totals = Amount { messages: fields.u64("messages")?, bytes: fields.u64("bytes")? };
    Ok(Frame::Credit { instance, totals })
}

fn read_stream_credit(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let stream = StreamId(fields.u64("stream")?);
    let totals = Amount { messages: fields.u64("items")?, bytes: fields.u64("bytes")? };
    Ok(Frame::StreamCredit { stream, totals })
}

fn read_stream_end(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let stream = StreamId(fields.u64("stream")?);
    Ok(Frame::StreamEnd { stream, error: read_error(fields)? })
}

fn write_names(names: &Names, out: &mut BytesMut) {
    out.put_u8(names.complete.into());
    let entries = &names.entries[..names.entries.len().min(MAX_NAMES)];
    put_count(out, entries.len());
    for entry in entries {
        put_string(out, &entry.name, MAX_NAME);
        put_string(out, &entry.interface, MAX_INTERFACE);
        let instances = &entry.instances[..entry.instances.len().min(MAX_INSTANCES)];
        put_count(out, instances.len());
        for instance in instances {
            out.put_u64_le(instance.0);
        }
    }
}

/// The bytes that a name takes in a `Names` frame, or a few more.
pub(super) fn name_size(entry: &NameEntry) -> usize {
    let instances = entry.instances.len().min(MAX_INSTANCES);
    6 + entry.name.len().min(MAX_NAME) + entry.interface.len().min(MAX_INTERFACE) + 8 * instances
}

fn read_names(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let complete = fields.bool("complete")?;
    let entries = fields.list("entries", MAX_NAMES, 6, |fields| {
        Ok(NameEntry {
            name: fields.string("name", MAX_NAME)?.to_owned(),
            interface: fields.string("interface", MAX_INTERFACE)?.to_owned(),
            instances: fields.list("instances", MAX_INSTANCES, 8, |f| Ok(InstanceId(f.u64("instance")?)))?,
        })
    })?;
    Ok(Frame::Names(Names { complete, entries }))
}

fn write_members(members: &Members, out: &mut BytesMut) {
    let members = &members.members[..members.members.len().min(MAX_MEMBERS)];
    put_count(out, members.len());
    for member in members {
        put_string(out, member.node.as_str(), NodeId::MAX_LEN);
        out.put_u64_le(member.incarnation.0);
        put_address(out, Some(member.address));
    }
}

fn read_members(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let members = fields.list("members", MAX_MEMBERS, 18, |fields| {
        Ok(Member {
            node: fields.node("node")?,
            incarnation: Incarnation(fields.u64("incarnation")?),
            address: fields.address("address")?,
        })
    })?;
    Ok(Frame::Members(Members { members }))
}
