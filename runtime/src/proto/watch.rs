//! Watching on the wire: who wants to be told of an instance's end, and why one ended.
//!
//! Invariant: whatever is written here is within the limits with which it is read here.

use bytes::{BufMut, BytesMut};

use crate::event::StopReason;
use crate::id::InstanceId;

use super::fields::{Fields, FrameError, put_string};
use super::frame::{Frame, MAX_TEXT};

/// The wish to be told of an instance's end, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Numbers the watch on this connection. The watching side gives the numbers.
    pub(crate) id: u64,
    /// The instance that is watched.
    pub(crate) instance: InstanceId,
    /// The instance that watches, if the two are linked: then each is told of the other's end.
    pub(crate) linked: Option<InstanceId>,
}

pub(super) fn write_watch(watch: &Watch, out: &mut BytesMut) {
    out.put_u64_le(watch.id);
    out.put_u64_le(watch.instance.0);
    out.put_u8(watch.linked.is_some().into());
    if let Some(linked) = watch.linked {
        out.put_u64_le(linked.0);
    }
}

pub(super) fn read_watch(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let id = fields.u64("id")?;
    let instance = InstanceId(fields.u64("instance")?);
    let linked = if fields.bool("linked")? { Some(InstanceId(fields.u64("watcher")?)) } else { None };
    Ok(Frame::Watch(Watch { id, instance, linked }))
}

pub(super) fn write_unwatch(id: u64, reason: Option<&StopReason>, out: &mut BytesMut) {
    out.put_u64_le(id);
    match reason {
        None => out.put_u8(NO_REASON),
        Some(reason) => write_reason(reason, out),
    }
}

pub(super) fn read_unwatch(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    Ok(Frame::Unwatch { id: fields.u64("id")?, reason: read_reason(fields)? })
}

pub(super) fn write_down(id: u64, reason: &StopReason, out: &mut BytesMut) {
    out.put_u64_le(id);
    write_reason(reason, out);
}

pub(super) fn read_down(fields: &mut Fields<'_>) -> Result<Frame, FrameError> {
    let id = fields.u64("id")?;
    match read_reason(fields)? {
        Some(reason) => Ok(Frame::Down { id, reason }),
        None => Err(fields.wrong("reason", NO_REASON.into(), "1 or more")),
    }
}

/// Stands where a reason might, and there is none.
const NO_REASON: u8 = 0;

fn write_reason(reason: &StopReason, out: &mut BytesMut) {
    let (kind, text) = match reason {
        StopReason::Normal => (1, ""),
        StopReason::Shutdown => (2, ""),
        StopReason::Error(text) => (3, text.as_str()),
        StopReason::Panicked(text) => (4, text.as_str()),
        StopReason::Killed => (5, ""),
        StopReason::NodeDown(text) => (6, text.as_str()),
        StopReason::Stale => (7, ""),
        StopReason::Gone => (8, ""),
    };
    out.put_u8(kind);
    put_string(out, text, MAX_TEXT);
}

/// Reads a reason, the last field of its frame. The text of one that has none is passed over.
fn read_reason(fields: &mut Fields<'_>) -> Result<Option<StopReason>, FrameError> {
    let make: fn(String) -> StopReason = match fields.u8("reason")? {
        NO_REASON => return Ok(None),
        1 => |_| StopReason::Normal,
        2 => |_| StopReason::Shutdown,
        3 => StopReason::Error,
        4 => StopReason::Panicked,
        5 => |_| StopReason::Killed,
        6 => StopReason::NodeDown,
        7 => |_| StopReason::Stale,
        8 => |_| StopReason::Gone,
        unknown => {
            // A later version's: it ended, and whether that was a failure nobody here can know. So it was one.
            fields.skip_rest();
            return Ok(Some(StopReason::Error(format!("an unknown reason (kind {unknown})"))));
        }
    };
    Ok(Some(make(fields.string("text", MAX_TEXT)?.to_owned())))
}
