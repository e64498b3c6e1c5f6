//! Frames: the units of the wire. `u32 length | u8 kind | fields | payload`, little-endian.
//!
//! Invariants: a length is compared with the limit before anything is done for it; a payload is a slice of the
//! read buffer, never a copy; a frame that cannot be written leaves the outgoing buffer as it was.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{CallError, ChainLink};
use crate::event::StopReason;
use crate::id::{Incarnation, InstanceId, MethodId, NodeId, RequestId};

use super::bodies;
use super::codec::CodecError;
use super::fields::Fields;
use super::watch::Watch;

pub(crate) use super::fields::FrameError;
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
    /// Which nodes the sender knows.
    Members(Members),
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
    /// The callers that wait for this request, the first caller first. The [`MAX_CHAIN`] latest are written.
    pub(crate) chain: C,
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
            FIRST_SKIPPED.. if !kind::MAY_BE_SKIPPED.contains(&kind) => buffer.advance(end),
            _ => {
                let frame = bodies::read(kind, &buffer[LENGTH + 1..end])?;
                buffer.advance(end);
                return Ok(Some(frame));
            }
        }
    }
}

/// Where the first frame in `buffer` ends, once it is all there.
#[inline]
fn next_end(buffer: &mut BytesMut, limit: usize) -> Result<Option<usize>, FrameError> {
    let Some(length) = buffer.first_chunk::<LENGTH>() else { return Ok(None) };
    let size = u32::from_le_bytes(*length) as usize;
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
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

impl Frame {
    /// Appends the frame to `out`. The writer answers for its size; strings and lists are cut to their limits.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let frame = Unfinished::begin(out, bodies::kind(self));
        bodies::write(self, frame.out);
        // No frame that is written here comes near the four gigabytes at which a length would not fit: lists
        // and strings have limits, and a payload has been through `parse` or is a test's.
        let _ = frame.finish(u32::MAX as usize);
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

/// Appends a request whose payload `payload` appends in place.
///
/// # Errors
/// What `payload` says, or [`PutError::TooLarge`]. `out` is then as it was; also if `payload` panics.
pub(crate) fn put_request<C: AsRef<[ChainLink]>>(
    out: &mut BytesMut,
    head: &RequestHead<C>,
    limit: usize,
    payload: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
) -> Result<(), PutError> {
    let frame = Unfinished::begin(out, kind::REQUEST);
    bodies::write_head(head, frame.out);
    payload(frame.out)?;
    frame.finish(limit)
}

/// Appends a reply whose payload `payload` appends in place.
///
/// # Errors
/// As [`put_request`].
pub(crate) fn put_reply(
    out: &mut BytesMut,
    id: RequestId,
    limit: usize,
    payload: impl FnOnce(&mut BytesMut) -> Result<(), CodecError>,
) -> Result<(), PutError> {
    let frame = Unfinished::begin(out, kind::REPLY);
    frame.out.put_u64_le(id.0);
    payload(frame.out)?;
    frame.finish(limit)
}

/// Appends the answer that there is no result. It is small, whatever the error.
pub(crate) fn put_failure(out: &mut BytesMut, id: RequestId, error: &CallError) {
    let frame = Unfinished::begin(out, kind::FAILURE);
    bodies::write_failure(id, error, frame.out);
    // A failure's text and chain have limits far below four gigabytes.
    let _ = frame.finish(u32::MAX as usize);
}

/// Why a frame was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PutError {
    /// The payload does not encode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The frame is larger than the limit.
    #[error("frame of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its length, without the length field.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// A frame that is being written. Dropped before it is finished, as in a panic, it is taken back.
struct Unfinished<'a> {
    out: &'a mut BytesMut,
    start: usize,
}

impl<'a> Unfinished<'a> {
    #[inline]
    fn begin(out: &'a mut BytesMut, kind: u8) -> Self {
        let start = out.len();
        out.put_slice(&[0, 0, 0, 0, kind]);
        Self { out, start }
    }

    #[inline]
    fn finish(mut self, limit: usize) -> Result<(), PutError> {
        let size = self.out.len() - self.start - LENGTH;
        let length = match u32::try_from(size) {
            Ok(length) if size <= limit => length,
            _ => return Err(PutError::TooLarge { size, limit }),
        };
        self.out[self.start..self.start + LENGTH].copy_from_slice(&length.to_le_bytes());
        self.start = self.out.len(); // From here on there is nothing to take back.
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    #[inline]
    fn drop(&mut self) {
        self.out.truncate(self.start);
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
    pub(crate) const WATCH: u8 = 0x18;
    pub(crate) const UNWATCH: u8 = 0x19;
    pub(crate) const DOWN: u8 = 0x1A;
    pub(crate) const PING: u8 = 0x20;
    pub(crate) const PONG: u8 = 0x21;
    pub(crate) const NAMES: u8 = 0x30;
    pub(crate) const MEMBERS: u8 = 0x31;
    pub(crate) const GOODBYE: u8 = 0x3F;
    pub(crate) const NAMES_SYNC: u8 = 0xB0;
    pub(crate) const NAMES_SYNCED: u8 = 0xB1;

    /// The kinds from 0x80 on that this version knows; an earlier one skips them.
    pub(crate) const MAY_BE_SKIPPED: [u8; 2] = [NAMES_SYNC, NAMES_SYNCED];
}

/// From this kind on, a frame that is not known is skipped.
const FIRST_SKIPPED: u8 = 0x80;

/// The bytes of the length field.
const LENGTH: usize = 4;

/// How much is reserved at once for a frame of which less has arrived.
const RESERVE: usize = 64 * 1024;

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
const LIST_FRAME: usize = 48 * 1024;
