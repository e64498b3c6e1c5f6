//! The space of settings, and what a write makes of it.
//!
//! Invariant: plain values. A write gives another space or an error, and versions go up only.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::id::{NodeId, check_name};

use super::error::CentralError;

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// The version of a setting: one number for the whole central configuration, which goes up with each write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// What a key has that is not set.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A setting as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingVersion {
    /// The key.
    pub key: String,
    /// The version which that made.
    pub version: Version,
    /// The value, as a text of TOML; `None`: it was deleted.
    pub value: Option<String>,
    /// The node on which it was written.
    pub by: NodeId,
    /// When, by the clock of where it is kept, to the millisecond.
    pub at: SystemTime,
}

impl SettingVersion {
    /// How much of the space's bound it takes.
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, String::len)
    }
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Write {
    pub(super) key: String,
    /// The version that the key has to have.
    pub(super) expected: Option<Version>,
    /// `None`: the key is to be deleted.
    pub(super) value: Option<String>,
}

impl Write {
    /// Refuses what can be written nowhere.
    pub(super) fn check(&self, limits: &config::Central) -> Result<(), CentralError> {
        check_key(&self.key)?;
        let (bytes, limit) = (self.value.as_ref().map_or(0, String::len), limits.max_value);
        if bytes > limit {
            return Err(CentralError::TooLarge { key: self.key.clone(), bytes, limit });
        }
        Ok(())
    }

    /// Refuses what does not fit the version that the key has.
    pub(super) fn fits(&self, present: Version) -> Result<(), CentralError> {
        let key = self.key.clone();
        match self.expected {
            Some(expected) if expected != present => Err(CentralError::Conflict { key, expected, present }),
            _ if self.value.is_none() && present == Version::NONE => Err(CentralError::NotSet { key }),
            _ => Ok(()),
        }
    }
}

/// Who writes, and when.
#[derive(Debug, Clone)]
pub(super) struct Author {
    pub(super) by: NodeId,
    /// Milliseconds since the epoch.
    pub(super) at: u64,
}

impl Author {
    pub(super) fn at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.at)
    }
}

/// Refuses what cannot be a key.
pub(super) fn check_key(key: &str) -> Result<(), CentralError> {
    check_name("key", key, MAX_KEY).map_err(|error| CentralError::InvalidKey {
        key: key.chars().take(MAX_KEY).collect(),
        problem: error.to_string(),
    })
}

/// All settings with their history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Space {
    /// The last version that was given out, here or by what nodes remember of an earlier life.
    pub(super) counter: u64,
    /// The version of the last write that is in it.
    pub(super) version: Version,
    /// Of each key the versions, the oldest first, at least one.
    pub(super) records: BTreeMap<String, VecDeque<SettingVersion>>,
}

impl Space {
    /// What the key has now.
    pub(super) fn present(&self, key: &str) -> Option<&SettingVersion> {
        self.records.get(key)?.back().filter(|last| last.value.is_some())
    }

    /// The key's versions, the newest first.
    pub(super) fn history(&self, key: &str) -> Vec<SettingVersion> {
        self.records.get(key).into_iter().flatten().rev().cloned().collect()
    }

    /// The space after a write.
    pub(super) fn after(
        &self,
        write: &Write,
        author: &Author,
        limits: &config::Central,
    ) -> Result<Self, CentralError> {
        write.check(limits)?;
        write.fits(self.present(&write.key).map_or(Version::NONE, |last| last.version))?;
        let mut space = self.clone();
        space.make_room(&write.key, limits.max_keys)?;
        space.counter += 1;
        space.version = Version(space.counter);
        let (key, value) = (write.key.clone(), write.value.clone());
        let setting =
            SettingVersion { key, version: space.version, value, by: author.by.clone(), at: author.at() };
        let record = space.records.entry(write.key.clone()).or_default();
        record.push_back(setting);
        while record.len() > limits.history {
            record.pop_front();
        }
        space.forget_oldest(&write.key, limits.max_total)?;
        Ok(space)
    }

    /// Makes room for a key, in the place of the one that was deleted first.
    fn make_room(&mut self, key: &str, limit: usize) -> Result<(), CentralError> {
        if self.records.contains_key(key) || self.records.len() < limit {
            return Ok(());
        }
        let deleted = self.records.iter().filter_map(|(key, record)| Some((key, record.back()?)));
        let deleted = deleted.filter(|(_, last)| last.value.is_none());
        let oldest = deleted.min_by_key(|(_, last)| last.version).map(|(key, _)| key.clone());
        match oldest.and_then(|oldest| self.records.remove(&oldest)) {
            Some(_) => Ok(()),
            None => Err(CentralError::TooManyKeys { key: key.to_owned(), limit }),
        }
    }

    /// Forgets the oldest versions until the bytes are no more than there may be, but no present one.
    fn forget_oldest(&mut self, key: &str, limit: usize) -> Result<(), CentralError> {
        let mut bytes: usize = self.records.values().flatten().map(SettingVersion::bytes).sum();
        while bytes > limit {
            let earlier = self.records.iter().filter(|(_, record)| record.len() > 1);
            let oldest = earlier.filter_map(|(key, record)| Some((record.front()?.version, key)));
            let oldest = oldest.min().map(|(_, key)| key.clone());
            let gone = oldest.and_then(|oldest| self.records.get_mut(&oldest)?.pop_front());
            match gone {
                Some(gone) => bytes -= gone.bytes(),
                None => return Err(CentralError::Full { key: key.to_owned(), bytes, limit }),
            }
        }
        Ok(())
    }
}
