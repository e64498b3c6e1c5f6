//! Who is in the cluster, as this node sees it: snapshots, and what happens between two of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use foca::State;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::event::{Event, MemberEnd};
use crate::id::{Incarnation, NodeId};

/// The cluster's members at one moment, as one node sees them. Two nodes may see it differently for a few seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Members {
    /// Counts the changes; only goes up in a node's life.
    pub version: u64,
    /// This node itself and all others that are not known to have left or died, by name.
    pub members: Vec<Member>,
    /// Whether more than half of the nodes that are expected answer this node. See [`Cluster::has_quorum`](crate::Cluster::has_quorum).
    pub has_quorum: bool,
    /// How many nodes are expected, by [`NodeBuilder::expected_nodes`](crate::NodeBuilder::expected_nodes); 0 if nobody has said it.
    pub expected: usize,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    /// Whether it answers.
    pub state: MemberState,
}

/// Whether a member answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberState {
    /// It does.
    Alive,
    /// It did not answer some member, nor others that were asked to try. It is declared dead if it does not say otherwise.
    Suspected,
}

/// What is known of the other nodes.
#[derive(Debug, Default)]
pub(super) struct View {
    known: BTreeMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    id: Identity,
    state: State,
}

impl Known {
    fn is(&self, member: &foca::Member<Identity>) -> bool {
        self.id == *member.id() && self.state == member.state()
    }

    fn is_member(&self) -> bool {
        self.state != State::Down
    }
}

impl View {
    /// Takes in what foca knows now, and tells what has happened since the last time. `reason` is why who died did so, in the same life.
    pub(super) fn update<'a, I>(
        &mut self,
        members: impl Fn() -> I,
        reason: MemberEnd,
        mut tell: impl FnMut(Event),
    ) where
        I: ExactSizeIterator<Item = &'a foca::Member<Identity>>,
    {
        for member in members() {
            let node = &member.id().node;
            let before = self.known.get_mut(node);
            if before.as_ref().is_some_and(|known| known.is(member)) {
                continue;
            }
            let known = Known { id: member.id().clone(), state: member.state() };
            compare(node, before.as_deref(), &known, reason, &mut tell);
            match before {
                Some(before) => *before = known,
                None => drop(self.known.insert(node.clone(), known)),
            }
        }
        if members().len() < self.known.len() {
            self.forget(&members().map(|member| &member.id().node).collect(), reason, tell);
        }
    }

    /// Foca forgets those who are down for long.
    fn forget(&mut self, kept: &BTreeSet<&NodeId>, reason: MemberEnd, mut tell: impl FnMut(Event)) {
        self.known.retain(|node, known| {
            let is_kept = kept.contains(node);
            if !is_kept && known.is_member() {
                let (node, incarnation) = (node.clone(), known.id.incarnation);
                tell(Event::MemberDied { node, incarnation, reason });
            }
            is_kept
        });
    }

    /// Whether nobody else was ever known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a node is a member in that life.
    pub(super) fn is_member(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        self.known.get(node).is_some_and(|known| known.is_member() && known.id.incarnation == incarnation)
    }

    /// Whether a node is a member in that life which nobody suspects.
    pub(super) fn is_alive(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        let is_so = |known: &Known| known.state == State::Alive && known.id.incarnation == incarnation;
        self.known.get(node).is_some_and(is_so)
    }

    /// Whether a node has died in that life, or is believed to have.
    pub(super) fn is_lost(&self, node: &NodeId, incarnation: Incarnation) -> bool {
        let is_so =
            |known: &Known| !known.is_member() && !known.id.has_left && known.id.incarnation == incarnation;
        self.known.get(node).is_some_and(is_so)
    }

    /// Those who have not left and not died.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> {
        self.known.iter().filter(|(_, known)| known.is_member()).map(|(node, known)| Member {
            node: node.clone(),
            incarnation: known.id.incarnation,
            address: known.id.address,
            state: if known.state == State::Alive { MemberState::Alive } else { MemberState::Suspected },
        })
    }

    /// Where those who died may be found again: they may stand behind a partition.
    pub(super) fn lost(&self) -> impl Iterator<Item = SocketAddr> {
        let lost = self.known.values().filter(|known| !known.is_member() && !known.id.has_left);
        lost.filter_map(|known| known.id.address)
    }
}

/// What happened to one node.
fn compare(
    node: &NodeId,
    before: Option<&Known>,
    now: &Known,
    reason: MemberEnd,
    tell: &mut impl FnMut(Event),
) {
    let (node, incarnation) = (node.clone(), now.id.incarnation);
    let before = before.filter(|before| before.is_member());
    let end = |known: &Known, node: NodeId| {
        let incarnation = known.id.incarnation;
        if now.id.incarnation != known.id.incarnation {
            Event::MemberDied { node, incarnation, reason: MemberEnd::NextLife }
        } else if now.id.has_left {
            Event::MemberLeft { node, incarnation }
        } else {
            Event::MemberDied { node, incarnation, reason }
        }
    };
    match before {
        Some(before) if !now.is_member() => tell(end(before, node)),
        None if !now.is_member() => {}
        Some(before) if before.id.incarnation != now.id.incarnation => {
            tell(end(before, node.clone()));
            tell(Event::MemberJoined { node, incarnation });
        }
        None => tell(Event::MemberJoined { node, incarnation }),
        Some(before) => match (before.state, now.state) {
            (State::Alive, State::Suspect) => tell(Event::MemberSuspected { node, incarnation }),
            (State::Suspect, State::Alive) => tell(Event::MemberRefuted { node, incarnation }),
            _ => {}
        },
    }
}
