//! Watching: who is told that an instance has ended, and the watches of one connection.
//!
//! The side that watches numbers its watches. A watch goes behind what its handle has said; a `Down` goes behind all that was put
//! before it, so that it comes after whatever the instance said on this connection before it ended.
//!
//! Invariant: a watcher is told of each of its watches at most once, and never while a lock is held.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::event::StopReason;
use crate::id::InstanceId;
use crate::proto::fence::Word;
use crate::proto::frame::Frame;
use crate::proto::inbound::Insert;
use crate::proto::lanes::Order;
use crate::proto::watch::Watch;

use super::{Link, Refused};

/// Who is told that an instance which it watches has ended. It never waits.
pub(crate) trait Watcher: Send + Sync + fmt::Debug {
    /// The instance behind `watch` has ended. Nothing more comes of that watch.
    fn down(&self, watch: WatchId, reason: StopReason);
}

/// Numbers the watches of one watcher, which gives the numbers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(pub(crate) u64);

/// The watches of one connection.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// From here at the peer, by the number on the wire.
    own: BTreeMap<u64, Own>,
    /// How many numbers were given. Even a billion watches a second take five centuries to use them up.
    given: u64,
    /// From the peer at instances here. An ordered tree, because its keys are the peer's to choose.
    peers: BTreeMap<u64, Watch>,
}

impl Watches {
    /// Whether a watch is open, either way.
    pub(super) fn any(&self) -> bool {
        !self.own.is_empty() || !self.peers.is_empty()
    }
}

#[cfg(any(test, fuzzing))]
impl Watches {
    pub(super) fn of_peer(&self) -> usize {
        self.peers.len()
    }
}

/// A watch from here.
#[derive(Debug)]
struct Own {
    watcher: Arc<dyn Watcher>,
    id: WatchId,
    instance: InstanceId,
    order: Order,
}

/// The watching side.
impl Link {
    /// Asks the peer to tell of the end of `instance`. `watcher` hears of it under the number `id`, exactly once,
    /// unless [`Link::unwatch`] comes before: perhaps before this returns. With `linked`, the instance for which this
    /// is done, each of the two is told of the other's end.
    ///
    /// Gives the watch's number on this connection. It goes whatever waits to be written, behind what the handle numbered
    /// `order` has said before.
    ///
    /// # Errors
    /// [`Refused::Full`] if as many are open as may be, [`Refused::Closed`] if the connection has ended. The watcher is
    /// not told then.
    pub(crate) fn watch(
        &self,
        instance: InstanceId,
        linked: Option<InstanceId>,
        watcher: Arc<dyn Watcher>,
        id: WatchId,
        order: u64,
    ) -> Result<u64, Refused> {
        let mut state = self.state();
        if !self.is_open() {
            return Err(Refused::Closed);
        }
        let watches = &mut state.watches;
        if watches.own.len() >= self.limits.watches {
            return Err(Refused::Full);
        }
        watches.given += 1;
        let number = watches.given;
        let order = Order::Handle(order);
        watches.own.insert(number, Own { watcher, id, instance, order });
        state.lanes.put_in_order(instance, order, &Frame::Watch(Watch { id: number, instance, linked }));
        self.added(state);
        Ok(number)
    }

    /// Ends a watch; for a linked one `reason` is why the watcher has ended, and `None` says that the link alone is
    /// undone. `false` if there is no such watch any more: its watcher was told, or is being told at this moment.
    pub(crate) fn unwatch(&self, number: u64, reason: Option<StopReason>) -> bool {
        let mut state = self.state();
        let Some(removed) = state.watches.own.remove(&number) else { return false };
        if self.is_open() {
            state.lanes.put_in_order(removed.instance, removed.order, &Frame::Unwatch { id: number, reason });
            self.added(state);
        } else {
            drop(state);
        }
        drop(removed); // outside the lock
        true
    }

    /// The peer says that an instance has ended. What nobody watches any more is passed over.
    pub(crate) fn watched_ended(&self, number: u64, reason: StopReason) {
        let told = self.state().watches.own.remove(&number);
        if let Some(Own { watcher, id, .. }) = told {
            watcher.down(id, reason);
        }
    }
}

/// The watched side.
impl Link {
    /// Tells the peer that an instance which it watches has ended, after all that was put before. Does nothing if the
    /// peer does not watch any more.
    ///
    /// For the end of a link that is no end of an instance there is [`StopReason::Normal`], which a link does not pass
    /// on.
    pub(crate) fn down(&self, number: u64, reason: StopReason) {
        let mut state = self.state();
        let watched = state.watches.peers.remove(&number).is_some();
        drop(state);
        if watched && self.is_open() {
            self.say_behind(Word::Down { id: number, reason });
        }
    }

    /// Notes a watch of the peer.
    #[must_use]
    pub(crate) fn begin_watch(&self, watch: Watch) -> Insert {
        let peers = &mut self.state().watches.peers;
        if peers.contains_key(&watch.id) {
            return Insert::Duplicate;
        }
        if peers.len() >= self.limits.watches {
            return Insert::Full;
        }
        peers.insert(watch.id, watch);
        Insert::New
    }

    /// The peer ends one of its watches. `None` if there is none: its `Down` may have crossed this.
    pub(crate) fn end_watch(&self, number: u64) -> Option<Watch> {
        self.state().watches.peers.remove(&number)
    }

    /// Answers a watch that was never taken in.
    pub(crate) fn refuse_watch(&self, number: u64) {
        let reason = StopReason::Error("too many watches on one connection".to_owned());
        self.put(&Frame::Down { id: number, reason });
    }
}

/// Both sides.
impl Link {
    /// The connection has ended: tells whoever watches, the first to watch first, and gives out what the peer watches
    /// here, so that the instances forget it. The link must have been closed.
    ///
    /// This is apart from [`Link::close`] because only the driver knows when all that arrived is dealt with, and a
    /// `Down` comes after all earlier messages.
    #[must_use = "the instances here must forget them"]
    pub(crate) fn end_watches(&self, reason: &str) -> impl Iterator<Item = Watch> + use<> {
        debug_assert!(!self.is_open(), "a watch may still come");
        let Watches { own, peers, .. } = std::mem::take(&mut self.state().watches);
        for Own { watcher, id, .. } in own.into_values() {
            watcher.down(id, StopReason::NodeDown(reason.to_owned()));
        }
        peers.into_values()
    }
}

/// The peer watches through its connection: what ends here is told to it.
impl Watcher for Link {
    fn down(&self, watch: WatchId, reason: StopReason) {
        Link::down(self, watch.0, reason);
    }
}

#[cfg(test)]
mod tests;
