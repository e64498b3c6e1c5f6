//! What is written down about every call and every message, at once and by one system call each, so that it outlives a killed process.
//!
//! For each life of a node a file of its calls, one of what its service ran, and three of when it got no processor.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use skyhold::CallError;

use crate::clock::{Micros, micros};

/// How a call ended, by its place in [`KINDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(pub(crate) u8);

impl Kind {
    pub(crate) const OK: Self = Self(0);

    pub(crate) fn of(result: &Result<(), CallError>) -> Self {
        Self(match result {
            Ok(()) => 0,
            Err(CallError::NoRoute(_)) => 1,
            Err(CallError::Overloaded(_)) => 2,
            Err(CallError::Stopped(_)) => 3,
            Err(CallError::Stale(_)) => 4,
            Err(CallError::Expired(_)) => 5,
            Err(CallError::Timeout(_)) => 6,
            Err(CallError::Disconnected(_)) => 7,
            Err(_) => 8,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        KINDS.get(usize::from(self.0)).unwrap_or(&"?")
    }
}

const KINDS: [&str; 9] =
    ["ok", "no route", "overloaded", "stopped", "stale", "expired", "timeout", "disconnected", "other"];

/// Whom a call was for: anybody, or one node.
pub(crate) type Target = Option<usize>;

/// A call that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallRecord {
    /// Who calls, in which life, for the how manieth time: see [`number`].
    pub(crate) number: u64,
    pub(crate) began: Micros,
    pub(crate) took: Duration,
    /// After which time it was to end.
    pub(crate) deadline: Duration,
    pub(crate) target: Target,
    pub(crate) kind: Kind,
    pub(crate) may_have_run: bool,
}

impl CallRecord {
    pub(crate) const SIZE: usize = 32;

    pub(crate) fn write(&self) -> [u8; Self::SIZE] {
        let target = self.target.map_or(0, |node| node as u64 + 1);
        let deadline = (micros(self.deadline) / 1000) & 0xffff;
        let ends = target | u64::from(self.kind.0) << 8 | u64::from(self.may_have_run) << 16 | deadline << 24;
        let mut bytes = [0; Self::SIZE];
        for (place, value) in
            bytes.chunks_exact_mut(8).zip([self.number, self.began, micros(self.took), ends])
        {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn read(words: [u64; 4]) -> Self {
        let [number, began, took, ends] = words;
        let byte = |shift: u32| u8::try_from(ends >> shift & 0xff).unwrap_or(u8::MAX);
        Self {
            number,
            began,
            took: Duration::from_micros(took),
            deadline: Duration::from_millis(ends >> 24 & 0xffff),
            target: usize::from(byte(0)).checked_sub(1),
            kind: Kind(byte(8)),
            may_have_run: byte(16) != 0,
        }
    }

    pub(crate) fn ended(&self) -> Micros {
        self.began + micros(self.took)
    }
}

/// The number of a call: no two calls of a scenario have the same.
pub(crate) fn number(node: usize, life: u64, sequence: u64) -> u64 {
    (node as u64) << 56 | life << 40 | sequence
}

/// Which node, in which life, has made the call of this number.
pub(crate) fn caller(number: u64) -> (usize, u64) {
    (usize::try_from(number >> 56).unwrap_or(usize::MAX), number >> 40 & 0xffff)
}

/// A file that is only added to. Its lock keeps one record from being written into another.
#[derive(Debug)]
pub(crate) struct Records(Mutex<File>);

impl Records {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Mutex::new(OpenOptions::new().create_new(true).append(true).open(path)?)))
    }

    /// Adds a record. A proof whose disk is full proves nothing, so it ends.
    pub(crate) fn add(&self, record: &[u8]) {
        let mut file = self.0.lock().expect("no writer panics");
        file.write_all(record).expect("the records can be written");
    }
}

/// Where a life of a node writes its records of one sort: `calls`, `ran`, `late`, `waited` or `behind`.
pub(crate) fn path(folder: &Path, node: usize, life: u64, sort: &str) -> PathBuf {
    folder.join(format!("n{node}.{life}.{sort}"))
}

/// Reads records of `N` words each. What a killed process has not quite written is left out.
pub(crate) fn read<const N: usize>(path: &Path) -> io::Result<Vec<[u64; N]>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let record = |bytes: &[u8]| std::array::from_fn(|place| word(&bytes[place * 8..place * 8 + 8]));
    Ok(bytes.chunks_exact(N * 8).map(record).collect())
}
