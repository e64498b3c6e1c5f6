//! Frames out of a byte stream, by tokio-util's codec.
//!
//! Invariant: the frames' format is `proto`'s; this only feeds it.

use std::io;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::codec::{Decoder, FramedRead};

use crate::proto::frame::{self, Frame, FrameError, HANDSHAKE_LIMIT};

/// How many bytes are read at once, if they are there.
const READ_BUFFER: usize = 64 * 1024;

/// Reads frames.
pub(crate) type Frames = FramedRead<Box<dyn AsyncRead + Send + Unpin>, FrameDecoder>;

/// The frames of a stream on which no handshake has happened yet.
pub(crate) fn frames(reader: Box<dyn AsyncRead + Send + Unpin>) -> Frames {
    FramedRead::with_capacity(reader, FrameDecoder { limit: HANDSHAKE_LIMIT }, READ_BUFFER)
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

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = ReadError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ReadError> {
        Ok(frame::parse(buffer, self.limit)?)
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, ReadError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => {
                let detail = format!("the stream ended inside a frame, after {} bytes of it", buffer.len());
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, detail).into())
            }
            frame => Ok(frame),
        }
    }
}
