//! What foca says, in bytes, and the whole list of members beside it; and whether a death is believed that others tell of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Codec, Header, Member, State};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::identity::Identity;
use crate::id::{Incarnation, NodeId};
use crate::proto::codec::{self, CodecError, Encoder};

/// What one node tells another of the members. The first byte of a `Gossip` frame says which of them follows; another one is
/// passed over.
#[derive(Debug)]
pub(super) enum Told {
    /// Foca's own.
    Datagram(Bytes),
    /// All members that the sender knows.
    All { members: Vec<Member<Identity>>, wants_answer: bool },
}

const DATAGRAM: u8 = 1;
const ALL: u8 = 2;
const ALL_FOR_ALL: u8 = 3;

pub(super) fn datagram(data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + data.len());
    out.put_u8(DATAGRAM);
    out.put_slice(data);
    out.freeze()
}

/// All members, in as many parts as fit into frames. Only the last one wants an answer.
pub(super) fn all(members: Vec<Member<Identity>>, wants_answer: bool) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut members = members.into_iter().peekable();
    while members.peek().is_some() {
        let part: Vec<_> = members.by_ref().take(MEMBERS_A_FRAME).collect();
        let is_last = members.peek().is_none();
        let mut out = BytesMut::new();
        out.put_u8(if wants_answer && is_last { ALL_FOR_ALL } else { ALL });
        let end = 64 * 1024;
        if Encoder::new(&mut out, end).put(&part).is_ok() {
            parts.push(out.freeze());
        }
    }
    parts
}

/// The members of one frame at most: 200 bytes each, with the longest names.
const MEMBERS_A_FRAME: usize = 256;

/// Reads what a peer has told. `None` if it is of a later version.
pub(super) fn read(bytes: &Bytes) -> Result<Option<Told>, CodecError> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    Ok(match *kind {
        DATAGRAM => Some(Told::Datagram(bytes.slice_ref(rest))),
        ALL | ALL_FOR_ALL => {
            Some(Told::All { members: codec::decode(rest)?, wants_answer: *kind == ALL_FOR_ALL })
        }
        _ => None,
    })
}

/// The lives that this node is connected with and that nobody suspects. Their death by hearsay is passed over: who comes back from behind a
/// partition tells of the deaths of all whom it could not reach itself. Whoever has died was suspected before, which is told as well; or
/// its system closed the connection; or the connection falls silent.
#[derive(Debug, Clone, Default)]
pub(super) struct Undoubted {
    /// Guards the lives. Written by the core, and read while it decodes, in the one task of both.
    lives: Arc<Mutex<BTreeMap<NodeId, Incarnation>>>,
}

impl Undoubted {
    /// The life of a node that is one of them now, if any is.
    pub(super) fn set(&self, node: &NodeId, life: Option<Incarnation>) {
        let mut lives = self.lives();
        match life {
            Some(life) => drop(lives.insert(node.clone(), life)),
            None => drop(lives.remove(node)),
        }
    }

    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.lives().len()
    }

    /// What is believed of what others tell. A goodbye always is: only a node itself can say it.
    pub(super) fn believed(&self, told: Member<Identity>) -> Member<Identity> {
        let id = told.id();
        if told.state() != State::Down || id.has_left {
            return told;
        }
        if self.lives().get(&id.node) == Some(&id.incarnation) {
            return Member::new(id.clone(), told.incarnation(), State::Alive);
        }
        told
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<NodeId, Incarnation>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Foca's parts, by the payload codec. What others tell is read as it is believed.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Undoubted);

impl Codec<Identity> for Wire {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, CodecError> {
        take(buf)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), CodecError> {
        put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, CodecError> {
        take(buf).map(|told| self.0.believed(told))
    }
}

/// Leaves the buffer as it was if there is no room: foca then ends the datagram.
fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), CodecError> {
    let room = buf.remaining_mut();
    let mut out = BytesMut::new();
    Encoder::new(&mut out, room).put(value)?;
    buf.put_slice(&out);
    Ok(())
}

fn take<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, CodecError> {
    let (value, used) = codec::decode_next(buf.chunk())?;
    buf.advance(used);
    Ok(value)
}
