//! Several connections to one peer, of which each is a [`Link`] with a driver, an order, credit and numbers of its own.
//!
//! A handle says all to one instance over one of them, which a hash of the instance's number chooses, and what answers comes
//! back over the same one. So order holds by itself, but for what comes behind everything: a `Down` and a `NamesSynced`. Of
//! these the other connections carry fences (`proto::fence`).
//!
//! Nothing goes to an instance before the group has begun: with all its connections or, if these cannot be made in time, with the
//! first one alone for as long as that stands. So no instance ever moves from one connection to another. With any of its
//! connections the group ends.
//!
//! Invariant: no lock is taken while another one is held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use crate::id::InstanceId;
use crate::proto::fence::{Fences, TooMany, Word};
use crate::proto::frame::Frame;
use crate::proto::group::{self, Extra};
use crate::proto::settings::PeerIdentity;

use super::Link;

/// A link's seat in the group of its peer. Without one it is the only connection.
#[derive(Debug, Default)]
pub(super) struct Seat(OnceLock<Member>);

#[derive(Debug)]
struct Member {
    group: Arc<Group>,
    /// The group is over: this link's driver is to end.
    is_over: Notify,
    has_ended: AtomicBool,
}

/// What the connections to one peer share.
#[derive(Debug)]
struct Group {
    /// Names it: the first connection's challenge.
    key: [u8; 32],
    /// How many connections it has when it is whole.
    size: usize,
    last_fence: AtomicU64,
    /// Whether the first one waits until all that the others have was written.
    is_closing: AtomicBool,
    state: Mutex<State>,
}

/// Guards who belongs to the group, and what waits for its fences.
#[derive(Debug)]
struct State {
    phase: Phase,
    /// By their numbers. The first one is there from the beginning.
    links: BTreeMap<u8, Weak<Link>>,
    fences: Fences<Said>,
    /// Why it is over, once it is.
    over: Option<Over>,
    /// How many have not ended.
    running: usize,
    /// Those that have, until the last one does.
    ended: Vec<Arc<Link>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The further connections are being made.
    Forming,
    /// All of them stand.
    Whole,
    /// They could not be made in time: what this side says goes over the first one.
    Alone,
}

/// How a group ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    /// One of its connections was lost: the others end as they are.
    Lost(String),
    /// This node has closed it, and all was written.
    Closed(String),
    /// The peer has said goodbye on one: what it has said on the others is read to the end.
    Goodbye(String),
}

/// Why a further connection is not taken into the group that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotJoined {
    #[error("the first connection between the two nodes is another one, or there is none")]
    Other,
    #[error("the group of the first connection has this further one already, or none of its number")]
    Taken,
    #[error("the first connection is about to end")]
    Over,
}

/// What the peer has said, and over which connection.
pub(crate) type Said = (Arc<Link>, Word);

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Vec<Arc<Link>> {
        self.state().links.values().filter_map(Weak::upgrade).collect()
    }
}

