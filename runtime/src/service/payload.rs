//! How arguments, replies and items become payloads and back: one value after the other, as one tuple. A long byte string
//! that is an argument, a reply or an item is not copied on its way.
//!
//! Of what stands deeper inside of a value serde shows no more than borrowed bytes: that is copied.

use std::any::Any;
use std::marker::PhantomData;

use bytes::Bytes;

use crate::error::CallError;
use crate::proto::codec::{self, CodecError, Encoder};
use crate::service::message::Wire;

impl Encoder<'_> {
    /// Says that the value follows. If it is `Bytes`, an `Option` or a `Vec` of them, these are shared rather than copied.
    #[inline]
    pub fn announce<T: Any>(&mut self, value: &T) {
        let (value, share) = (value as &dyn Any, &mut |bytes| self.share(bytes));
        if let Some(bytes) = value.downcast_ref::<Bytes>() {
            share(bytes);
        } else if let Some(bytes) = value.downcast_ref::<Option<Bytes>>() {
            bytes.iter().for_each(&mut *share);
        } else if let Some(bytes) = value.downcast_ref::<Vec<Bytes>>() {
            bytes.iter().for_each(share);
        }
    }
}

/// Where values are read from.
#[derive(Debug)]
pub struct Decoder<'a> {
    payload: &'a Bytes,
    /// How much of it was read.
    at: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(payload: &'a Bytes) -> Self {
        Self { payload, at: 0 }
    }

    /// Reads the value that comes next. `Bytes`, an `Option` or a `Vec` of them is a part of the payload, where that saves
    /// a copy.
    ///
    /// # Errors
    /// Something else comes next.
    #[inline]
    pub fn take<T: Wire>(&mut self) -> Result<T, DecodeError> {
        let mut value: Option<T> = None;
        let place: &mut dyn Any = &mut value;
        if let Some(place) = place.downcast_mut::<Option<Bytes>>() {
            *place = Some(self.bytes()?);
        } else if let Some(place) = place.downcast_mut::<Option<Option<Bytes>>>() {
            let is_some = self.plain::<bool>()?;
            *place = Some(is_some.then(|| self.bytes()).transpose()?);
        } else if let Some(place) = place.downcast_mut::<Option<Vec<Bytes>>>() {
            let count = self.plain::<u64>()?;
            // Each takes a byte at least: no count makes this reserve more than what has come.
            let count = usize::try_from(count).ok().filter(|count| *count <= self.rest().len());
            let count = count.ok_or_else(|| shorter("a list"))?;
            *place = Some((0..count).map(|_| self.bytes()).collect::<Result<_, _>>()?);
        }
        match value {
            Some(value) => Ok(value),
            None => self.plain(),
        }
    }

    /// Notes that nothing comes any more.
    ///
    /// # Errors
    /// Something does.
    #[inline]
    pub fn end(self) -> Result<(), DecodeError> {
        match self.rest().len() {
            0 => Ok(()),
            left => Err(CodecError::Trailing(left).into()),
        }
    }

    /// Reads one value, which must be all that there is.
    pub(crate) fn only<T: Wire>(mut self) -> Result<T, DecodeError> {
        let value = self.take()?;
        self.end()?;
        Ok(value)
    }

    #[inline]
    fn plain<T: Wire>(&mut self) -> Result<T, DecodeError> {
        let (value, length) = codec::decode_next(self.rest())?;
        self.at += length;
        Ok(value)
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.plain::<u64>()?).ok();
        let part =
            length.and_then(|length| self.rest().get(..length)).ok_or_else(|| shorter("a byte string"))?;
        self.at += part.len();
        // A part keeps the buffer in which the whole has come.
        Ok(if part.len() < KEPT { Bytes::copy_from_slice(part) } else { self.payload.slice_ref(part) })
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.payload[self.at..]
    }
}

fn shorter(what: &str) -> DecodeError {
    CodecError::Decode(format!("{what} is longer than the payload that it is in")).into()
}

