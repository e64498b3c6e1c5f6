//! What one node says of its names.
//!
//! Invariant: a peer cannot make this node keep more than the limits say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::{Labels, Limits};
use crate::id::{Incarnation, InstanceId, MethodId};
use crate::policy::balance::reported::Reported;
use crate::proto::described::{Description, MAX_METHODS, Understood};
use crate::proto::frame::NameEntry;

/// One name on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) interface: Arc<str>,
    /// Each with what it has to do, which stays the same one as long as the instance has the name.
    pub(super) instances: Vec<(InstanceId, Reported)>,
    pub(super) traits: Traits,
}

/// What there is to say of a name besides its instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// When its node took it, in milliseconds since 1970, if no other node is to have it.
    pub(crate) claim: Option<u64>,
    pub(crate) labels: Arc<Labels>,
    /// What its instances understand, if that is known.
    pub(crate) methods: Option<Arc<[MethodId]>>,
}

impl Traits {
    /// What peers are told who know `known`.
    pub(super) fn told(&self, name: &str, known: &Self) -> (Option<Description>, Option<Understood>) {
        let Self { claim, labels, methods } = self;
        let is_described = (claim, labels) != (&known.claim, &known.labels);
        let description = Description { name: name.to_owned(), claim: *claim, labels: Labels::clone(labels) };
        let methods = methods.as_ref().filter(|methods| methods.len() <= MAX_METHODS);
        let is_understood = methods != known.methods.as_ref();
        let understood =
            methods.map(|methods| Understood { name: name.to_owned(), methods: methods.to_vec() });
        (is_described.then_some(description), understood.filter(|_| is_understood))
    }
}

impl Entry {
    /// `before` is what was known of the name: instances that stay are those of before.
    pub(super) fn new(
        interface: Arc<str>,
        instances: Vec<InstanceId>,
        traits: Traits,
        before: Option<&Self>,
    ) -> Self {
        let before: HashMap<_, _> =
            before.into_iter().flat_map(|entry| entry.instances.iter().cloned()).collect();
        let load = |instance| before.get(&instance).cloned().unwrap_or_default();
        let instances = instances.into_iter().map(|instance| (instance, load(instance))).collect();
        Self { interface, instances, traits }
    }

    /// The entry, as peers are told.
    pub(super) fn told(&self, name: &str) -> NameEntry {
        let instances = self.instances.iter().map(|(instance, _)| *instance).collect();
        NameEntry { name: name.to_owned(), interface: self.interface.to_string(), instances }
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
    ahead: BTreeMap<String, Ahead>,
    /// Whether its connection was lost and is being made again.
    pub(super) is_away: bool,
}

/// What was said of a name before the name itself.
#[derive(Debug, Default)]
struct Ahead {
    described: Option<(Option<u64>, Arc<Labels>)>,
    methods: Option<Arc<[MethodId]>>,
}

impl Ahead {
    /// What was said last of each.
    fn over(self, mut before: Traits) -> Traits {
        if let Some((claim, labels)) = self.described {
            (before.claim, before.labels) = (claim, labels);
        }
        before.methods = self.methods.or(before.methods);
        before
    }
}

impl PeerNames {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        let (entries, ahead) = (BTreeMap::new(), BTreeMap::new());
        Self { incarnation, entries, instances: 0, ahead, is_away: false }
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
        earlier: Option<Entry>,
        limits: &Limits,
    ) {
        let before = self.entries.remove(name);
        self.instances -= before.as_ref().map_or(0, |entry| entry.instances.len());
        let ahead = self.ahead.remove(name).unwrap_or_default();
        instances.truncate(limits.instances - self.instances);
        if instances.is_empty() || self.entries.len() >= limits.names {
            return;
        }
        self.instances += instances.len();
        let before = before.or(earlier);
        let traits = ahead.over(before.as_ref().map(|entry| entry.traits.clone()).unwrap_or_default());
        self.entries.insert(name.to_owned(), Entry::new(interface, instances, traits, before.as_ref()));
    }

    /// Notes what is said of a name. Gives the name, if it is known already.
    pub(super) fn describe(&mut self, description: Description, names_per_peer: usize) -> Option<String> {
        let Description { name, claim, labels } = description;
        let described = Some((claim, Arc::new(labels)));
        self.note(name, Ahead { described, ..Ahead::default() }, names_per_peer)
    }

    /// Notes what is understood under a name. Gives the name, if it is known already.
    pub(super) fn understand(&mut self, understood: Understood, names_per_peer: usize) -> Option<String> {
        let Understood { name, methods } = understood;
        self.note(name, Ahead { methods: Some(methods.into()), ..Ahead::default() }, names_per_peer)
    }

    /// Notes what its instances have to do; of others nothing.
    pub(super) fn load(&self, loads: &[(InstanceId, u32)]) {
        let told: HashMap<_, _> = loads.iter().copied().collect();
        for (instance, reported) in self.entries.values().flat_map(|entry| &entry.instances) {
            if let Some(load) = told.get(instance) {
                reported.set(*load);
            }
        }
    }

    fn note(&mut self, name: String, said: Ahead, names_per_peer: usize) -> Option<String> {
        // Also of a name that is known: it may be forgotten by the first of several frames, before one of them names it again.
        if self.ahead.len() < names_per_peer || self.ahead.contains_key(&name) {
            let ahead = self.ahead.entry(name.clone()).or_default();
            ahead.described = said.described.clone().or(ahead.described.take());
            ahead.methods = said.methods.clone().or(ahead.methods.take());
        }
        let entry = self.entries.get_mut(&name)?;
        entry.traits = said.over(std::mem::take(&mut entry.traits));
        Some(name)
    }
}
