//! What one life of an instance watches, and what it is linked with.
//!
//! The watched side keeps who is to be told (`watchers`, or `port` for another node); this side keeps what it asked for.
//! An end counts only as long as this side still knows of the watch: so one that was given up, and one of an earlier
//! life, say nothing, however late they come.
//!
//! A link is one watch. The end of the watched instance comes as that of any watch; the end of the watcher travels with
//! the word that gives the watch up.
//!
//! Invariant: nobody is told, and nothing is dropped, while a lock is held.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::error::CallError;
use crate::event::{Down, StopReason};
use crate::id::Address;
use crate::port::{Link, Refused, WatchId, Watcher};
use crate::service::core::Core;
use crate::service::handle::{Target, Unreachable};

/// What one life of an instance watches. Made for the first watch, gone after the last.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// In the order in which they were asked for.
    entries: BTreeMap<WatchId, Entry>,
    /// Those of them that are links.
    links: HashMap<Address, WatchId>,
}

#[derive(Debug)]
struct Entry {
    address: Address,
    is_link: bool,
    /// `None` while it is asked for, and after the end came.
    way: Option<Way>,
}

impl Watched {
    fn remove(&mut self, watch: WatchId) -> Option<Entry> {
        let entry = self.entries.remove(&watch)?;
        if entry.is_link {
            self.links.remove(&entry.address);
        }
        Some(entry)
    }
}

/// How a watch is given up.
pub(crate) enum Way {
    /// The instance is on this node.
    Here(Arc<Core>),
    /// It is behind this connection, where the watch has this number.
    There(Arc<Link>, u64),
}

impl Way {
    /// Makes `watcher` watch what `target` leads to. With a `linker`, the instance that does this, the two are linked.
    ///
    /// # Errors
    /// There is nothing to watch, for this reason. The watcher is not told of it.
    pub(crate) fn ask<M>(
        target: &Target<M>,
        watcher: Arc<dyn Watcher>,
        watch: WatchId,
        linker: Option<&Address>,
    ) -> Result<Self, StopReason> {
        let remote = match target {
            Target::Local(local) => {
                let core = Arc::clone(local.core());
                match linker {
                    None => core.watchers().add(watcher, watch)?,
                    Some(linker) => core.watchers().link(watcher, watch, linker)?,
                }
                return Ok(Self::Here(core));
            }
            Target::Remote(remote) => remote,
            Target::Routed(_) => return Err(StopReason::Gone), // a name leads to instances, never to a name
        };
        let link = remote.link().map_err(|unreachable| match unreachable {
            Unreachable::Error(CallError::Stale(_)) => StopReason::Stale,
            Unreachable::Error(CallError::NoRoute(detail)) => StopReason::NodeDown(detail.to_string()),
            Unreachable::Error(error) => StopReason::NodeDown(error.to_string()),
            Unreachable::Away => {
                StopReason::NodeDown(format!("the connection to node {} was lost", remote.address.node))
            }
        })?;
        let linker = linker.map(|linker| linker.instance);
        match link.watch(remote.address.instance, linker, watcher, watch, remote.order()) {
            Ok(number) => Ok(Self::There(link, number)),
            Err(Refused::Full | Refused::NoCredit) => {
                Err(StopReason::Error("too many watches on one connection".to_owned()))
            }
            Err(Refused::Closed | Refused::Gone | Refused::Unsendable(_)) => {
                let node = &remote.address.node;
                Err(StopReason::NodeDown(format!("the connection to node {node} has ended")))
            }
        }
    }

    /// Gives the watch up. If it was a link and its watcher has ended, `ended` says who and why.
    pub(crate) fn give_up(
        self,
        watcher: &Arc<dyn Watcher>,
        watch: WatchId,
        ended: Option<(&Address, &StopReason)>,
    ) {
        match (self, ended) {
            (Self::There(link, number), ended) => {
                link.unwatch(number, ended.map(|(_, reason)| reason.clone()));
            }
            (Self::Here(core), Some((linker, reason))) => core.linker_ended(watcher, watch, linker, reason),
            (Self::Here(core), None) => {
                core.watchers().remove(watcher, watch);
            }
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two instances may watch each other: not through the core.
        match self {
            Self::Here(core) => write!(f, "Here({})", core.address()),
            Self::There(link, number) => write!(f, "There({}, {number})", link.peer().node),
        }
    }
}

/// The watching side.
impl Core {
    /// Watches what each of `targets` leads to, under numbers that follow on `first`.
    pub(crate) fn watch<M>(&self, life: u32, first: u64, targets: &[Target<M>]) {
        for (watch, target) in (first..).map(WatchId).zip(targets) {
            self.ask(life, watch, target, None);
        }
    }

    /// Links this instance with what each of `targets` leads to.
    pub(crate) fn link<M>(&self, life: u32, targets: &[Target<M>]) {
        for target in targets.iter().filter(|target| target.address() != Some(self.address())) {
            self.ask(life, WatchId(self.host().next_watches(1)), target, Some(self.address()));
        }
    }