/// From how many bytes on a part of a payload keeps all of its buffer, which may be a few times as long.
pub(crate) const KEPT: usize = 16 * 1024;

/// Why a message could not be rebuilt from the wire.
#[derive(Debug)]
pub struct DecodeError(Problem);

#[derive(Debug)]
enum Problem {
    UnknownMethod,
    Arguments(CodecError),
}

impl DecodeError {
    /// The interface has no such method.
    pub fn unknown() -> Self {
        Self(Problem::UnknownMethod)
    }
}

impl From<CodecError> for DecodeError {
    fn from(error: CodecError) -> Self {
        Self(Problem::Arguments(error))
    }
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Problem::UnknownMethod => f.write_str("unknown method"),
            Problem::Arguments(error) => error.fmt(f),
        }
    }
}

/// How a reply is written and read, found out by method resolution: the first of the two traits below that fits is taken.
#[derive(Debug)]
pub struct ReplyForm<T>(PhantomData<fn() -> T>);

impl<T> ReplyForm<T> {
    /// The question.
    pub const NEW: Self = Self(PhantomData);
}

/// A `Result`: what it holds may be shared too.
pub trait ResultForm<R> {
    /// Writes it.
    ///
    /// # Errors
    /// As [`Encoder::put`].
    fn write(&self, reply: &R, out: &mut Encoder<'_>) -> Result<(), CodecError>;

    /// Reads it.
    ///
    /// # Errors
    /// The payload is something else.
    fn read(&self, payload: &Bytes) -> Result<R, CallError>;
}

/// Anything else.
pub trait PlainForm<R> {
    /// Writes it.
    ///
    /// # Errors
    /// As [`Encoder::put`].
    fn write(&self, reply: &R, out: &mut Encoder<'_>) -> Result<(), CodecError>;

    /// Reads it.
    ///
    /// # Errors
    /// The payload is something else.
    fn read(&self, payload: &Bytes) -> Result<R, CallError>;
}

impl<T: Wire, E: Wire> ResultForm<Result<T, E>> for ReplyForm<Result<T, E>> {
    #[inline]
    fn write(&self, reply: &Result<T, E>, out: &mut Encoder<'_>) -> Result<(), CodecError> {
        if let Ok(value) = reply {
            out.announce(value);
        }
        out.put(reply)
    }

    #[inline]
    fn read(&self, payload: &Bytes) -> Result<Result<T, E>, CallError> {
        let mut decoder = Decoder::new(payload);
        // As the codec writes an enum: the variant's number, and what it holds.
        let reply = match decoder.plain::<u32>().map_err(bad)? {
            0 => decoder.take().map(Ok),
            1 => decoder.take().map(Err),
            other => Err(CodecError::Decode(format!("variant {other} of a `Result`")).into()),
        };
        let reply = reply.map_err(bad)?;
        decoder.end().map_err(bad)?;
        Ok(reply)
    }
}

impl<T: Wire> PlainForm<T> for &ReplyForm<T> {
    #[inline]
    fn write(&self, reply: &T, out: &mut Encoder<'_>) -> Result<(), CodecError> {
        out.announce(reply);
        out.put(reply)
    }

