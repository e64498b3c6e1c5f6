//! The directory: which name has which instances on which node. Each node is the only writer of its own entries.
//!
//! A node may withdraw names of its own: from then on they are known to itself alone. It may claim a name for itself: of several
//! nodes that do, one has it.
//!
//! Invariant: values and decisions only; what a peer says is applied by its connection's owner.

mod entry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::cluster::withdrawal::Withdraw;
use crate::config::{Labels, Limits};
use crate::id::{Address, Incarnation, InstanceId, MethodId, NodeId};
use crate::policy::balance::reported::Reported;
use crate::proto::described::{Described, Description, Understood};
use crate::proto::frame::{Frame, NameEntry, Names};

pub(crate) use entry::Traits;
use entry::{Entry, PeerNames, Withdrawn};

/// The names of the whole cluster, as far as this node knows.
#[derive(Debug)]
pub(crate) struct Directory {
    me: (NodeId, Incarnation),
    own: BTreeMap<String, Entry>,
    withdrawn: Withdrawn,
    limits: Limits,
    peers: BTreeMap<NodeId, PeerNames>,
    /// What `own` and `peers` say together, kept name by name as they change.
    names: HashMap<Arc<str>, Arc<[Candidate]>>,
    /// The names that this node has claimed, and another one has.
    lost: BTreeSet<String>,
    /// Those of them that nobody was told of yet.
    newly_lost: Vec<(Arc<str>, NodeId)>,
}

/// The names at one moment, for everybody to read.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    names: HashMap<Arc<str>, Arc<[Candidate]>>,
}

/// An instance that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: Address,
    pub(crate) interface: Arc<str>,
    pub(crate) labels: Arc<Labels>,
    /// What it understands, if its node has said so.
    pub(crate) methods: Option<Arc<[MethodId]>>,
    /// What it has to do, as its node says.
    pub(crate) load: Reported,
    /// Whether its node claims the name for itself.
    pub(crate) is_unique: bool,
    /// Whether the connection to its node was lost and is being made again.
    pub(crate) is_away: bool,
}

impl Snapshot {
    /// All names, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &[Candidate])> {
        self.names.iter().map(|(name, candidates)| (name, &candidates[..]))
    }

    /// The instances of a name, by node and number. Empty if the name is not known.
    pub(crate) fn candidates(&self, name: &str) -> &[Candidate] {
        self.names.get(name).map_or(&[], |candidates| candidates)
    }
}

impl Directory {
    pub(crate) fn new(me: NodeId, incarnation: Incarnation, limits: Limits) -> Self {
        Self {
            me: (me, incarnation),
            own: BTreeMap::new(),
            withdrawn: Withdrawn::default(),
            limits,
            peers: BTreeMap::new(),
            names: HashMap::new(),
            lost: BTreeSet::new(),
            newly_lost: Vec::new(),
        }
    }

    /// Sets this node's instances of a name; without instances the name goes. Gives what the peers are to be told, which
    /// is nothing of a name that is withdrawn, or `None` if nothing changed.
    pub(crate) fn set_own(
        &mut self,
        name: &str,
        interface: &str,
        instances: Vec<InstanceId>,
        traits: Traits,
    ) -> Option<Vec<Frame>> {
        let before = self.own.get(name);
        let entry = Entry::new(interface.into(), instances, traits, before);
        let told = entry.told(name);
        let known = before.map(|entry| entry.traits.clone()).unwrap_or_default();
        let said = entry.traits.told(name, &known);
        if entry.instances.is_empty() {
            self.own.remove(name)?;
        } else if self.own.insert(name.to_owned(), entry.clone()) == Some(entry) {
            return None;
        }
        self.refresh(name);
        let is_told = !self.withdrawn.contains(name);
        if !self.own.contains_key(name) {
            // What is registered under it later is another matter.
            self.withdrawn.names.remove(name);
            self.lost.remove(name);
        }
        if !is_told {
            return Some(vec![]);
        }
        let said = if told.instances.is_empty() { (None, None) } else { said };
        Some(frames(false, vec![told], [said]))
    }

