//! How a value becomes a payload and back. The only file that names the payload codec, bincode 2 through serde.
//!
//! Invariants: an encode stops at its limit; a decode consumes the whole payload or fails; no payload makes a decode
//! reserve more than a bound.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where a payload is written: behind what a buffer holds already, and no further than a limit.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut BytesMut,
    /// How long all of it may become: `out`, and what was set apart.
    most: usize,
    apart: Option<&'a mut Apart>,
}

/// Long byte strings of a payload, which are shared instead of copied, and what stands before each.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    chunks: Vec<Bytes>,
    length: usize,
    /// What may be shared, should it come by.
    known: Vec<Bytes>,
}

impl<'a> Encoder<'a> {
    /// Writes into `out`, which may become `most` bytes long.
    pub(crate) fn new(out: &'a mut BytesMut, most: usize) -> Self {
        Self { out, most, apart: None }
    }

    /// Writes into `out` and `apart`, which may become `most` bytes long together.
    pub(crate) fn apart(out: &'a mut BytesMut, most: usize, apart: &'a mut Apart) -> Self {
        Self { out, most, apart: Some(apart) }
    }

    /// Appends a value.
    ///
    /// # Errors
    /// [`CodecError::Encode`] if the value's `Serialize` refuses, or describes itself in a way that the format cannot
    /// write; [`CodecError::TooLong`] above the limit. What was appended must then be taken back by whoever began.
    pub fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        let most = self.most;
        let mut writer = Writer { encoder: self, is_full: false };
        let written = bincode::serde::encode_into_writer(value, &mut writer, bincode::config::standard());
        let is_full = writer.is_full;
        written.map_err(|error| {
            if is_full { CodecError::TooLong { limit: most } } else { CodecError::Encode(error.to_string()) }
        })
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        if self.append(bytes) { Ok(()) } else { Err(CodecError::TooLong { limit: self.most }) }
    }

    /// Says that the value which follows may hold these bytes: then they are shared, if that saves a copy.
    pub fn share(&mut self, bytes: &Bytes) {
        if let Some(apart) = &mut self.apart
            && bytes.len() >= SHARED
        {
            apart.known.push(bytes.clone());
        }
    }

    /// `false` if it would become too long.
    #[inline]
    fn append(&mut self, bytes: &[u8]) -> bool {
        let apart = self.apart.as_ref().map_or(0, |apart| apart.length);
        if self.out.len() + apart + bytes.len() > self.most {
            return false;
        }
        if bytes.len() < SHARED || !self.append_shared(bytes) {
            self.out.extend_from_slice(bytes);
        }
        true
    }

    /// `false` if nobody shares these bytes.
    #[cold]
    fn append_shared(&mut self, bytes: &[u8]) -> bool {
        let Some(apart) = &mut self.apart else { return false };
        let Some(known) = apart.known.iter().find(|known| std::ptr::eq(known.as_ref(), bytes)) else {
            return false;
        };
        let known = known.clone();
        let before = self.out.split().freeze();
        apart.length += before.len() + known.len();
        apart.chunks.extend([before, known]);
        true
    }
}

impl Apart {
    /// All of it in order, with what stands behind the last.
    pub(crate) fn into_chunks(self, rest: BytesMut) -> Vec<Bytes> {
        let mut chunks = self.chunks;
        chunks.push(rest.freeze());
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    }
}

/// Reads a value from a payload, all of it.
///
/// A sequence of elements that take no bytes (`Vec<()>`) has nothing that bounds its claimed length, so that a
/// hostile payload for it costs time (never memory). No message may have such an argument; nothing here can
/// see a type's elements.
///
/// # Errors
/// [`CodecError::Decode`] if the payload is not a `T`, or claims a length beyond the bound;
/// [`CodecError::Trailing`] if bytes are left over.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decode_next(payload)?;
    match payload.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

/// Reads the value with which a payload begins, and gives how long that is.
///
/// # Errors
/// [`CodecError::Decode`], as for [`decode`].
#[inline]
pub(crate) fn decode_next<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, usize), CodecError> {
    let result = match payload.len() {
        size if size <= SMALL => decode_within::<T, { MEMORY_PER_BYTE * SMALL }>(payload),
        size if size <= MEDIUM => decode_within::<T, { MEMORY_PER_BYTE * MEDIUM }>(payload),
        _ => decode_within::<T, { MEMORY_PER_BYTE * LARGE }>(payload),
    };
    result.map_err(|error| CodecError::Decode(error.to_string()))
}

/// The codec reserves what a string claims before it reads it; `LIMIT` bounds that.
#[expect(clippy::disallowed_methods, reason = "this file is the owner of the payload codec")]
fn decode_within<T: DeserializeOwned, const LIMIT: usize>(
    payload: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    bincode::serde::decode_from_slice(payload, bincode::config::standard().with_limit::<LIMIT>())
}

/// Why a payload could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value does not encode.
    #[error("the value does not encode: {0}")]
    Encode(String),
    /// The value is longer than it may be.
    #[error("the value takes more than {limit} bytes")]
    TooLong {
        /// How long it may be, with what stands before it.
        limit: usize,
    },
    /// The payload is not a value of the expected type.
    #[error("the payload does not decode: {0}")]
    Decode(String),
    /// The payload holds a value of the expected type, and then more.
    #[error("the payload has {0} bytes more than the value in it")]
    Trailing(usize),
}

