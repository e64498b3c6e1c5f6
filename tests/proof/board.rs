//! What the nodes have said, in the order in which it came, and the wait for more.
//!
//! Never waits without a limit.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Micros;
use crate::words::{Dated, Report, What};

/// A life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Who {
    pub(crate) node: usize,
    pub(crate) life: u64,
}

/// All that was said.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Guards the list; the readers of the nodes' outputs add to it.
    said: Mutex<Vec<(Who, Dated)>>,
    /// Guards the places of the answers in it that the driver has taken.
    taken: Mutex<HashSet<usize>>,
    more: Condvar,
}

/// A word of a member or a peer.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) by: Who,
    pub(crate) at: Micros,
    /// Of whom.
    pub(crate) of: String,
    pub(crate) incarnation: u64,
    pub(crate) why: String,
}

/// What a node sees: living members with their lives, those that it suspects, and connected peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) at: Micros,
    pub(crate) alive: Vec<(String, u64)>,
    pub(crate) suspected: Vec<String>,
    pub(crate) peers: Vec<String>,
}

impl Board {
    pub(crate) fn post(&self, who: Who, dated: Dated) {
        self.said().push((who, dated));
        self.more.notify_all();
    }

    /// Waits until `find` gives something of all that was said.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&[(Who, Dated)]) -> Option<T>,
    ) -> Option<T> {
        let begin = Instant::now();
        let mut said = self.said();
        loop {
            if let Some(found) = find(&said) {
                return Some(found);
            }
            let left = limit.checked_sub(begin.elapsed())?;
            said = self.more.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first thing said of which `find` gives something.
    pub(crate) fn find<T>(&self, limit: Duration, find: impl Fn(Who, &Dated) -> Option<T>) -> Option<T> {
        self.wait(limit, |said| said.iter().find_map(|(who, dated)| find(*who, dated)))
    }

    /// Waits for an answer of a node that was not taken yet, and takes it.
    pub(crate) fn take<T>(&self, limit: Duration, of: Who, find: impl Fn(&Report) -> Option<T>) -> Option<T> {
        self.wait(limit, |said| {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let all =
                said.iter().enumerate().filter(|(place, (who, _))| *who == of && !taken.contains(place));
            let (place, found) =
                all.filter_map(|(place, (_, dated))| Some((place, find(&dated.report)?))).next()?;
            taken.insert(place);
            Some(found)
        })
    }

    /// All of these words of members and peers that were told since then.
    pub(crate) fn told(&self, wanted: What, since: Micros) -> Vec<Told> {
        let said = self.said();
        let told = said.iter().filter_map(|(by, dated)| match &dated.report {
            Report::Told { what, node, incarnation, why } if *what == wanted && dated.at >= since => {
                let (of, incarnation) = (node.clone(), *incarnation);
                Some(Told { by: *by, at: dated.at, of, incarnation, why: why.clone() })
            }
            _ => None,
        });
        told.collect()
    }

    fn said(&self) -> MutexGuard<'_, Vec<(Who, Dated)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a life of a node sees by the last thing that it said of it.
pub(crate) fn sight(said: &[(Who, Dated)], of: Who) -> Option<Sight> {
    said.iter().rev().find_map(|(who, dated)| match &dated.report {
        Report::Sees { alive, suspected, peers } if *who == of => {
            let (alive, suspected, peers) = (alive.clone(), suspected.clone(), peers.clone());
            Some(Sight { at: dated.at, alive, suspected, peers })
        }
        _ => None,
    })
}