    /// Takes names back from the peers and keeps them here. Gives what the peers are to be told.
    pub(crate) fn withdraw(&mut self, what: &Withdraw) -> Vec<Frame> {
        let chosen: Vec<String> = match what {
            Withdraw::All => self.own.keys().cloned().collect(),
            Withdraw::Names(names) => names.iter().map(ToString::to_string).collect(),
        };
        let mut entries = vec![];
        for name in chosen {
            if let Some(entry) = self.own.get(&name)
                && !self.withdrawn.contains(&name)
            {
                entries.push(NameEntry { instances: vec![], ..entry.told(&name) });
                self.withdrawn.names.insert(name);
            }
        }
        self.withdrawn.all |= *what == Withdraw::All;
        frames(false, entries, [])
    }

    /// All that this node says of itself, for a peer that is new.
    pub(crate) fn own_names(&self) -> Vec<Frame> {
        let told = self.told();
        let said: Vec<_> =
            told.clone().map(|(name, entry)| entry.traits.told(name, &Traits::default())).collect();
        frames(true, told.map(|(name, entry)| entry.told(name)).collect(), said)
    }

    /// A peer said something of itself. Gives whether anything changed.
    pub(crate) fn apply(&mut self, peer: &NodeId, incarnation: Incarnation, names: Names) -> bool {
        let mut changed = self.begin_life(peer, incarnation);
        let limits = self.limits;
        let known = self.peer(peer, incarnation);
        let mut before = BTreeMap::new();
        if names.complete {
            before = known.take_all();
            // What is not idle is told behind this.
            before.values().flat_map(|entry| &entry.instances).for_each(|(_, load)| load.set(0));
            changed.extend(before.keys().cloned());
        }
        for NameEntry { name, interface, instances } in names.entries {
            let earlier = before.remove(&name);
            known.set(&name, interface.into(), instances, earlier, &limits);
            changed.insert(name);
        }
        self.refresh_all(&changed)
    }

    /// A peer said more of its names. Gives whether anything changed: what its instances have to do is no change.
    pub(crate) fn describe(&mut self, peer: &NodeId, incarnation: Incarnation, described: Described) -> bool {
        let mut changed = self.begin_life(peer, incarnation);
        let names_per_peer = self.limits.names;
        let known = self.peer(peer, incarnation);
        match described {
            Described::Traits(all) => {
                changed.extend(all.into_iter().filter_map(|one| known.describe(one, names_per_peer)));
            }
            Described::Methods(all) => {
                changed.extend(all.into_iter().filter_map(|one| known.understand(one, names_per_peer)));
            }
            Described::Loads(loads) => known.load(&loads),
        }
        self.refresh_all(&changed)
    }

    /// Looks at what the own instances have to do that peers know of, and gives what has changed.
    pub(crate) fn measure(&self, load: impl Fn(InstanceId) -> u32) -> Vec<(InstanceId, u32)> {
        let instances = self.told().flat_map(|(_, entry)| &entry.instances);
        let changed = instances.filter_map(|(instance, reported)| {
            let now = load(*instance);
            let has_changed = now != reported.get();
            reported.set(now);
            has_changed.then_some((*instance, now))
        });
        changed.collect()
    }

    /// What was told of the own instances' loads, for a peer that is new.
    pub(crate) fn own_loads(&self) -> Vec<(InstanceId, u32)> {
        let loads = self.told().flat_map(|(_, entry)| &entry.instances);
        let loads = loads.map(|(instance, reported)| (*instance, reported.get()));
        loads.filter(|(_, load)| *load != 0).collect()
    }

    /// A peer is gone, and what it ran with it. Gives whether anything changed.
    pub(crate) fn remove_peer(&mut self, peer: &NodeId, incarnation: Incarnation) -> bool {
        if self.peers.get(peer).is_none_or(|known| known.incarnation != incarnation) {
            return false;
        }
        let gone = self.forget(peer);
        self.refresh_all(&gone)
    }

    /// The connection to a peer was lost and is being made again, or it stands again. Gives whether anything changed.
    pub(crate) fn peer_is_away(&mut self, peer: &NodeId, incarnation: Incarnation, is_away: bool) -> bool {
        let Some(known) = self.peers.get_mut(peer).filter(|known| known.incarnation == incarnation) else {
            return false;
        };
        if std::mem::replace(&mut known.is_away, is_away) == is_away {
            return false;
        }
        let names = known.names();
        self.refresh_all(&names)
    }

