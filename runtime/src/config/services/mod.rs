//! The services that a node is to start, as its file says.
//!
//! Invariant: plain values. What kinds there are, and what they are configured with, is known to the node alone.

mod read;

use std::fmt;

use super::labels::Labels;
use super::place::Place;

pub(super) use read::{FIELDS, entry};

/// A service that is to be started.
#[derive(Debug, Clone)]
pub(crate) struct ServiceEntry {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) instances: usize,
    pub(crate) is_unique: bool,
    pub(crate) labels: Labels,
    /// What the kind reads.
    pub(crate) config: toml::Table,
    /// Where the entry stands, if it is a file's.
    pub(crate) place: Option<Place>,
    /// Whether what runs may be something else: it was being changed, and nobody knows how far that came. No file says so, so that it differs from what any
    /// file says.
    pub(crate) is_unsure: bool,
}

impl ServiceEntry {
    /// Whether they differ in nothing but how many instances there are, and what they are configured with.
    pub(crate) fn is_same_service(&self, other: &Self) -> bool {
        let Self { name, kind, is_unique, labels, instances: _, config: _, place: _, is_unsure: _ } = self;
        (name, kind, is_unique, labels) == (&other.name, &other.kind, &other.is_unique, &other.labels)
    }
}

/// Where it stands does not count.
impl PartialEq for ServiceEntry {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_service(other)
            && (self.instances, &self.config, self.is_unsure)
                == (other.instances, &other.config, other.is_unsure)
    }
}

/// Values of a configuration may be secrets, and are not shown.
impl fmt::Display for ServiceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.name, self.kind, self.instances)
    }
}
