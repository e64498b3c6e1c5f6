//! Reads a fuzzer's bytes as decisions. What is not there counts as zero, so that every input means something.

use bytes::{BufMut, BytesMut};

#[derive(Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// One of `choices`.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// The next `length` bytes, or as many as there are.
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (part, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        part
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// A frame with its length in order, of a kind and a body that the input says.
    pub(super) fn frame(&mut self, kind: u8, zeroes: usize) -> BytesMut {
        let length = usize::from(self.u8());
        let body = self.take(length);
        let mut frame = BytesMut::new();
        frame.put_u32_le(u32::try_from(1 + body.len() + zeroes).unwrap_or(u32::MAX));
        frame.put_u8(kind);
        frame.put_slice(body);
        frame.put_bytes(0, zeroes);
        frame
    }
}
