//! What stands in each kind of frame: its fields, read and written side by side.
//!
//! Invariant: whatever is written here is within the limits with which it is read here.

mod greetings;
mod lists;
mod requests;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{InstanceId, RequestId, StreamId};

use super::described::{self, Described};
use super::fence::Word;
use super::fields::{Fields, FrameError, put_string};
use super::flow::{Amount, SMALLEST_WINDOW};
use super::frame::{Frame, MAX_TEXT, PIECE, Proof, Request, Window, kind};
use super::{pieces, watch};

use greetings::{
    read_challenge, read_hello, read_refuse, read_welcome, write_challenge, write_hello, write_welcome,
};
pub(super) use lists::name_size;
use lists::{read_members, read_names, write_members, write_names};
use requests::{IN_ORDER, read_error, read_failure, write_error};
pub(super) use requests::{read_head, write_failure, write_head};

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
        Frame::Described(Described::Traits(_)) => kind::DESCRIBED,
        Frame::Described(Described::Methods(_)) => kind::METHODS,
        Frame::Described(Described::Loads(_)) => kind::LOADS,
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
        Frame::Described(described) => described.frame(),
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
        Frame::Described(described) => described::write(described, out),
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
        kind::DESCRIBED => whole(described::read_traits, fields("described")),
        kind::METHODS => whole(described::read_methods, fields("methods")),
        kind::LOADS => whole(described::read_loads, fields("loads")),
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
