//! The frame decoder: any bytes, in any splits.

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::input::Input;
use crate::net::framing::{FrameDecoder, Next, ReadError};
use crate::proto::frame::{Begun, Frame, FrameError, HANDSHAKE_LIMIT, PIECE, parse};
use crate::proto::pieces::PieceHead;
use crate::proto::settings::DEFAULT_MAX_FRAME;

/// Whatever comes is frames or an error, the same ones in whatever splits it comes; the buffer keeps no more than the limit
/// allows; and what was decoded is encoded to what it was.
pub fn frames(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = input.one_of(&[HANDSHAKE_LIMIT, PIECE, DEFAULT_MAX_FRAME]);
    let (most, mut state) = (usize::from(input.u8()) + 1, u32::from(input.u8()));
    let stream = input.rest();
    let whole = decode(stream, limit, |left| left);
    let split = decode(stream, limit, |left| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (1 + (state >> 16) as usize % most).min(left)
    });
    assert_eq!(whole, split, "the splits change what is read");
}

/// What a stream says.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    frames: Vec<Frame>,
    error: Option<FrameError>,
    /// A piece that has begun: how long it will be, and what has come of it.
    begun: Option<(PieceHead, usize, Bytes)>,
}

/// Feeds the decoder with as many bytes at a time as `next` says of those that are left.
fn decode(stream: &[u8], limit: usize, mut next: impl FnMut(usize) -> usize) -> Decoded {
    let mut decoder = FrameDecoder { limit };
    let (mut decoded, mut begun) = (Decoded::default(), None::<Begun>);
    let (mut buffer, mut fed) = (BytesMut::new(), 0);
    while fed < stream.len() {
        let come = &stream[fed..fed + next(stream.len() - fed)];
        fed += come.len();
        let come = match &mut begun {
            Some(piece) => piece_goes_on(piece, come),
            None => come,
        };
        if let Some(piece) = begun.take_if(|piece| piece.missing == 0) {
            decoded.frames.push(Frame::Piece { head: piece.head, bytes: piece.part.freeze() });
        }
        if begun.is_some() {
            continue;
        }
        buffer.extend_from_slice(come);
        loop {
            let start = fed - buffer.len();
            match decoder.decode(&mut buffer) {
                Ok(Some(Next::Frame(frame))) => {
                    check_encoding(&frame, &stream[start..fed - buffer.len()]);
                    decoded.frames.push(frame);
                }
                Ok(Some(Next::Piece(piece))) => {
                    assert!(buffer.is_empty() && piece.missing > 0, "{piece:?}");
                    begun = Some(piece);
                    break;
                }
                Ok(None) => break,
                Err(ReadError::Frame(error)) => {
                    decoded.error = Some(error);
                    return decoded;
                }
                Err(ReadError::Io(error)) => panic!("no stream was read: {error}"),
            }
        }
        // What has come, the reservation for what is to come, and what the buffer's growth adds.
        let most = 2 * (come.len() + 2 * limit.max(64 * 1024));
        assert!(buffer.capacity() <= most, "{} bytes are reserved, the limit is {limit}", buffer.capacity());
    }
    decoded.begun = begun.map(|piece| (piece.head, piece.length, piece.part.freeze()));
    decoded
}

/// Gives what is behind the piece.
fn piece_goes_on<'a>(piece: &mut Begun, come: &'a [u8]) -> &'a [u8] {
    let (part, rest) = come.split_at(piece.missing.min(come.len()));
    piece.part.extend_from_slice(part);
    piece.missing -= part.len();
    rest
}

/// `came` ends with the bytes of the frame; before these may be frames that were skipped.
fn check_encoding(frame: &Frame, came: &[u8]) {
    let mut encoded = BytesMut::new();
    frame.encode(&mut encoded);
    if has_one_form(frame) {
        assert!(came.ends_with(&encoded), "{frame:?} came as {came:?} and goes as {encoded:?}");
    }
    let again = parse(&mut encoded, usize::MAX);
    assert_eq!(again.as_ref(), Ok(&Some(frame.clone())), "it does not come back");
    assert!(encoded.is_empty(), "bytes are left of {frame:?}");
}

/// Whether the protocol has one form for the frame: it may end with what a later version adds, or hold a number of a later
/// version that is not kept, or an empty chain.
fn has_one_form(frame: &Frame) -> bool {
    match frame {
        Frame::Refuse(_)
        | Frame::Failure { .. }
        | Frame::Unwatch { .. }
        | Frame::Down { .. }
        | Frame::Window(_)
        | Frame::StreamEnd { .. } => false,
        Frame::Request(request) => !request.head.chain.is_empty(),
        _ => true,
    }
}
