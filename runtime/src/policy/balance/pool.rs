//! The instances of a name, as one node knows them: who is new, and how many may be passed over at once.
//!
//! Invariant: at most half of the instances that can be reached are passed over when one is; so never the last one. (Envoy's
//! default is a tenth, and at least one. Names here have few instances.)

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Address;
use crate::policy::balance::load::{Flight, Load};
use crate::policy::balance::standing::{Fitness, SLOW_START, nanos};

/// What all handles of a node to one name have learned.
#[derive(Default)]
pub(crate) struct Pool {
    /// From then on every instance is fit, unless something happens.
    settled_from: AtomicU64,
    /// Guards who belongs to the name. Held when the directory changes and when an instance is passed over, for moments.
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// The version of the directory that was looked at.
    version: Option<u64>,
    loads: HashMap<Address, Member>,
}

struct Member {
    load: Arc<Load>,
    is_away: bool,
}

impl Pool {
    /// Whether every instance is fit.
    #[inline]
    pub(crate) fn is_settled(&self, now: u64) -> bool {
        now >= self.settled_from.load(Ordering::Relaxed)
    }

    /// Takes over which instances there are by a version of the directory, and whether their nodes are away. What is not
    /// among them any more is forgotten. What is new has a slow start, if others were there before.
    pub(crate) fn update<'a>(
        self: &Arc<Self>,
        version: u64,
        instances: impl Iterator<Item = (&'a Address, bool)>,
        now: u64,
    ) {
        let mut members = self.members();
        if members.version.is_some_and(|known| known >= version) {
            return; // another handle has seen that already
        }
        let mut before = std::mem::take(&mut members.loads);
        let is_first = before.is_empty();
        for (address, is_away) in instances {
            let load = before.remove(address).map_or_else(
                || {
                    let load = Load::new(Arc::downgrade(self));
                    if !is_first {
                        load.is_new(now);
                        self.unsettle(now);
                    }
                    Arc::new(load)
                },
                |member| member.load,
            );
            members.loads.insert(address.clone(), Member { load, is_away });
        }
        members.version = Some(version);
    }

    /// What is known of an instance. One that has left the directory meanwhile is known to who asks alone.
    pub(crate) fn load(self: &Arc<Self>, address: &Address) -> Arc<Load> {
        let known = self.members().loads.get(address).map(|member| Arc::clone(&member.load));
        known.unwrap_or_else(|| Arc::new(Load::new(Arc::downgrade(self))))
    }

    /// Passes an instance over for a while, if it is one of the name's and not too many are passed over already.
    pub(super) fn eject(&self, flight: &Flight, now: u64) {
        let members = self.members();
        let reached = members.loads.values().filter(|member| !member.is_away);
        let (mut count, mut ejected, mut this) = (0, 0, None);
        for Member { load, .. } in reached {
            count += 1;
            let is_ejected = load.fitness(now) == Fitness::Ejected;
            ejected += usize::from(is_ejected);
            if load.has(flight) && !is_ejected {
                this = Some(load);
            }
        }
        if let Some(load) = this
            && (ejected + 1) * 2 <= count
        {
            self.unsettle(load.eject(now));
        }
    }

    /// An instance is fresh from then on.
    fn unsettle(&self, from: u64) {
        self.settled_from.fetch_max(from.saturating_add(nanos(SLOW_START)), Ordering::Relaxed);
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
