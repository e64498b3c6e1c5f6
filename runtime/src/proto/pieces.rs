//! Long messages in pieces: how a piece begins, and how the pieces of several messages become whole again.
//!
//! A message is one frame without its length. Its first piece says how long it is.
//!
//! Invariants: the memory that a message takes follows what has arrived of it and not what is claimed; as many
//! messages as may be open are, and all of them together are no longer than one may be.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{Fields, FrameError};
use super::frame::{PIECE, RESERVE, kind};

/// How a piece begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PieceHead {
    /// Numbers the message on this connection, in one direction. A number may be used again after its message's end.
    pub(crate) message: u32,
    /// The message's length, in its first piece.
    pub(crate) total: Option<usize>,
    /// Nothing more comes of this message, and nobody waits for it.
    pub(crate) is_given_up: bool,
}

/// What a piece's fields take before its bytes, the frame's kind included.
const HEAD: usize = 1 + 4 + 1 + 4;

/// The most bytes of a message in one piece.
pub(crate) const PIECE_BYTES: usize = PIECE - HEAD;

/// How many messages may be under way in pieces, each way.
pub(crate) const MAX_OPEN: usize = 8;

const FIRST: u8 = 0b01;
const GIVEN_UP: u8 = 0b10;

/// Appends a piece up to its bytes, of which `length` follow.
pub(crate) fn put_head(out: &mut BytesMut, head: PieceHead, length: usize) {
    let fields = if head.total.is_some() { HEAD } else { HEAD - 4 };
    debug_assert!(length <= PIECE_BYTES, "a piece is short");
    out.put_u32_le(u32::try_from(fields + length).unwrap_or(u32::MAX));
    out.put_u8(kind::PIECE);
    put_fields(out, head);
}

/// The fields of a piece before its bytes.
pub(super) fn put_fields(out: &mut BytesMut, head: PieceHead) {
    out.put_u32_le(head.message);
    out.put_u8(u8::from(head.total.is_some()) * FIRST + u8::from(head.is_given_up) * GIVEN_UP);
    if let Some(total) = head.total {
        // A message is at most as long as a peer's `max_frame`, which has this many bits.
        out.put_u32_le(u32::try_from(total).unwrap_or(u32::MAX));
    }
}

/// Reads the fields of a piece before its bytes.
pub(super) fn read_fields(fields: &mut Fields<'_>) -> Result<PieceHead, FrameError> {
    let message = fields.u32("message")?;
    let flags = fields.u8("flags")?;
    if flags & !(FIRST | GIVEN_UP) != 0 || flags == FIRST | GIVEN_UP {
        return Err(fields.wrong("flags", flags.into(), "0, 1 or 2"));
    }
    let total = if flags & FIRST == 0 { None } else { Some(fields.u32("total")? as usize) };
    Ok(PieceHead { message, total, is_given_up: flags & GIVEN_UP != 0 })
}

/// The messages of the peer of which pieces have come.
#[derive(Debug)]
pub(crate) struct Assemblies {
    open: BTreeMap<u32, Assembly>,
    /// How long the open ones will be together.
    claimed: usize,
    /// How long a message may be.
    max: usize,
}

#[derive(Debug)]
struct Assembly {
    total: usize,
    bytes: BytesMut,
}

impl Assemblies {
    pub(crate) fn new(max: usize) -> Self {
        Self { open: BTreeMap::new(), claimed: 0, max }
    }