    /// The names that this node had claimed and that another one has, each once.
    pub(crate) fn take_lost(&mut self) -> Vec<(Arc<str>, NodeId)> {
        std::mem::take(&mut self.newly_lost)
    }

    /// The names as they are now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { names: self.names.clone() }
    }

    /// The own names that peers are told.
    fn told(&self) -> impl Iterator<Item = (&String, &Entry)> + Clone {
        self.own.iter().filter(|(name, _)| !self.withdrawn.contains(name))
    }

    /// Forgets an earlier life of a peer. Gives its names.
    fn begin_life(&mut self, peer: &NodeId, incarnation: Incarnation) -> BTreeSet<String> {
        let is_another = self.peers.get(peer).is_some_and(|known| known.incarnation != incarnation);
        if is_another { self.forget(peer) } else { BTreeSet::new() }
    }

    fn forget(&mut self, peer: &NodeId) -> BTreeSet<String> {
        self.peers.remove(peer).map(|known| known.names()).unwrap_or_default()
    }

    fn peer(&mut self, peer: &NodeId, incarnation: Incarnation) -> &mut PeerNames {
        self.peers.entry(peer.clone()).or_insert_with(|| PeerNames::new(incarnation))
    }

    fn refresh_all(&mut self, names: &BTreeSet<String>) -> bool {
        names.iter().fold(false, |any, name| self.refresh(name) | any)
    }

    /// Puts together anew what is known of one name. Gives whether that changed anything.
    fn refresh(&mut self, name: &str) -> bool {
        let (me, incarnation) = &self.me;
        let own = self.own.get(name).map(|entry| (me, *incarnation, entry, false));
        let peers = self
            .peers
            .iter()
            .filter_map(|(node, known)| Some((node, known.incarnation, known.entry(name)?, known.is_away)));
        let mut entries: Vec<_> = own.into_iter().chain(peers).collect();
        let claims = entries.iter().filter_map(|(node, _, entry, _)| Some((entry.traits.claim?, *node)));
        if let Some((_, owner)) = claims.min() {
            let is_mine = own.is_some_and(|(_, _, entry, _)| entry.traits.claim.is_some());
            if is_mine && owner != me && !self.withdrawn.contains(name) && self.lost.insert(name.to_owned()) {
                self.newly_lost.push((name.into(), owner.clone()));
            }
            let owner = owner.clone();
            entries.retain(|(node, ..)| **node == owner);
        }
        let mut candidates: Vec<Candidate> = entries
            .into_iter()
            .flat_map(|(node, incarnation, entry, is_away)| {
                entry.instances.iter().map(move |(instance, load)| Candidate {
                    address: Address { node: node.clone(), incarnation, instance: *instance },
                    interface: Arc::clone(&entry.interface),
                    labels: Arc::clone(&entry.traits.labels),
                    methods: entry.traits.methods.clone(),
                    load: load.clone(),
                    is_unique: entry.traits.claim.is_some(),
                    is_away,
                })
            })
            .collect();
        candidates.sort_by(|a, b| {
            let (a, b) = (&a.address, &b.address);
            a.node.cmp(&b.node).then(a.instance.cmp(&b.instance))
        });
        if self.names.get(name).map_or(&[][..], |known| known) == candidates {
            return false;
        }
        if candidates.is_empty() {
            self.names.remove(name);
        } else {
            self.names.insert(name.into(), candidates.into());
        }
        true
    }
}

/// Packs what is said of names, behind what is said of each besides its instances.
fn frames(
    complete: bool,
    entries: Vec<NameEntry>,
    said: impl IntoIterator<Item = (Option<Description>, Option<Understood>)>,
) -> Vec<Frame> {
    let (descriptions, understood): (Vec<_>, Vec<_>) = said.into_iter().unzip();
    let names = Names::frames(complete, entries).into_iter().map(Frame::Names);
    let described = Described::traits(descriptions.into_iter().flatten().collect());
    described.chain(Described::methods(understood.into_iter().flatten().collect())).chain(names).collect()
}

#[cfg(test)]
mod tests;
