//! The directory: which name has which instances on which node. Each node is the only writer of its own entries.
//!
//! A node may withdraw names of its own: from then on they are known to itself alone.
//!
//! Invariant: values and decisions only; what a peer says is applied by its connection's owner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::cluster::withdrawal::Withdraw;
use crate::id::{Address, Incarnation, InstanceId, NodeId};
use crate::proto::frame::{NameEntry, Names};

/// The names of the whole cluster, as far as this node knows.
#[derive(Debug)]
pub(crate) struct Directory {
    me: (NodeId, Incarnation),
    own: BTreeMap<String, Entry>,
    withdrawn: Withdrawn,
    /// The most names that one peer may register here. What is above is passed over.
    names_per_peer: usize,
    peers: BTreeMap<NodeId, PeerNames>,
    /// What `own` and `peers` say together, kept name by name as they change.
    names: HashMap<Arc<str>, Arc<[Candidate]>>,
}

/// What a peer has said of itself.
#[derive(Debug)]
struct PeerNames {
    incarnation: Incarnation,
    names: BTreeMap<String, Entry>,
    /// Whether its connection was lost and is being made again.
    is_away: bool,
}

/// Which of this node's names its peers are not told.
#[derive(Debug, Default)]
struct Withdrawn {
    /// Every name, for ever.
    all: bool,
    /// These, as long as they have instances: never more than there are own names.
    names: BTreeSet<String>,
}

impl Withdrawn {
    fn contains(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

/// One name on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    interface: Arc<str>,
    instances: Vec<InstanceId>,
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
    /// Whether the connection to its node was lost and is being made again.
    pub(crate) is_away: bool,
}

impl Snapshot {
    /// The instances of a name, by node and number. Empty if the name is not known.
    pub(crate) fn candidates(&self, name: &str) -> &[Candidate] {
        self.names.get(name).map_or(&[], |candidates| candidates)
    }
}

impl Directory {
    pub(crate) fn new(me: NodeId, incarnation: Incarnation, names_per_peer: usize) -> Self {
        Self {
            me: (me, incarnation),
            own: BTreeMap::new(),
            withdrawn: Withdrawn::default(),
            names_per_peer,
            peers: BTreeMap::new(),
            names: HashMap::new(),
        }
    }

    /// Sets this node's instances of a name; without instances the name goes. Gives what the peers are to be told, which
    /// is nothing of a name that is withdrawn, or `None` if nothing changed.
    pub(crate) fn set_own(
        &mut self,
        name: &str,
        interface: &str,
        instances: Vec<InstanceId>,
    ) -> Option<Vec<Names>> {
        let entry = Entry { interface: interface.into(), instances };
        let told = name_entry(name, &entry);
        if entry.instances.is_empty() {
            self.own.remove(name)?;
        } else if self.own.insert(name.to_owned(), entry.clone()) == Some(entry) {
            return None;
        }
        self.refresh(name);
        let is_told = !self.withdrawn.contains(name);
        if !self.own.contains_key(name) {
            self.withdrawn.names.remove(name); // what is registered under it later is another matter
        }
        Some(Names::frames(false, if is_told { vec![told] } else { vec![] }))
    }

    /// Takes names back from the peers and keeps them here. Gives what the peers are to be told.
    pub(crate) fn withdraw(&mut self, what: &Withdraw) -> Vec<Names> {
        let chosen: Vec<String> = match what {
            Withdraw::All => self.own.keys().cloned().collect(),
            Withdraw::Names(names) => names.iter().map(ToString::to_string).collect(),
        };
        let mut entries = vec![];
        for name in chosen {
            if let Some(entry) = self.own.get(&name)
                && !self.withdrawn.contains(&name)
            {
                let gone = Entry { interface: Arc::clone(&entry.interface), instances: vec![] };
                entries.push(name_entry(&name, &gone));
                self.withdrawn.names.insert(name);
            }
        }
        self.withdrawn.all |= *what == Withdraw::All;
        Names::frames(false, entries)
    }

    /// All that this node says of itself, for a peer that is new.
    pub(crate) fn own_names(&self) -> Vec<Names> {
        let told = self.own.iter().filter(|(name, _)| !self.withdrawn.contains(name));
        Names::frames(true, told.map(|(name, entry)| name_entry(name, entry)).collect())
    }