    /// A piece begins, with so many bytes: gives where they go. For a message that is given up that is nowhere.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn begin(&mut self, head: PieceHead, length: usize) -> Result<Option<&mut BytesMut>, String> {
        let PieceHead { message, total, is_given_up } = head;
        if is_given_up {
            if length > 0 {
                return Err(format!("{length} bytes of message {message}, which is given up"));
            }
            let given_up = self.open.remove(&message).ok_or_else(|| unknown(message))?;
            self.claimed -= given_up.total;
            return Ok(None);
        }
        if let Some(total) = total {
            self.open(message, total)?;
        }
        let assembly = self.open.get_mut(&message).ok_or_else(|| unknown(message))?;
        let left = assembly.total - assembly.bytes.len();
        if length > left || length == 0 {
            return Err(format!("a piece of {length} bytes of message {message}, of which {left} are left"));
        }
        let come = assembly.bytes.len();
        let wanted = assembly.total.min(RESERVE.max(2 * come)).max(come + length);
        assembly.bytes.reserve(wanted - come);
        Ok(Some(&mut assembly.bytes))
    }

    /// Whether pieces are to come.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Where the bytes of a message go.
    pub(crate) fn bytes(&mut self, message: u32) -> Option<&mut BytesMut> {
        self.open.get_mut(&message).map(|assembly| &mut assembly.bytes)
    }

    /// A piece has come whole. Gives its message, if that is whole too.
    pub(crate) fn end(&mut self, message: u32) -> Option<Bytes> {
        let assembly = self.open.get(&message)?;
        if assembly.bytes.len() < assembly.total {
            return None;
        }
        let assembly = self.open.remove(&message)?;
        self.claimed -= assembly.total;
        Some(assembly.bytes.freeze())
    }

    fn open(&mut self, message: u32, total: usize) -> Result<(), String> {
        if self.open.contains_key(&message) {
            return Err(format!("message {message} has begun twice"));
        }
        if total > self.max || total == 0 {
            return Err(format!("a message of {total} bytes, 1 to {} were expected", self.max));
        }
        if self.open.len() >= MAX_OPEN || self.claimed + total > self.max {
            let (count, claimed) = (self.open.len(), self.claimed);
            return Err(format!(
                "a message of {total} bytes beside {count} others of {claimed} bytes together; at most \
                 {MAX_OPEN} of {} bytes were expected",
                self.max
            ));
        }
        self.claimed += total;
        self.open.insert(message, Assembly { total, bytes: BytesMut::new() });
        Ok(())
    }
}

#[cfg(any(test, fuzzing))]
impl Assemblies {
    /// How many are open, and the bytes that are reserved for them.
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.open.len(), self.open.values().map(|assembly| assembly.bytes.capacity()).sum())
    }
}

fn unknown(message: u32) -> String {
    format!("a piece of message {message}, which has not begun")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(message: u32, total: Option<usize>) -> PieceHead {
        PieceHead { message, total, is_given_up: false }
    }

    fn piece(assemblies: &mut Assemblies, head: PieceHead, bytes: &[u8]) -> Result<Option<Bytes>, String> {
        if let Some(place) = assemblies.begin(head, bytes.len())? {
            place.extend_from_slice(bytes);
        }
        Ok(assemblies.end(head.message))
    }

    #[test]
    fn messages_become_whole_whatever_stands_between_their_pieces() {
        let mut all = Assemblies::new(100);
        assert_eq!(piece(&mut all, head(1, Some(4)), b"ab"), Ok(None));
        assert_eq!(piece(&mut all, head(2, Some(3)), b"xyz"), Ok(Some(Bytes::from_static(b"xyz"))));
        assert_eq!(piece(&mut all, head(1, None), b"cd"), Ok(Some(Bytes::from_static(b"abcd"))));
        assert_eq!(piece(&mut all, head(1, Some(1)), b"e"), Ok(Some(Bytes::from_static(b"e"))), "used again");
        assert_eq!((all.claimed, all.open.len()), (0, 0));
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let mut all = Assemblies::new(100);
        assert_eq!(piece(&mut all, head(1, Some(100)), b"ab"), Ok(None));
        let given_up = PieceHead { message: 1, total: None, is_given_up: true };
        assert_eq!(all.begin(given_up, 0).map(|place| place.is_none()), Ok(true));
        assert_eq!((all.claimed, all.open.len()), (0, 0));
        assert!(all.begin(given_up, 0).unwrap_err().contains("has not begun"));
    }

    #[test]
    fn a_lying_peer_is_told_what_was_expected_and_reserves_nothing() {
        let mut all = Assemblies::new(1 << 20);
        for (number, head, length, expected) in [
            (0, head(1, Some((1 << 20) + 1)), 1, "1 to 1048576 were expected"),
            (1, head(1, Some(0)), 0, "1 to 1048576 were expected"),
            (2, head(9, None), 1, "message 9, which has not begun"),
            (3, head(1, Some(10)), 11, "a piece of 11 bytes of message 1, of which 10 are left"),
            (4, head(1, Some(10)), 1, "begun twice"),
            (5, head(1, None), 0, "a piece of 0 bytes"),
        ] {
            let error = all.begin(head, length).unwrap_err();
            assert!(error.contains(expected), "{number}: {error}");
        }
        assert!(all.begin(head(2, Some((1 << 20) - 10)), 1).is_ok());
        let error = all.begin(head(3, Some(1)), 1).unwrap_err();
        assert!(error.contains("beside 2 others of 1048576 bytes together"), "{error}");
        assert!(all.open[&2].bytes.capacity() <= RESERVE, "memory follows what has arrived");
        let mut all = Assemblies::new(1 << 20);
        for message in 0..8 {
            assert!(all.begin(head(message, Some(10)), 1).is_ok());
        }
        assert!(all.begin(head(8, Some(10)), 1).is_err());
    }
}
