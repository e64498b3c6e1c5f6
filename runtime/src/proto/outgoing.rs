//! Bytes on their way to the socket: a few chunks that one system call writes, and which calls are in them.
//!
//! Invariant: nothing is copied here, and a call counts as sent only when its last byte was taken by the socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::id::RequestId;

/// What waits for the socket to take it.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Chunk>,
    /// Empty buffers, to be filled again.
    spare: Vec<BytesMut>,
    /// The calls in the chunks, and after how many bytes each ends. Counted, as the two below, since all was last written.
    marks: Vec<(RequestId, usize)>,
    appended: usize,
    written: usize,
}

#[derive(Debug)]
enum Chunk {
    Own(BytesMut),
    Shared(Bytes),
}

/// How many empty buffers are kept: one for each lane, and one for what the protocol says itself.
const SPARE: usize = 4;

impl Outgoing {
    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// An empty buffer.
    pub(crate) fn spare(&mut self) -> BytesMut {
        self.spare.pop().unwrap_or_default()
    }

    /// Appends a buffer, with the calls that are in it and the places in it where they end.
    pub(crate) fn push(&mut self, buffer: BytesMut, calls: &mut Vec<(RequestId, usize)>) {
        let start = self.appended;
        self.marks.extend(calls.drain(..).map(|(call, end)| (call, start + end)));
        self.appended += buffer.len();
        if buffer.is_empty() {
            self.keep(buffer);
        } else {
            self.chunks.push_back(Chunk::Own(buffer));
        }
    }

    /// Appends bytes that others share.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.appended += bytes.len();
            self.chunks.push_back(Chunk::Shared(bytes));
        }
    }

    /// Where frames may be appended, behind all that is here.
    pub(crate) fn append(&mut self, put: impl FnOnce(&mut BytesMut)) {
        if !matches!(self.chunks.back(), Some(Chunk::Own(_))) {
            let spare = self.spare();
            self.chunks.push_back(Chunk::Own(spare));
        }
        let Some(Chunk::Own(last)) = self.chunks.back_mut() else { return };
        let before = last.len();
        put(last);
        self.appended += last.len() - before;
        if last.is_empty() {
            self.chunks.pop_back();
        }
    }

    /// Notes that a call ends with the last byte that is here.
    pub(crate) fn mark(&mut self, call: RequestId) {
        self.marks.push((call, self.appended));
    }

    /// The calls of which a byte is still here: they certainly did not run.
    pub(crate) fn unsent_calls(&self) -> impl Iterator<Item = RequestId> {
        self.marks.iter().filter(|(_, end)| *end > self.written).map(|(call, _)| *call)
    }

    fn keep(&mut self, mut buffer: BytesMut) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.appended - self.written
    }

    fn chunk(&self) -> &[u8] {
        match self.chunks.front() {
            Some(Chunk::Own(bytes)) => bytes,
            Some(Chunk::Shared(bytes)) => bytes,
            None => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(match chunk {
                Chunk::Own(bytes) => bytes,
                Chunk::Shared(bytes) => bytes,
            });
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        self.written += count;
        while let Some(chunk) = self.chunks.front_mut() {
            let length = match chunk {
                Chunk::Own(bytes) => bytes.len(),
                Chunk::Shared(bytes) => bytes.len(),
            };
            if count < length {
                match chunk {
                    Chunk::Own(bytes) => bytes.advance(count),
                    Chunk::Shared(bytes) => bytes.advance(count),
                }
                return;
            }
            count -= length;
            if let Some(Chunk::Own(buffer)) = self.chunks.pop_front() {
                self.keep(buffer);
            }
        }
        debug_assert_eq!(count, 0, "no more is written than was here");
        self.marks.clear();
        (self.appended, self.written) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_sent_with_its_last_byte() {
        let mut out = Outgoing::default();
        let mut calls = vec![(RequestId(1), 3), (RequestId(2), 5)];
        out.push(BytesMut::from(&b"aaabb"[..]), &mut calls);
        out.push_shared(Bytes::from_static(b"cc"));
        out.append(|last| last.extend_from_slice(b"d"));
        out.mark(RequestId(3));
        assert_eq!(out.remaining(), 8);
        for (written, unsent) in [(2, vec![1, 2, 3]), (1, vec![2, 3]), (4, vec![3]), (1, vec![])] {
            out.advance(written);
            assert_eq!(out.unsent_calls().map(|call| call.0).collect::<Vec<_>>(), unsent);
        }
        assert!(out.is_empty());
    }

    #[test]
    fn everything_comes_out_in_order_however_little_is_written_at_once() {
        for step in 1..9 {
            let mut out = Outgoing::default();
            out.push(BytesMut::from(&b"abc"[..]), &mut vec![]);
            out.push(BytesMut::new(), &mut vec![]);
            out.push_shared(Bytes::from_static(b"defg"));
            out.append(|last| last.extend_from_slice(b"h"));
            out.append(|last| last.extend_from_slice(b"i"));
            let mut got = Vec::new();
            while out.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 8];
                let count = out.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                got.extend_from_slice(&all[..step.min(all.len())]);
                out.advance(step.min(all.len()));
            }
            assert_eq!(got, b"abcdefghi");
        }
    }
}
