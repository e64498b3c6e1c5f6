//! The primitive fields of a frame: how each is read and written, and what is wrong with one that cannot be read.
//!
//! Invariant: a reader trusts no length. It reserves only in proportion to bytes that have arrived.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::id::{InvalidName, NodeId};

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length is above the limit. Nothing was reserved for it.
    #[error("frame of {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The claimed length.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It begins as TLS does. Such a length is above every limit.
    #[error("the peer speaks TLS, and this node does not")]
    Tls,
    /// The length is zero, so that not even a kind follows.
    #[error("frame of 0 bytes, a kind was expected")]
    Empty,
    /// A kind that this version does not know and may not skip.
    #[error("frame of unknown kind {0:#04x}, a kind of this version or one from 0x80 was expected")]
    UnknownKind(u8),
    /// A `Hello` that does not begin as ours do.
    #[error("the peer does not speak this protocol: a hello begins with SKYHOLD")]
    Magic,
    /// The frame ends too early.
    #[error("{frame} frame ends within `{field}`")]
    Short {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
    },
    /// The frame goes on after its last field.
    #[error("{frame} frame has {left} bytes after its last field")]
    Trailing {
        /// The frame.
        frame: &'static str,
        /// How many bytes are left.
        left: usize,
    },
    /// A string or a list is longer than it may be.
    #[error("`{field}` of {frame} frame has length {size}, the limit is {limit}")]
    TooLong {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
        /// Its length, in bytes or in elements.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A string is not UTF-8.
    #[error("`{field}` of {frame} frame is not UTF-8")]
    NotUtf8 {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("`{field}` of {frame} frame is {found}, {expected} was expected")]
    Value {
        /// The frame.
        frame: &'static str,
        /// The field.
        field: &'static str,
        /// What is there.
        found: u64,
        /// What may be there.
        expected: &'static str,
    },
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

/// Reads the fields of one frame, in order.
pub(crate) struct Fields<'a> {
    frame: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Starts at the first field of a frame; `frame` names it in errors.
    pub(crate) fn new(frame: &'static str, bytes: &'a [u8]) -> Self {
        Self { frame, rest: bytes }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Passes over all that is left.
    pub(crate) fn skip_rest(&mut self) {
        self.rest = &[];
    }

    /// Fails if anything is left.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FrameError::Trailing { frame: self.frame, left }),
        }
    }

    /// The error for a field whose value is not allowed.
    pub(crate) fn wrong(&self, field: &'static str, found: u64, expected: &'static str) -> FrameError {
        FrameError::Value { frame: self.frame, field, found, expected }
    }

    /// `N` bytes as they are.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        match self.rest.split_first_chunk() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.short(field)),
        }
    }

    /// One byte.
    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, FrameError> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// Two bytes.
    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, FrameError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes.
    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, FrameError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes.
    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, FrameError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, FrameError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(field, other.into(), "0 or 1")),
        }
    }

    /// A string of at most `limit` bytes.
    pub(crate) fn string(&mut self, field: &'static str, limit: usize) -> Result<&'a str, FrameError> {
        let size = usize::from(self.u16(field)?);
        if size > limit {
            return Err(FrameError::TooLong { frame: self.frame, field, size, limit });
        }
        let (text, rest) = self.rest.split_at_checked(size).ok_or_else(|| self.short(field))?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| FrameError::NotUtf8 { frame: self.frame, field })
    }

    /// A node's name.
    pub(crate) fn node(&mut self, field: &'static str) -> Result<NodeId, FrameError> {
        Ok(NodeId::new(self.string(field, NodeId::MAX_LEN)?)?)
    }

    /// A list of at most `limit` elements of at least `smallest` bytes each. Its length is compared with the bytes
    /// that are there before anything is reserved.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        limit: usize,
        smallest: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let size = usize::from(self.u16(field)?);
        if size > limit {
            return Err(FrameError::TooLong { frame: self.frame, field, size, limit });
        }
        if size * smallest > self.rest.len() {
            return Err(self.short(field));
        }
        let mut list = Vec::with_capacity(size);
        for _ in 0..size {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// An address, or none.
    pub(crate) fn optional_address(&mut self, field: &'static str) -> Result<Option<SocketAddr>, FrameError> {
        let ip: IpAddr = match self.u8(field)? {
            0 => return Ok(None),
            4 => Ipv4Addr::from(self.array::<4>(field)?).into(),
            6 => Ipv6Addr::from(self.array::<16>(field)?).into(),
            other => return Err(self.wrong(field, other.into(), "0, 4 or 6")),
        };
        Ok(Some(SocketAddr::new(ip, self.u16(field)?)))
    }

    /// An address.
    pub(crate) fn address(&mut self, field: &'static str) -> Result<SocketAddr, FrameError> {
        self.optional_address(field)?.ok_or_else(|| self.wrong(field, 0, "4 or 6"))
    }

    #[cold]
    fn short(&self, field: &'static str) -> FrameError {
        FrameError::Short { frame: self.frame, field }
    }
}

/// Writes a string, cut at a character's boundary to at most `limit` bytes.
pub(crate) fn put_string(out: &mut BytesMut, text: &str, limit: usize) {
    let mut size = text.len().min(limit);
    while !text.is_char_boundary(size) {
        size -= 1; // Zero is a boundary, so this ends.
    }
    put_count(out, size);
    out.put_slice(&text.as_bytes()[..size]);
}

/// Writes the length of a list or a string, which the caller has cut to its limit.
pub(crate) fn put_count(out: &mut BytesMut, count: usize) {
    let count = u16::try_from(count);
    debug_assert!(count.is_ok(), "every limit fits in the wire's 16 bits");
    out.put_u16_le(count.unwrap_or(u16::MAX));
}

/// Writes an address, or none. The flow and the scope of an IPv6 address mean nothing elsewhere and are not sent.
pub(crate) fn put_address(out: &mut BytesMut, address: Option<SocketAddr>) {
    let Some(address) = address else { return out.put_u8(0) };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16_le(address.port());
}
