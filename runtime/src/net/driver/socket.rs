//! Both directions of a driver's stream: frames that come are fed to the protocol, bytes that wait are written.
//!
//! Invariant: reading never stops because writing is stuck, and neither is done without end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use futures_util::Stream as _;
use tokio::io::AsyncWrite;
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::{LONG_BATCH, Wake};
use crate::net::framing::{Frames, Next, ReadError};
use crate::proto::connection::Connection;
use crate::proto::frame::Begun;
use crate::proto::outgoing::Outgoing;
use crate::time;

/// The most frames that are taken in before what they caused is written.
const BATCH: usize = 256;

/// Both directions of the stream.
pub(super) struct Io<'a> {
    pub(super) frames: &'a mut Frames,
    pub(super) connection: &'a mut Connection,
    pub(super) piece_missing: &'a mut usize,
    pub(super) writer: &'a mut (dyn AsyncWrite + Send + Unpin),
    pub(super) is_flushed: &'a mut bool,
    pub(super) out: &'a mut Outgoing,
}

impl Io<'_> {
    /// Reads or writes, whichever is possible.
    pub(super) fn poll(&mut self, reads_first: bool, cx: &mut Context<'_>) -> Poll<Wake> {
        if !reads_first && let Poll::Ready(wake) = self.poll_write(cx) {
            return Poll::Ready(wake);
        }
        match poll_frames(self.frames, self.connection, self.piece_missing, cx) {
            Poll::Ready(Ok(Came { frames: 0, .. })) => Poll::Ready(Wake::Ended),
            Poll::Ready(read) => Poll::Ready(Wake::Read(read)),
            Poll::Pending if reads_first => self.poll_write(cx),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if self.out.is_empty() {
            if !*self.is_flushed
                && let Err(error) = ready!(Pin::new(&mut *self.writer).poll_flush(cx))
            {
                return Poll::Ready(Wake::Wrote(Err(error)));
            }
            *self.is_flushed = true;
            return Poll::Pending; // what comes wakes the driver
        }
        *self.is_flushed = false;
        poll_write_buf(Pin::new(&mut *self.writer), cx, self.out).map(Wake::Wrote)
    }
}

/// What has come: no frame at the end of the stream.
#[derive(Default)]
pub(super) struct Came {
    pub(super) frames: usize,
    /// How many bytes of them were pieces of long messages.
    pub(super) long: usize,
}

/// Feeds the protocol with what has arrived.
fn poll_frames(
    frames: &mut Frames,
    connection: &mut Connection,
    piece_missing: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Came, ReadError>> {
    let mut came = Came::default();
    let mut now = None;
    let had = frames.read_buffer().len();
    while came.frames < BATCH && came.long < LONG_BATCH {
        if *piece_missing > 0 {
            came.long += *piece_missing;
            match poll_piece(frames, connection, piece_missing, cx) {
                Poll::Ready(Ok(())) => {
                    came.frames += 1;
                    continue;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if came.frames > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        frames.decoder_mut().limit = connection.limit();
        frames.get_mut().expect_pieces(connection.has_pieces_to_come());
        match Pin::new(&mut *frames).poll_next(cx) {
            Poll::Ready(Some(Ok(Next::Frame(frame)))) => {
                connection.handle_frame(*now.get_or_insert_with(time::now), frame);
                came.frames += 1;
            }
            Poll::Ready(Some(Ok(Next::Piece(Begun { head, length, part, missing })))) => {
                connection.handle_piece_begin(*now.get_or_insert_with(time::now), head, length);
                if let Some(place) = connection.piece_bytes() {
                    place.extend_from_slice(&part);
                }
                *piece_missing = missing;
                came.frames += 1;
            }
            // What came before the error is dealt with first; the error comes again.
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
            Poll::Ready(None) | Poll::Pending if came.frames > 0 => break,
            Poll::Ready(None) => return Poll::Ready(Ok(came)),
            Poll::Pending => {
                if frames.read_buffer().len() > had {
                    connection.handle_part(time::now());
                }
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(Ok(came))
}

/// Reads bytes of a piece to where they go, as many as are there. Ready when the piece is whole.
fn poll_piece(
    frames: &mut Frames,
    connection: &mut Connection,
    missing: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while *missing > 0 {
        let stream = frames.get_mut().inner();
        let read = match connection.piece_bytes() {
            Some(place) => ready!(poll_read_buf(stream, cx, &mut place.limit(*missing)))?,
            // The protocol was broken: the connection ends, and nothing more is read.
            None => 0,
        };
        if read == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the stream ended inside a piece",
            )));
        }
        *missing -= read;
        frames.get_mut().count(read);
        connection.handle_part(time::now());
    }
    connection.handle_piece_end(time::now());
    Poll::Ready(Ok(()))
}