    fn ask<M>(&self, life: u32, watch: WatchId, target: &Target<M>, linker: Option<&Address>) {
        let (Some(address), Some(watcher)) = (target.address(), self.watcher()) else { return };
        let is_link = linker.is_some();
        // Known before it is asked for: the end may come before the answer.
        let is_new = self.watched(|present, watched| {
            if Some(life) != present || is_link && watched.links.contains_key(address) {
                return false;
            }
            if is_link {
                watched.links.insert(address.clone(), watch);
            }
            watched.entries.insert(watch, Entry { address: address.clone(), is_link, way: None });
            true
        });
        if !is_new {
            return;
        }
        match Way::ask(target, Arc::clone(&watcher), watch, linker) {
            Ok(way) => {
                let unused = self.watched(|_, watched| match watched.entries.get_mut(&watch) {
                    Some(entry) => entry.way.replace(way),
                    None => Some(way),
                });
                drop(unused); // the end came before the answer, and nothing is left to give up
            }
            // As in OTP, a link with what has ended is a failure, however it ended.
            Err(StopReason::Normal | StopReason::Shutdown) if is_link => {
                watcher.down(watch, StopReason::Gone);
            }
            Err(reason) => watcher.down(watch, reason),
        }
    }

    /// Gives a watch up: `#[on_down]` does not run for it any more.
    pub(crate) fn unwatch(&self, watch: WatchId) {
        let (Some(entry), Some(mailbox)) = (self.forget(watch), self.mailbox()) else { return };
        match entry.way {
            Some(way) => way.give_up(&(mailbox as Arc<dyn Watcher>), watch, None),
            None => mailbox.forget_down(watch),
        }
    }

    /// Undoes what links this instance with each of `targets`, whichever of the two asked for it.
    pub(crate) fn unlink<M>(&self, targets: &[Target<M>]) {
        let Some(watcher) = self.watcher() else { return };
        for address in targets.iter().filter_map(Target::address) {
            let own = self.watched(|_, watched| {
                let watch = *watched.links.get(address)?;
                Some((watch, watched.remove(watch)?.way?))
            });
            if let Some((watch, way)) = own {
                way.give_up(&watcher, watch, None);
            }
            self.watchers().unlink(address);
        }
    }

    /// An end comes. Gives what the instance is to be told, if it still watches: then it is to [`Core::forget`] the watch
    /// when the word reaches it. A link takes effect at once.
    pub(crate) fn hear(&self, watch: WatchId, reason: StopReason) -> Option<Down> {
        let (life, entry, way) = self.watched(|life, watched| {
            let entry = watched.entries.get_mut(&watch)?;
            if entry.is_link {
                return Some((life, watched.remove(watch)?, None));
            }
            let told = Entry { address: entry.address.clone(), is_link: false, way: None };
            Some((life, told, entry.way.take()))
        })?;
        drop(way);
        if !entry.is_link {
            return Some(Down { address: entry.address, reason });
        }
        if reason.is_failure()
            && let Some(life) = life
        {
            self.fail(life, linked_with(&entry.address, &reason));
        }
        None
    }

    /// Forgets a watch. `false` if it was forgotten before.
    pub(crate) fn has_forgotten(&self, watch: WatchId) -> bool {
        self.forget(watch).is_none()
    }

    /// A life has ended, for this reason: what it watches is forgotten, and what it is linked with learns of it.
    pub(crate) fn end_watches(&self, reason: &StopReason) {
        let watched = self.with_watched(|_, place| place.take());
        let (Some(watched), Some(watcher)) = (watched, self.watcher()) else { return };
        for (watch, entry) in watched.entries {
            let ended = entry.is_link.then_some((self.address(), reason));
            if let Some(way) = entry.way {
                way.give_up(&watcher, watch, ended);
            }
        }
    }

    fn forget(&self, watch: WatchId) -> Option<Entry> {
        self.watched(|_, watched| watched.remove(watch))
    }

    fn watcher(&self) -> Option<Arc<dyn Watcher>> {
        Some(self.mailbox()? as Arc<dyn Watcher>)
    }

    /// Runs `f` with the number of the life that goes on and what it watches, under the lock.
    fn watched<T>(&self, f: impl FnOnce(Option<u32>, &mut Watched) -> T) -> T {
        self.with_watched(|life, place| {
            let mut watched = place.take().unwrap_or_default();
            let result = f(life, &mut watched);
            *place = (!watched.entries.is_empty()).then_some(watched);
            result
        })
    }
}

/// The watched side.
impl Core {
    /// What is linked with this instance, by a watch of its own, has ended. A failure ends this life too.
    pub(crate) fn linker_ended(
        &self,
        watcher: &Arc<dyn Watcher>,
        watch: WatchId,
        linker: &Address,
        reason: &StopReason,
    ) {
        // Before the watch is removed: if that is there still, the life was the one that it was linked with.
        let life = self.living();
        if self.watchers().remove(watcher, watch)
            && reason.is_failure()
            && let Some(life) = life
        {
            self.fail(life, linked_with(linker, reason));
        }
    }
}

/// The reason of a life that ends because `other` did, cut to the length that crosses the wire: links may form a chain.
fn linked_with(other: &Address, reason: &StopReason) -> StopReason {
    let which = match reason {
        StopReason::NodeDown(why) => format!("whose node is not connected: {why}"),
        StopReason::Stale => "which was of an earlier life of its node".to_owned(),
        StopReason::Killed => "which was cut off".to_owned(),
        StopReason::Gone => "which had ended before".to_owned(),
        reason => format!("which {reason}"),
    };
    let mut text = format!("linked with {other}, {which}");
    if text.len() <= MAX_TEXT {
        return StopReason::Error(text);
    }
    let end = (0..=MAX_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text.truncate(end);
    StopReason::Error(text)
}

/// The longest text of a failure that a link passes on, in bytes.
const MAX_TEXT: usize = 1024;