    #[inline]
    fn read(&self, payload: &Bytes) -> Result<T, CallError> {
        Decoder::new(payload).only().map_err(bad)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn bad(error: DecodeError) -> CallError {
    CallError::BadReply(error.to_string().into())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde::Serialize;

    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Bytes {
        let mut out = BytesMut::new();
        Encoder::new(&mut out, usize::MAX).put(value).unwrap();
        out.freeze()
    }

    fn is_part_of(part: &Bytes, whole: &Bytes) -> bool {
        whole.as_ptr_range().contains(&part.as_ptr())
    }

    #[derive(Serialize)]
    struct Raw<'a>(#[serde(with = "raw")] &'a [u8]);

    mod raw {
        pub(super) fn serialize<S: serde::Serializer>(
            bytes: &[u8],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(bytes)
        }
    }

    #[test]
    fn values_are_read_one_after_the_other_as_the_tuple_that_they_are() {
        let (long, short) = (vec![7; KEPT], vec![8; KEPT - 1]);
        let payload = encoded(&(
            5_u64,
            Raw(&long),
            "text",
            Some(Raw(&short)),
            [Raw(&long), Raw(b"")].as_slice(),
            -1_i8,
        ));
        let mut decoder = Decoder::new(&payload);
        assert_eq!(decoder.take::<u64>().unwrap(), 5);
        let part = decoder.take::<Bytes>().unwrap();
        assert_eq!(part, long);
        assert!(is_part_of(&part, &payload), "a long one is no copy");
        assert_eq!(decoder.take::<String>().unwrap(), "text");
        let copy = decoder.take::<Option<Bytes>>().unwrap().unwrap();
        assert_eq!(copy, short);
        assert!(!is_part_of(&copy, &payload), "a short one does not keep the rest");
        let list = decoder.take::<Vec<Bytes>>().unwrap();
        assert_eq!(list, [long, vec![]]);
        assert!(is_part_of(&list[0], &payload));
        assert_eq!(decoder.take::<i8>().unwrap(), -1);
        decoder.end().unwrap();
        assert_eq!(Decoder::new(&encoded(&None::<u8>)).only::<Option<Bytes>>().unwrap(), None);
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let mut claim = vec![0xFD];
        claim.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        claim.extend_from_slice(&[0; 32]);
        let claim = Bytes::from(claim);
        let error = Decoder::new(&claim).only::<Bytes>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the payload does not decode: a byte string is longer than the payload that it is in"
        );
        assert!(Decoder::new(&claim).only::<Vec<Bytes>>().is_err());
        let two = Bytes::from_static(&[1, 0xFE]);
        assert!(Decoder::new(&two).only::<Option<Bytes>>().is_err());
        assert!(Decoder::new(&Bytes::from_static(&[7])).only::<Option<Bytes>>().is_err(), "no such variant");
        assert!(
            Decoder::new(&encoded(&(1_u8, 2_u8)))
                .only::<u8>()
                .unwrap_err()
                .to_string()
                .contains("1 bytes more")
        );
    }

    #[test]
    fn a_reply_comes_back_as_it_was_whatever_its_form() {
        let long = Bytes::from(vec![7; KEPT]);
        macro_rules! check {
            ($reply:expr, $type:ty) => {
                let (reply, mut out): ($type, _) = ($reply, BytesMut::new());
                (&ReplyForm::<$type>::NEW).write(&reply, &mut Encoder::new(&mut out, usize::MAX)).unwrap();
                let payload = out.freeze();
                let back = (&ReplyForm::<$type>::NEW).read(&payload).unwrap();
                assert_eq!(back, reply);
                let cut = payload.slice(..payload.len() - 1);
                assert!((&ReplyForm::<$type>::NEW).read(&cut).is_err());
            };
        }
        check!(long.clone(), Bytes);
        check!(Ok(long.clone()), Result<Bytes, String>);
        check!(Err("no".to_owned()), Result<Bytes, String>);
        check!(Some(long.clone()), Option<Bytes>);
        check!(Ok(Some(long.clone())), Result<Option<Bytes>, u8>);
        check!(vec![long.clone(), Bytes::new()], Vec<Bytes>);
        check!((1, "a".to_owned()), (u64, String));
        let payload = encoded(&Ok::<Raw<'_>, u8>(Raw(&long)));
        let back: Result<Bytes, u8> = ReplyForm::<Result<Bytes, u8>>::NEW.read(&payload).unwrap();
        assert!(is_part_of(&back.unwrap(), &payload));
        let third = Bytes::from_static(&[2, 0]);
        assert!(ReplyForm::<Result<Bytes, u8>>::NEW.read(&third).is_err());
    }
}
