//! Watching: who is told that an instance has ended.
//!
//! Invariant: a watcher is told of each of its watches at most once, and never while a lock is held.

use std::fmt;

use crate::event::StopReason;

/// Who is told that an instance which it watches has ended. It never waits.
pub(crate) trait Watcher: Send + Sync + fmt::Debug {
    /// The instance behind `watch` has ended. Nothing more comes of that watch.
    fn down(&self, watch: WatchId, reason: StopReason);
}

/// Numbers the watches of one watcher, which gives the numbers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(pub(crate) u64);