    /// A peer said something of itself. Gives whether anything changed.
    pub(crate) fn apply(&mut self, peer: &NodeId, incarnation: Incarnation, names: Names) -> bool {
        let another_life = self.peers.get(peer).is_some_and(|known| known.incarnation != incarnation);
        let mut changed: BTreeSet<String> = BTreeSet::new();
        if another_life || names.complete {
            let before = self.peers.remove(peer).map(|known| known.names).unwrap_or_default();
            changed.extend(before.into_keys());
        }
        let new = || PeerNames { incarnation, names: BTreeMap::new(), is_away: false };
        let known = &mut self.peers.entry(peer.clone()).or_insert_with(new).names;
        for NameEntry { name, interface, instances } in names.entries {
            if instances.is_empty() {
                known.remove(&name);
            } else if known.len() < self.names_per_peer || known.contains_key(&name) {
                known.insert(name.clone(), Entry { interface: interface.into(), instances });
            }
            changed.insert(name);
        }
        changed.iter().fold(false, |any, name| self.refresh(name) | any)
    }

    /// A peer is gone, and what it ran with it. Gives whether anything changed.
    pub(crate) fn remove_peer(&mut self, peer: &NodeId, incarnation: Incarnation) -> bool {
        if self.peers.get(peer).is_none_or(|known| known.incarnation != incarnation) {
            return false;
        }
        let names = self.peers.remove(peer).map(|known| known.names).unwrap_or_default();
        names.keys().fold(false, |any, name| self.refresh(name) | any)
    }

    /// The connection to a peer was lost and is being made again, or it stands again. Gives whether anything changed.
    pub(crate) fn peer_is_away(&mut self, peer: &NodeId, incarnation: Incarnation, is_away: bool) -> bool {
        let Some(known) = self.peers.get_mut(peer).filter(|known| known.incarnation == incarnation) else {
            return false;
        };
        if std::mem::replace(&mut known.is_away, is_away) == is_away {
            return false;
        }
        let names: Vec<String> = known.names.keys().cloned().collect();
        names.iter().fold(false, |any, name| self.refresh(name) | any)
    }

    /// The names as they are now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot { names: self.names.clone() }
    }

