//! What one node says of its names.
//!
//! Invariant: a peer cannot make this node keep more than the limits say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{Labels, Limits};
use crate::id::{Incarnation, InstanceId};
use crate::proto::described::Description;
use crate::proto::frame::NameEntry;

/// One name on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) interface: Arc<str>,
    pub(super) instances: Vec<InstanceId>,
    pub(super) traits: Traits,
}

/// What there is to say of a name besides its instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// When its node took it, in milliseconds since 1970, if no other node is to have it.
    pub(crate) claim: Option<u64>,
    pub(crate) labels: Arc<Labels>,
}

impl Traits {
    pub(super) fn describe(&self, name: &str) -> Description {
        Description { name: name.to_owned(), claim: self.claim, labels: (*self.labels).clone() }
    }
}

impl Entry {
    /// The entry, as peers are told.
    pub(super) fn told(&self, name: &str) -> NameEntry {
        let (interface, instances) = (self.interface.to_string(), self.instances.clone());
        NameEntry { name: name.to_owned(), interface, instances }
    }
}

/// Which of this node's names its peers are not told.
#[derive(Debug, Default)]
pub(super) struct Withdrawn {
    /// Every name, for ever.
    pub(super) all: bool,
    /// These, as long as they have instances: never more than there are own names.
    pub(super) names: BTreeSet<String>,
}

impl Withdrawn {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

/// What a peer has said of itself in one life.
#[derive(Debug)]
pub(super) struct PeerNames {
    pub(super) incarnation: Incarnation,
    entries: BTreeMap<String, Entry>,
    /// How many instances all entries have.
    instances: usize,
    /// What was said of names that are yet to come.
    described: BTreeMap<String, Traits>,
    /// Whether its connection was lost and is being made again.
    pub(super) is_away: bool,
}

impl PeerNames {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        let (entries, described) = (BTreeMap::new(), BTreeMap::new());
        Self { incarnation, entries, instances: 0, described, is_away: false }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(super) fn names(&self) -> BTreeSet<String> {
        self.entries.keys().cloned().collect()
    }

    /// Forgets all names, for those that come in their place.
    pub(super) fn take_all(&mut self) -> BTreeMap<String, Entry> {
        self.instances = 0;
        std::mem::take(&mut self.entries)
    }

    /// Sets a name's instances, as far as the limits allow. `earlier` is what was said of it before it was forgotten.
    pub(super) fn set(
        &mut self,
        name: &str,
        interface: Arc<str>,
        mut instances: Vec<InstanceId>,
        earlier: Option<Traits>,
        limits: &Limits,
    ) {
        let before = self.entries.remove(name);
        self.instances -= before.as_ref().map_or(0, |entry| entry.instances.len());
        let described = self.described.remove(name);
        instances.truncate(limits.instances - self.instances);
        if instances.is_empty() || self.entries.len() >= limits.names {
            return;
        }
        self.instances += instances.len();
        let traits = described.or(before.map(|entry| entry.traits)).or(earlier).unwrap_or_default();
        self.entries.insert(name.to_owned(), Entry { interface, instances, traits });
    }

    /// Notes what is said of a name. Gives the name, if it is known already.
    pub(super) fn describe(&mut self, description: Description, names_per_peer: usize) -> Option<String> {
        let Description { name, claim, labels } = description;
        let traits = Traits { claim, labels: Arc::new(labels) };
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.traits = traits;
            return Some(name);
        }
        if self.described.len() < names_per_peer || self.described.contains_key(&name) {
            self.described.insert(name, traits);
        }
        None
    }
}