/// What the codec writes into.
struct Writer<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    is_full: bool,
}

impl bincode::enc::write::Writer for &mut Writer<'_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        if self.encoder.append(bytes) {
            return Ok(());
        }
        self.is_full = true;
        Err(bincode::error::EncodeError::UnexpectedEnd)
    }
}

/// From how many bytes on a byte string is shared rather than copied: below, a copy costs less than the bookkeeping.
const SHARED: usize = 16 * 1024;

/// The most bytes that a decode may claim for each byte of its payload. They are counted as the values take them in
/// memory: a small number is one byte on the wire and up to sixteen in memory.
const MEMORY_PER_BYTE: usize = 16;

/// The sizes of payload, in bytes, between which the bound grows. It is a constant to the codec.
const SMALL: usize = 16 << 10;
const MEDIUM: usize = 1 << 20;
/// The largest payload that a node can be set to take.
pub(crate) const LARGE: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn encode<T: Serialize>(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
        Encoder::new(out, usize::MAX).put(value)
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let value = (7_u64, "text".to_owned(), vec![Some(1_i32), None], BTreeMap::from([(1_u8, 2.5_f64)]));
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&value, &mut out).unwrap();
        assert_eq!(&out[..6], b"before");
        assert_eq!(decode::<(u64, String, Vec<Option<i32>>, BTreeMap<u8, f64>)>(&out[6..]), Ok(value));
    }

    /// Typed by hand from the format's description: variable-length little-endian integers, lengths before
    /// strings and lists, a byte for an `Option`, `zigzag` for signed numbers.
    #[test]
    fn the_payload_format_is_the_one_that_was_published() {
        let mut out = BytesMut::new();
        encode(&(5_u64, 300_u32, "ab", [1_u8, 2].as_slice(), Some(-1_i32), true), &mut out).unwrap();
        assert_eq!(&out[..], [0x05, 0xFB, 0x2C, 0x01, 0x02, b'a', b'b', 0x02, 0x01, 0x02, 0x01, 0x01, 0x01]);
    }

    #[test]
    fn a_value_that_refuses_says_why() {
        struct HalfWritten;
        impl Serialize for HalfWritten {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element("written")?;
                Err(serde::ser::Error::custom("no more"))
            }
        }
        let error = encode(&HalfWritten, &mut BytesMut::new()).unwrap_err();
        assert!(matches!(&error, CodecError::Encode(text) if text.contains("no more")), "{error}");
    }

    #[test]
    fn a_value_is_written_no_further_than_its_limit() {
        let mut out = BytesMut::from(&b"before"[..]);
        assert_eq!(Encoder::new(&mut out, 10).put("abc"), Ok(()));
        assert_eq!(Encoder::new(&mut out, 10).put("a"), Err(CodecError::TooLong { limit: 10 }));
        assert_eq!(Encoder::new(&mut out, 11).put_bytes(b"ab"), Err(CodecError::TooLong { limit: 11 }));
        assert!(out.len() <= 11);
    }

    #[test]
    fn long_bytes_are_shared_and_the_payload_is_the_same() {
        /// Bytes that are written as bytes.
        struct Raw(Bytes);
        impl Serialize for Raw {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let long = Bytes::from(vec![7; SHARED]);
        let short = Bytes::from(vec![8; SHARED - 1]);
        let value = (1_u8, Raw(long.clone()), Raw(short.clone()), "end");
        let mut copied = BytesMut::new();
        encode(&value, &mut copied).unwrap();
        let (mut out, mut apart) = (BytesMut::new(), Apart::default());
        let mut encoder = Encoder::apart(&mut out, copied.len(), &mut apart);
        encoder.share(&long);
        encoder.share(&short);
        assert_eq!(encoder.put(&value), Ok(()));
        let chunks = apart.into_chunks(out);
        assert_eq!(chunks.concat(), copied);
        assert!(std::ptr::eq(chunks[1].as_ref(), long.as_ref()), "not a copy");
        assert_eq!(chunks.len(), 3);

        let (mut out, mut apart) = (BytesMut::new(), Apart::default());
        let mut encoder = Encoder::apart(&mut out, copied.len() - 1, &mut apart);
        encoder.share(&long);
        assert!(matches!(encoder.put(&value), Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let error = decode::<u8>(&[1, 2, 3]).unwrap_err();
        assert_eq!(error, CodecError::Trailing(2));
        assert_eq!(error.to_string(), "the payload has 2 bytes more than the value in it");
    }

    #[test]
    fn a_hostile_length_is_refused_before_anything_is_reserved() {
        let mut claim = vec![0xFD]; // a 64-bit length follows
        claim.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        claim.extend_from_slice(&[0; 32]);
        for error in [
            decode::<String>(&claim).unwrap_err(),
            decode::<Vec<u64>>(&claim).map(|_| ()).unwrap_err(),
            decode::<BTreeMap<u64, u64>>(&claim).map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, CodecError::Decode(_)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<(u64, String, Vec<Vec<u16>>, Option<char>)>(&payload);
            let _ = decode::<BTreeMap<String, Result<bool, i128>>>(&payload);
        }
    }
}
