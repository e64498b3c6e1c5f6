//! What comes in on one connection, as far as it is counted: credit for each instance, and pieces.
//!
//! Invariant: what is to be told the peer is kept as totals, so that a peer that does not read makes nothing grow but
//! by the instances that it has sent something to.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::id::InstanceId;

use super::flow::{Amount, Intakes};
use super::frame::{Frame, PIECE, Request, Window};
use super::pieces::{Assemblies, PieceHead};

#[derive(Debug)]
pub(super) struct Inflow {
    intakes: Intakes,
    assemblies: Assemblies,
    /// The message of the piece that comes now, and the piece's length.
    piece: Option<(u32, usize)>,
    /// How many bytes of pieces may be under way.
    window: u64,
    /// How many were taken off the stream, and how many of those the peer was told.
    taken: u64,
    told: u64,
    grants: BTreeMap<InstanceId, Amount>,
    gone: Vec<InstanceId>,
}

impl Inflow {
    pub(super) fn new(window: Window, max_message: usize) -> Self {
        Self {
            intakes: Intakes::new(window.instance),
            assemblies: Assemblies::new(max_message),
            piece: None,
            window: window.pieces,
            taken: 0,
            told: 0,
            grants: BTreeMap::new(),
            gone: Vec::new(),
        }
    }

    /// A request has come. `Err` says what is wrong with that.
    #[inline]
    pub(super) fn request(&mut self, request: &Request) -> Result<(), String> {
        let head = &request.head;
        if head.is_ahead || self.intakes.arrive(head.instance, request.payload.len()) {
            return Ok(());
        }
        Err(format!("a request for instance {} beyond its credit", head.instance))
    }

    #[inline]
    pub(super) fn consumed(&mut self, instance: InstanceId, bytes: usize) {
        if let Some(totals) = self.intakes.consume(instance, bytes) {
            self.grants.insert(instance, totals);
        }
    }

    pub(super) fn gone(&mut self, instance: InstanceId) {
        self.grants.remove(&instance);
        if self.intakes.forget(instance) && self.gone.len() < MAX_GONE {
            self.gone.push(instance);
        }
    }

    pub(super) fn addressed(&self) -> impl Iterator<Item = InstanceId> {
        self.intakes.instances()
    }

    pub(super) fn begin_piece(&mut self, head: PieceHead, length: usize) -> Result<(), String> {
        let is_wanted = self.assemblies.begin(head, length)?.is_some();
        self.piece = is_wanted.then_some((head.message, length));
        Ok(())
    }

    pub(super) fn piece_bytes(&mut self) -> Option<&mut BytesMut> {
        let (message, _) = self.piece?;
        self.assemblies.bytes(message)
    }

    /// Gives the message, if it is whole.
    pub(super) fn end_piece(&mut self) -> Option<Bytes> {
        let (message, length) = self.piece.take()?;
        self.taken += length as u64;
        self.assemblies.end(message)
    }

    pub(super) fn has_open(&self) -> bool {
        self.assemblies.has_open()
    }

    /// The next frame that tells the peer what it may send.
    pub(super) fn poll_transmit(&mut self) -> Option<Frame> {
        if self.taken - self.told >= (self.window / 4).min(TOLD) {
            self.told = self.taken;
            return Some(Frame::Taken { bytes: self.taken });
        }
        if let Some((instance, totals)) = self.grants.pop_first() {
            return Some(Frame::Credit { instance, totals });
        }
        self.gone.pop().map(|instance| Frame::Gone { instance })
    }
}

/// How much is kept for the peer.
#[cfg(any(test, fuzzing))]
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Instances to which it has sent something, or of which it is to be told something.
    pub(crate) instances: usize,
    pub(crate) gone: usize,
    /// Messages of which pieces have come, and the bytes that are reserved for them.
    pub(crate) messages: usize,
    pub(crate) reserved: usize,
}

#[cfg(any(test, fuzzing))]
impl Inflow {
    pub(super) fn kept(&self) -> Kept {
        let (messages, reserved) = self.assemblies.kept();
        let instances = self.intakes.instances().count().max(self.grants.len());
        Kept { instances, gone: self.gone.len(), messages, reserved }
    }
}

/// At how many bytes of pieces taken the peer is told at the latest: it may let fewer be under way than it may.
const TOLD: u64 = PIECE as u64 / 2;

/// How many ends of instances may wait to be told. Only a peer that asks for instances which it has made up, and does not
/// read the answers, gets so far.
pub(crate) const MAX_GONE: usize = 65_536;
