//! How a value becomes a payload and back. The only file that names the payload codec, bincode 2 through serde.
//!
//! Invariants: a failed encode leaves the buffer as it was; a decode consumes the whole payload or fails; no
//! payload makes a decode reserve more than a bound.

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends the payload of `value` to `out`.
///
/// How large it may become is the frame's business: `frame::put_request` and `frame::put_reply` take the limit.
///
/// # Errors
/// [`CodecError::Encode`] if the value's `Serialize` refuses, or describes itself in a way that the format cannot
/// write. `out` is then as it was.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut BytesMut) -> Result<(), CodecError> {
    let start = out.len();
    let written = bincode::serde::encode_into_writer(value, Appender(out), bincode::config::standard());
    written.map_err(|error| {
        out.truncate(start);
        CodecError::Encode(error.to_string())
    })
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
    let result = match payload.len() {
        size if size <= SMALL => decode_within::<T, { MEMORY_PER_BYTE * SMALL }>(payload),
        size if size <= MEDIUM => decode_within::<T, { MEMORY_PER_BYTE * MEDIUM }>(payload),
        _ => decode_within::<T, { MEMORY_PER_BYTE * LARGE }>(payload),
    };
    let (value, used) = result.map_err(|error| CodecError::Decode(error.to_string()))?;
    match payload.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
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
pub(crate) enum CodecError {
    /// The value does not encode.
    #[error("the value does not encode: {0}")]
    Encode(String),
    /// The payload is not a value of the expected type.
    #[error("the payload does not decode: {0}")]
    Decode(String),
    /// The payload holds a value of the expected type, and then more.
    #[error("the payload has {0} bytes more than the value in it")]
    Trailing(usize),
}

/// Writes at the end of a buffer that grows. Saves the detour through `std::io::Write` and its error type.
struct Appender<'a>(&'a mut BytesMut);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

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
    fn a_value_that_refuses_leaves_the_buffer_as_it_was() {
        struct HalfWritten;
        impl Serialize for HalfWritten {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element("written")?;
                Err(serde::ser::Error::custom("no more"))
            }
        }
        let mut out = BytesMut::from(&b"before"[..]);
        let error = encode(&HalfWritten, &mut out).unwrap_err();
        assert!(matches!(&error, CodecError::Encode(text) if text.contains("no more")), "{error}");
        assert_eq!(&out[..], b"before");
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
