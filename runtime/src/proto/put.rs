//! Writes frames whose payload is encoded in place, and takes back what cannot be written.
//!
//! Invariant: a frame that cannot be written leaves the outgoing buffer as it was.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{CallError, ChainLink};
use crate::id::{RequestId, StreamId};

use super::bodies;
use super::codec::{Apart, CodecError, Encoder};
use super::frame::{LENGTH, RequestHead, kind};

/// Appends a request, at most `limit` bytes without its length, whose payload `payload` appends in place. Gives the
/// payload's length.
///
/// # Errors
/// What `payload` says, or [`PutError::TooLarge`]. `out` is then as it was; also if `payload` panics.
#[inline]
pub(crate) fn put_request<C: AsRef<[ChainLink]>>(
    out: &mut BytesMut,
    head: &RequestHead<C>,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<usize, PutError> {
    let frame = Unfinished::begin(out, kind::REQUEST);
    bodies::write_head(head, frame.out);
    frame.payload(limit, payload)
}

/// Appends a reply, at most `limit` bytes without its length, whose payload `payload` appends in place.
///
/// # Errors
/// As [`put_request`].
#[inline]
pub(crate) fn put_reply(
    out: &mut BytesMut,
    id: RequestId,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<(), PutError> {
    let frame = Unfinished::begin(out, kind::REPLY);
    frame.out.put_u64_le(id.0);
    frame.payload(limit, payload).map(|_| ())
}

/// A request for pieces, as it would be written whole but without its length; and the length of its payload.
///
/// # Errors
/// As [`put_request`].
pub(crate) fn long_request<C: AsRef<[ChainLink]>>(
    head: &RequestHead<C>,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<(Vec<Bytes>, usize), PutError> {
    let mut out = BytesMut::new();
    out.put_u8(kind::REQUEST);
    bodies::write_head(head, &mut out);
    let before = out.len();
    let chunks = long(out, limit, payload)?;
    let length = chunks.iter().map(Bytes::len).sum::<usize>() - before;
    Ok((chunks, length))
}

/// A reply for pieces.
///
/// # Errors
/// As [`put_request`].
pub(crate) fn long_reply(
    id: RequestId,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<Vec<Bytes>, PutError> {
    let mut out = BytesMut::new();
    out.put_u8(kind::REPLY);
    out.put_u64_le(id.0);
    long(out, limit, payload)
}

/// Appends an item of a stream, at most `limit` bytes without its length. Gives the payload's length.
///
/// # Errors
/// As [`put_request`].
pub(crate) fn put_item(
    out: &mut BytesMut,
    stream: StreamId,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<usize, PutError> {
    let frame = Unfinished::begin(out, kind::STREAM_ITEM);
    frame.out.put_u64_le(stream.0);
    frame.payload(limit, payload)
}

/// An item of a stream for pieces, and the length of its payload.
///
/// # Errors
/// As [`put_request`].
pub(crate) fn long_item(
    stream: StreamId,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<(Vec<Bytes>, usize), PutError> {
    let mut out = BytesMut::new();
    out.put_u8(kind::STREAM_ITEM);
    out.put_u64_le(stream.0);
    let before = out.len();
    let chunks = long(out, limit, payload)?;
    let length = chunks.iter().map(Bytes::len).sum::<usize>() - before;
    Ok((chunks, length))
}

fn long(
    mut out: BytesMut,
    limit: usize,
    payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
) -> Result<Vec<Bytes>, PutError> {
    let mut apart = Apart::default();
    let put = payload(&mut Encoder::apart(&mut out, limit, &mut apart));
    put.map_err(|error| PutError::new(error, limit))?;
    Ok(apart.into_chunks(out))
}

/// Appends the answer that there is no result. It is small, whatever the error.
pub(crate) fn put_failure(out: &mut BytesMut, id: RequestId, error: &CallError) {
    let frame = Unfinished::begin(out, kind::FAILURE);
    bodies::write_failure(id, error, frame.out);
    frame.finish();
}

/// Why a frame was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PutError {
    /// The payload does not encode.
    #[error(transparent)]
    Codec(CodecError),
    /// The frame is larger than the limit.
    #[error("it takes more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes, without the frame's length.
        limit: usize,
    },
}

impl PutError {
    fn new(error: CodecError, limit: usize) -> Self {
        match error {
            CodecError::TooLong { .. } => Self::TooLarge { limit },
            error => Self::Codec(error),
        }
    }
}

/// A frame that is being written. Dropped before it is finished, as in a panic, it is taken back.
pub(super) struct Unfinished<'a> {
    pub(super) out: &'a mut BytesMut,
    start: usize,
}

impl<'a> Unfinished<'a> {
    #[inline]
    pub(super) fn begin(out: &'a mut BytesMut, kind: u8) -> Self {
        let start = out.len();
        out.put_slice(&[0, 0, 0, 0, kind]);
        Self { out, start }
    }

    #[inline]
    fn payload(
        self,
        limit: usize,
        payload: impl FnOnce(&mut Encoder<'_>) -> Result<(), CodecError>,
    ) -> Result<usize, PutError> {
        let (most, before) = ((self.start + LENGTH).saturating_add(limit), self.out.len());
        payload(&mut Encoder::new(self.out, most)).map_err(|error| PutError::new(error, limit))?;
        let length = self.out.len() - before;
        self.finish();
        Ok(length)
    }

    /// Writes the frame's length. No frame comes near the four gigabytes at which that would not fit: lists and strings
    /// have limits, and a payload has one too.
    #[inline]
    pub(super) fn finish(mut self) {
        let size = self.out.len() - self.start - LENGTH;
        let length = u32::try_from(size);
        debug_assert!(length.is_ok(), "a frame of {size} bytes");
        let length = length.unwrap_or(u32::MAX);
        self.out[self.start..self.start + LENGTH].copy_from_slice(&length.to_le_bytes());
        self.start = self.out.len(); // From here on there is nothing to take back.
    }
}

impl Drop for Unfinished<'_> {
    #[inline]
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}
