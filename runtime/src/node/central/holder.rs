//! The node that holds the central configuration: its space, and the file in which it is kept.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::config;
use crate::service::host::Host;

use super::disk::{self, Failure};
use super::error::CentralError;
use super::known::Known;
use super::space::{Author, SettingVersion, Space, Version, Write};

/// The largest version that a peer can make it count from: there is no end to those that come after it.
const MOST: u64 = 1 << 62;

/// What the holder has.
pub(super) struct Holder {
    host: Arc<Host>,
    file: PathBuf,
    /// Guards the space and the file, so that one write comes after the other. Held while the file is written: on threads that may be
    /// blocked, and for a look.
    space: Mutex<Space>,
}

impl Holder {
    /// Reads the file. Blocks.
    pub(super) fn open(host: Arc<Host>, file: PathBuf) -> Result<Self, String> {
        let space = Mutex::new(disk::read(&file)?);
        disk::clean(&file);
        Ok(Self { host, file, space })
    }

    /// What it has.
    pub(super) fn known(&self) -> Known {
        Known::of(&self.space(), &Known::default())
    }

    /// Writes, and tells `known`. Blocks.
    pub(super) fn write(
        &self,
        write: &Write,
        author: &Author,
        limits: &config::Central,
        known: &watch::Sender<Arc<Known>>,
    ) -> Result<Version, CentralError> {
        let mut space = self.space();
        let after = space.after(write, author, limits)?;
        let flushed = match self.keep(&after) {
            Ok(()) => Ok(after.version),
            Err(Failure::Unchanged(error)) => {
                return Err(CentralError::Disk {
                    holder: self.host.node.clone(),
                    problem: error.to_string(),
                });
            }
            Err(Failure::Unflushed(error)) => Err(CentralError::Unconfirmed {
                key: write.key.clone(),
                problem: format!("node {} cannot flush its folder: {error}", self.host.node),
            }),
        };
        // Under the lock: the last one that is told is the latest.
        known.send_modify(|known| *known = Arc::new(Known::of(&after, known)));
        *space = after;
        flushed
    }

    fn keep(&self, space: &Space) -> Result<(), Failure> {
        let is_over = || self.host.tasks.is_aborted();
        disk::write(&self.file, space, self.host.incarnation, is_over)
    }

    /// The versions of a key, the newest first. May block.
    pub(super) fn history(&self, key: &str) -> Vec<SettingVersion> {
        self.space().history(key)
    }

    /// A node remembers this version: none up to it is given out again, also where the file is older than that. May block.
    pub(super) fn remember(&self, version: Version) {
        let mut space = self.space();
        space.counter = space.counter.max(version.0.min(MOST));
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("file", &self.file).finish_non_exhaustive()
    }
}