impl Seat {
    /// That of the first connection to a peer, if more are agreed on.
    pub(super) fn first(peer: &PeerIdentity, watches: usize, me: &Weak<Link>) -> Self {
        let size = group::connections(peer.features);
        if size == 1 || peer.extra.is_some() {
            return Self::default();
        }
        let state = State {
            phase: Phase::Forming,
            links: BTreeMap::from([(0, Weak::clone(me))]),
            fences: Fences::new((watches + SYNCS) * size),
            over: None,
            running: 1,
            ended: Vec::new(),
        };
        let group = Arc::new(Group {
            key: peer.challenge,
            size,
            last_fence: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        Self(OnceLock::from(Member::new(group)))
    }

    fn member(&self) -> Option<&Member> {
        self.0.get()
    }

    fn group(&self) -> Option<&Group> {
        self.0.get().map(|member| &*member.group)
    }
}

impl Member {
    fn new(group: Arc<Group>) -> Self {
        Self { group, is_over: Notify::new(), has_ended: AtomicBool::new(false) }
    }
}

/// How a group comes to be.
impl Link {
    /// How many connections there are to be.
    pub(crate) fn group_size(&self) -> usize {
        self.seat.group().map_or(1, |group| group.size)
    }

    /// The further connections are being made, and nothing is said to any instance before they are there.
    pub(crate) fn is_forming(&self) -> bool {
        self.is_open() && self.seat.group().is_some_and(|group| group.state().phase == Phase::Forming)
    }

    /// Takes a further connection into the group of this one, the first.
    ///
    /// # Errors
    /// [`NotJoined`]: it names another connection, or its place is not free.
    pub(crate) fn join(&self, link: &Arc<Self>, extra: &Extra) -> Result<(), NotJoined> {
        let member = self.seat.member().filter(|member| member.group.key == extra.first);
        let group = &member.ok_or(NotJoined::Other)?.group;
        let mut state = group.state();
        if state.over.is_some() {
            return Err(NotJoined::Over);
        }
        let is_free = usize::from(extra.number) < group.size && !state.links.contains_key(&extra.number);
        if !is_free || link.seat.0.set(Member::new(Arc::clone(group))).is_err() {
            return Err(NotJoined::Taken);
        }
        state.links.insert(extra.number, Arc::downgrade(link));
        state.running += 1;
        Ok(())
    }

    /// Whether a further connection of that number has joined.
    pub(crate) fn has_joined(&self, number: u8) -> bool {
        self.seat.group().is_some_and(|group| group.state().links.contains_key(&number))
    }

    /// Whether all connections stand.
    pub(crate) fn is_whole(&self) -> bool {
        self.seat.group().is_none_or(|group| group.state().links.len() == group.size)
    }

    /// Begins to say something to instances: over all connections if they stand, else over the first one, and that is
    /// not changed any more. Gives whether it is all.
    pub(crate) fn begin(&self) -> bool {
        let Some(group) = self.seat.group() else { return true };
        let mut state = group.state();
        if state.phase == Phase::Forming {
            state.phase = if state.links.len() == group.size { Phase::Whole } else { Phase::Alone };
        }
        state.phase == Phase::Whole
    }

    /// The one of the connections to this peer that takes what is said to that instance.
    pub(crate) fn toward(self: &Arc<Self>, instance: InstanceId) -> Arc<Self> {
        let chosen = self.seat.group().and_then(|group| {
            let state = group.state();
            let place = u8::try_from(group::place_of(instance, group.size)).ok()?;
            let link = state.links.get(&place).filter(|_| state.phase == Phase::Whole)?;
            link.upgrade()
        });
        chosen.unwrap_or_else(|| Arc::clone(self))
    }

    /// All connections of the group, this one among them.
    pub(crate) fn family(&self) -> Vec<Arc<Self>> {
        match self.seat.group() {
            Some(group) => group.living(),
            None => self.me.upgrade().into_iter().collect(),
        }
    }
}

/// What comes behind everything else.
impl Link {
    /// Says something behind all that waits now, on this connection and on the others to the peer.
    pub(crate) fn say_behind(&self, word: Word) {
        let Some(group) = self.seat.group() else { return self.put_behind(&word.into()) };
        let is_other = |link: &Arc<Self>| !std::ptr::eq(&raw const **link, self);
        let others: Vec<_> = group.living().into_iter().filter(is_other).collect();
        if others.is_empty() {
            return self.put_behind(&word.into());
        }
        let number = group.last_fence.fetch_add(1, Ordering::Relaxed) + 1;
        for link in &others {
            link.put_behind(&Frame::Fence { number });
        }
        let fences = u8::try_from(others.len()).unwrap_or(u8::MAX);
        self.put_behind(&Frame::Behind { number, fences, word });
    }

    /// A fence has come. Gives what stands behind it and may be told now, with the connection on which it was said.
    ///
    /// # Errors
    /// The peer has more of them open than it may.
    pub(crate) fn fence(&self, number: u64) -> Result<Option<Said>, TooMany> {
        self.seat.group().map_or(Ok(None), |group| group.state().fences.fence(number))
    }

    /// The peer says something behind so many fences. Gives it if they have come.
    ///
    /// # Errors
    /// The peer has more of them open than it may.
    pub(crate) fn behind(
        self: &Arc<Self>,
        number: u64,
        fences: u8,
        word: Word,
    ) -> Result<Option<Said>, TooMany> {
        let word = (Arc::clone(self), word);
        let Some(group) = self.seat.group() else { return Ok(Some(word)) };
        group.state().fences.word(number, fences, word)
    }
}

/// How a group ends.
impl Link {
    /// Whether it, or another connection of its group, has ended or is about to.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_open() || self.seat.group().is_some_and(|group| group.state().over.is_some())
    }

    /// Ends when another connection of the group has ended. Cancel safe.
    pub(crate) async fn group_over(&self) {
        match self.seat.member() {
            Some(member) => member.is_over.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Why the group is over, if it is.
    pub(crate) fn why_over(&self) -> Option<Over> {
        self.seat.group()?.state().over.clone()
    }

    /// The first connection is to close as soon as all is written.
    pub(crate) fn closes_when_drained(&self) {
        if let Some(group) = self.seat.group() {
            group.is_closing.store(true, Ordering::Release);
        }
    }

    /// All was written: the first connection may wait for that.
    pub(super) fn was_written(&self) {
        let closing = self.seat.group().filter(|group| group.is_closing.load(Ordering::Acquire));
        let first = closing.and_then(|group| group.state().links.get(&0).and_then(Weak::upgrade));
        if let Some(first) = first {
            first.data.notify_one();
        }
    }

    /// This connection is over, and with it the group: the others end too. Gives the links whose watches end with that: none
    /// as long as another one may bring something that was said before.
    pub(crate) fn end_group(self: &Arc<Self>, over: Over) -> Vec<Arc<Self>> {
        let Some(member) = self.seat.member() else { return vec![Arc::clone(self)] };
        if member.has_ended.swap(true, Ordering::AcqRel) {
            return Vec::new();
        }
        let mut state = member.group.state();
        state.over.get_or_insert(over);
        state.running -= 1;
        state.ended.push(Arc::clone(self));
        let others: Vec<_> = state.links.values().filter_map(Weak::upgrade).collect();
        let all = if state.running == 0 { std::mem::take(&mut state.ended) } else { Vec::new() };
        let fences = (state.running == 0).then(|| std::mem::replace(&mut state.fences, Fences::new(0)));
        drop(state);
        drop(fences); // they hold links
        for other in others {
            // No handle goes on using it.
            other.is_replaced.store(true, Ordering::Release);
            other.is_retired.store(true, Ordering::Release);
            if let Some(member) = other.seat.member() {
                member.is_over.notify_one();
            }
        }
        all
    }
}

impl From<Word> for Frame {
    fn from(word: Word) -> Self {
        match word {
            Word::Down { id, reason } => Self::Down { id, reason },
            Word::NamesSynced { token } => Self::NamesSynced { token },
        }
    }
}

/// How many answers to `NamesSync` may wait for their fences besides the ends of what is watched from here.
const SYNCS: usize = 1024;

#[cfg(test)]
mod tests;