    /// Puts together anew what is known of one name. Gives whether that changed anything.
    fn refresh(&mut self, name: &str) -> bool {
        let (me, incarnation) = &self.me;
        let own = self.own.get(name).map(|entry| (me, *incarnation, entry, false));
        let peers = self.peers.iter().filter_map(|(node, PeerNames { incarnation, names, is_away })| {
            Some((node, *incarnation, names.get(name)?, *is_away))
        });
        let mut candidates: Vec<Candidate> = own
            .into_iter()
            .chain(peers)
            .flat_map(|(node, incarnation, entry, is_away)| {
                entry.instances.iter().map(move |&instance| Candidate {
                    address: Address { node: node.clone(), incarnation, instance },
                    interface: Arc::clone(&entry.interface),
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

fn name_entry(name: &str, entry: &Entry) -> NameEntry {
    NameEntry {
        name: name.to_owned(),
        interface: entry.interface.to_string(),
        instances: entry.instances.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn entry(name: &str, instances: &[u64]) -> NameEntry {
        NameEntry {
            name: name.into(),
            interface: "Counter".into(),
            instances: instances.iter().copied().map(InstanceId).collect(),
        }
    }

    fn found(directory: &Directory, name: &str) -> Vec<String> {
        directory.snapshot().candidates(name).iter().map(|c| c.address.to_string()).collect()
    }

    #[test]
    fn names_of_all_nodes_stand_together_in_order() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        directory.set_own("counter", "Counter", vec![InstanceId(7)]);
        let names = Names { complete: true, entries: vec![entry("counter", &[2, 1]), entry("other", &[3])] };
        assert!(directory.apply(&node("a"), Incarnation(1), names));
        assert_eq!(found(&directory, "counter"), ["a#1", "a#2", "b#7"]);
        assert_eq!(found(&directory, "nobody"), [""; 0]);
    }

    #[test]
    fn a_change_is_told_once_and_an_empty_entry_removes() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        let told = directory.set_own("counter", "Counter", vec![InstanceId(7)]).unwrap();
        assert_eq!(told[0].entries, [entry("counter", &[7])]);
        assert!(directory.set_own("counter", "Counter", vec![InstanceId(7)]).is_none());
        let told = directory.set_own("counter", "Counter", vec![]).unwrap();
        assert_eq!(told, [Names { complete: false, entries: vec![entry("counter", &[])] }]);
        assert!(directory.set_own("counter", "Counter", vec![]).is_none());
        assert!(found(&directory, "counter").is_empty());
    }

    #[test]
    fn a_complete_list_replaces_and_a_change_adds() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        let all = |entries| Names { complete: true, entries };
        assert!(directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1]), entry("y", &[2])])));
        assert!(!directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1]), entry("y", &[2])])));
        assert!(directory.apply(
            &node("a"),
            Incarnation(1),
            Names { complete: false, entries: vec![entry("z", &[3])] }
        ));
        assert!(directory.apply(&node("a"), Incarnation(1), all(vec![entry("x", &[1])])));
        assert_eq!(found(&directory, "x"), ["a#1"]);
        assert!(found(&directory, "y").is_empty() && found(&directory, "z").is_empty());
    }

    #[test]
    fn a_withdrawn_name_is_known_here_and_told_to_nobody_until_it_has_gone() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        directory.set_own("x", "Counter", vec![InstanceId(1)]);
        directory.set_own("y", "Counter", vec![InstanceId(2)]);
        let names = || Withdraw::Names(vec!["x".into(), "nobody".into()]);
        let gone = Names { complete: false, entries: vec![entry("x", &[])] };
        assert_eq!(directory.withdraw(&names()), [gone]);
        assert_eq!(directory.withdraw(&names()), [], "it is told once");
        let all = |entries| Names { complete: true, entries };
        assert_eq!(directory.own_names(), [all(vec![entry("y", &[2])])]);
        assert_eq!(found(&directory, "x"), ["b#1"]);
        assert_eq!(
            directory.set_own("x", "Counter", vec![InstanceId(3)]),
            Some(vec![]),
            "a change stays here"
        );
        assert_eq!(found(&directory, "x"), ["b#3"]);

        assert_eq!(directory.set_own("x", "Counter", vec![]), Some(vec![]));
        assert!(
            !directory.set_own("x", "Counter", vec![InstanceId(4)]).unwrap().is_empty(),
            "a new beginning"
        );
    }

    #[test]
    fn who_withdrew_all_names_tells_none_any_more() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        directory.set_own("x", "Counter", vec![InstanceId(1)]);
        directory.set_own("y", "Counter", vec![InstanceId(2)]);
        directory.withdraw(&Withdraw::Names(vec!["x".into()]));
        let gone = Names { complete: false, entries: vec![entry("y", &[])] };
        assert_eq!(directory.withdraw(&Withdraw::All), [gone], "of x they know already");
        for instances in [vec![], vec![InstanceId(3)]] {
            assert_eq!(directory.set_own("x", "Counter", instances), Some(vec![]));
        }
        assert_eq!(directory.set_own("z", "Counter", vec![InstanceId(4)]), Some(vec![]));
        assert_eq!(directory.own_names(), [Names { complete: true, entries: vec![] }]);
        assert_eq!(found(&directory, "z"), ["b#4"]);
    }

    #[test]
    fn the_end_of_an_earlier_life_does_not_touch_the_later_one() {
        let mut directory = Directory::new(node("b"), Incarnation(1), 64);
        let names = || Names { complete: true, entries: vec![entry("x", &[1])] };
        directory.apply(&node("a"), Incarnation(1), names());
        directory.apply(&node("a"), Incarnation(2), names());
        assert!(!directory.remove_peer(&node("a"), Incarnation(1)));
        assert_eq!(found(&directory, "x"), ["a#1"]);
        assert!(directory.remove_peer(&node("a"), Incarnation(2)));
        assert!(found(&directory, "x").is_empty());
    }
}
