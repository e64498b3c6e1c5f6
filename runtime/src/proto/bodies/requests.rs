//! Requests, and why they failed.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::error::{CallChain, CallError, ChainLink, Detail};
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId, RequestId};
use crate::proto::fields::{Fields, FrameError, put_count, put_string};
use crate::proto::frame::{Frame, MAX_CHAIN, MAX_HANDLER, MAX_TEXT, RequestHead};
use crate::trace::TraceParent;

/// The sender waits for a reply.
const WANTS_REPLY: u8 = 0b01;
/// A call chain follows the flags.
const HAS_CHAIN: u8 = 0b10;
/// It needs no credit: somebody in the chain waits for it, and holds up the mailbox that it would wait for.
const AHEAD: u8 = 0b100;
/// It is refused rather than that it waits for room.
const IMPATIENT: u8 = 0b1000;
/// The trace that it is part of follows.
const HAS_TRACE: u8 = 0b1_0000;

/// Writes a request up to its payload.
#[inline]
pub(in crate::proto) fn write_head<C: AsRef<[ChainLink]>>(head: &RequestHead<C>, out: &mut BytesMut) {
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
    if head.trace.is_some() {
        flags |= HAS_TRACE;
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
    if let Some(trace) = head.trace {
        out.put_slice(&trace.to_bytes());
    }
}

/// Reads a request up to its payload.
#[inline]
pub(in crate::proto) fn read_head(fields: &mut Fields<'_>) -> Result<RequestHead, FrameError> {
    let fixed: [u8; HEAD] = fields.array("head")?;
    let id = RequestId(u64_at(&fixed, 0));
    let instance = InstanceId(u64_at(&fixed, 8));
    let method = MethodId { name: u32_at(&fixed, 16), signature: u32_at(&fixed, 20) };
    let remaining = match u32_at(&fixed, 24) {
        0 => None,
        millis => Some(Duration::from_millis(millis.into())),
    };
    let flags = fixed[28];
    if flags & !(WANTS_REPLY | HAS_CHAIN | AHEAD | IMPATIENT | HAS_TRACE) != 0 {
        return Err(fields.wrong("flags", flags.into(), "0 to 31"));
    }
    let (wants_reply, is_ahead) = (flags & WANTS_REPLY != 0, flags & AHEAD != 0);
    let is_impatient = flags & IMPATIENT != 0;
    let chain = if flags & HAS_CHAIN == 0 { vec![] } else { read_chain(fields)? };
    if is_ahead && chain.is_empty() {
        return Err(fields.wrong("flags", flags.into(), "a chain where bit 2 is set"));
    }
    let trace = match flags & HAS_TRACE {
        0 => None,
        _ => Some(TraceParent::from_bytes(&fields.array("trace")?)),
    };
    Ok(RequestHead { id, instance, method, remaining, wants_reply, is_ahead, is_impatient, chain, trace })
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
pub(in crate::proto) fn write_failure(id: RequestId, error: &CallError, out: &mut BytesMut) {
    out.put_u64_le(id.0);
    write_error(error, out);
}

/// In the place of an error's code: there is none.
pub(super) const IN_ORDER: u8 = 0;

pub(super) fn write_error(error: &CallError, out: &mut BytesMut) {
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

pub(super) fn read_failure(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let id = RequestId(fields.u64("id")?);
    match read_error(fields)? {
        Some(error) => Ok(Frame::Failure { id, error }),
        None => Err(fields.wrong("code", IN_ORDER.into(), "1 or more")),
    }
}

pub(super) fn read_error(fields: &mut Fields<'_>) -> Result<Option<CallError>, FrameError> {
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
