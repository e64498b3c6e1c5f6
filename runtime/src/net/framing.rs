//! Frames out of a byte stream, by tokio-util's codec.
//!
//! Invariant: the frames' format is `proto`'s; this only feeds it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::codec::{Decoder, FramedRead};

use crate::proto::frame::{self, Begun, Frame, FrameError, HANDSHAKE_LIMIT};

/// How many bytes are read at once, if they are there.
const READ_BUFFER: usize = 64 * 1024;

/// How many bytes are read at once between the pieces of long messages: enough for what stands between, and little of
/// the next piece, whose bytes go to their message without passing through the buffer.
const BETWEEN_PIECES: usize = 2 * 1024;

/// Reads frames.
pub(crate) type Frames = FramedRead<Reader, FrameDecoder>;

/// The frames of a stream on which no handshake has happened yet.
pub(crate) fn frames(reader: Box<dyn AsyncRead + Send + Unpin>) -> Frames {
    let reader = Reader { inner: reader, most: READ_BUFFER, read: 0 };
    FramedRead::with_capacity(reader, FrameDecoder { limit: HANDSHAKE_LIMIT }, READ_BUFFER)
}

/// A reader that reads no more at once than is wanted.
pub(crate) struct Reader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    most: usize,
    /// How many bytes were read.
    read: u64,
}

impl Reader {
    /// Says whether pieces of long messages are to come.
    pub(crate) fn expect_pieces(&mut self, are_to_come: bool) {
        self.most = if are_to_come { BETWEEN_PIECES } else { READ_BUFFER };
    }

    /// How many bytes were read.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// So many bytes were read from the stream itself.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.read += bytes as u64;
    }

    /// The stream itself, for the bytes of a piece.
    pub(crate) fn inner(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        Pin::new(&mut *self.inner)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() <= self.most {
            let before = buf.filled().len();
            let polled = Pin::new(&mut *self.inner).poll_read(cx, buf);
            self.count(buf.filled().len() - before);
            return polled;
        }
        // A part of a buffer that may be uninitialised cannot be lent without `unsafe`; so what is little goes by the stack.
        let mut little = [0; BETWEEN_PIECES];
        let mut read = ReadBuf::new(&mut little);
        let polled = Pin::new(&mut *self.inner).poll_read(cx, &mut read);
        buf.put_slice(read.filled());
        let count = read.filled().len();
        self.count(count);
        polled
    }
}

/// Takes frames off a buffer.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    /// The largest frame that is taken, in bytes.
    pub(crate) limit: usize,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What stands next in a stream.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// A piece of a long message, of which a part is yet to come.
    Piece(Begun),
}

impl Decoder for FrameDecoder {
    type Item = Next;
    type Error = ReadError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Next>, ReadError> {
        if let Some(frame) = frame::parse(buffer, self.limit)? {
            return Ok(Some(Next::Frame(frame)));
        }
        Ok(frame::begin_piece(buffer).map(Next::Piece))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Next>, ReadError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => {
                let detail = format!("the stream ended inside a frame, after {} bytes of it", buffer.len());
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, detail).into())
            }
            frame => Ok(frame),
        }
    }
}
