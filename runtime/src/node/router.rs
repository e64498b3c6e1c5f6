//! Where a name leads, call by call, and where a request from the wire goes.
//!
//! Invariant: reads snapshots; waits for nothing.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::cluster::coordinator::Names;
use crate::cluster::directory::Candidate;
use crate::config::{Access, Asked};
use crate::error::CallError;
use crate::event::{DeadLetterReason, StopReason};
use crate::id::{Address, InstanceId, NodeId};
use crate::node::topic::table::Topics;
use crate::policy::balance::candidates::{Balancer as _, Candidate as Offered, Candidates, Draw};
use crate::policy::balance::kinds::Balance;
use crate::policy::balance::offer;
use crate::policy::balance::pool::Pool;
use crate::policy::budget::RetryBudget;
use crate::policy::rendezvous::Key;
use crate::port::{Inbox, Intake, Link, Links, Peer, WatchId, Watcher};
use crate::proto::frame::{Request, RequestHead};
use crate::proto::watch::Watch;
use crate::service::deadlines::Tick;
use crate::service::handle::{Picked, Remote, Routed, Target, Way};
use crate::service::host::{Host, Resident};
use crate::service::message::{Message, Method, WireMessage};
use crate::service::reroute::Refusals;
use crate::time;

/// Takes requests of peers to the instances of this node.
#[derive(Debug)]
pub(crate) struct NodeInbox {
    pub(crate) host: Arc<Host>,
    pub(crate) topics: Arc<Topics>,
    pub(crate) access: Arc<ArcSwap<Access>>,
}

impl Inbox for NodeInbox {
    fn request(&self, link: &Arc<Link>, request: Request) -> Intake {
        let head = &request.head;
        if let Some(Resident { core, deliver: Some(deliver), .. }) = self.host.resident(head.instance) {
            let access = self.access.load();
            if !access.is_unlimited() {
                let method = core.methods().iter().find(|method| method.id().name == head.method.name);
                let asked = method.map_or(Asked::Unknown, |method| Asked::Method(method.name()));
                if !access.allows(link.peer().node.as_str(), core.service(), asked) {
                    return self.deny(link, head, core.service(), method);
                }
            }
            // A message that is not taken in is dropped here, and its arguments' `Drop` is the user's and may panic: that is
            // one request's matter, whose caller has its answer, and not the connection's.
            let deliver = || deliver.deliver(link, request, time::now());
            return catch_unwind(AssertUnwindSafe(deliver)).unwrap_or_else(|_| {
                self.host.count_panic();
                Intake::Done
            });
        }
        if let Some(hub) = self.topics.hub(head.instance) {
            if !self.access.load().allows(link.peer().node.as_str(), hub.name(), Asked::Any) {
                return self.deny(link, head, hub.name(), None);
            }
            hub.arrive(link, request);
            return Intake::Done;
        }
        let handler = format!("#{}.{:08x}", head.instance, head.method.name);
        self.host.dead_letter(handler, head.wants_reply, DeadLetterReason::NoInstance);
        if head.wants_reply {
            let detail = format!("node {} runs no instance {}, or no longer", self.host.node, head.instance);
            link.fail(head.id, &CallError::Stopped(detail.into()));
        }
        Intake::Gone
    }

    fn has(&self, instance: InstanceId) -> bool {
        let resident = self.host.resident(instance);
        resident.is_some_and(|resident| resident.deliver.is_some()) || self.topics.hub(instance).is_some()
    }

    fn watch(&self, link: &Arc<Link>, watch: Watch) {
        // What cannot be called over the network cannot be watched over it either.
        let peer = link.peer().node.as_str();
        let resident = self.host.resident(watch.instance).filter(|resident| {
            let service = resident.core.service();
            resident.deliver.is_some() && self.access.load().allows(peer, service, Asked::Any)
        });
        let watched = match (resident, watch.linked) {
            (None, _) => Err(StopReason::Gone),
            (Some(resident), None) => resident.core.watchers().add(watcher(link), WatchId(watch.id)),
            (Some(resident), Some(linker)) => {
                let linker = address_at(link, linker);
                resident.core.watchers().link(watcher(link), WatchId(watch.id), &linker)
            }
        };
        if let Err(reason) = watched {
            link.down(watch.id, reason);
        }
    }

    fn unwatch(&self, link: &Arc<Link>, watch: Watch, reason: Option<StopReason>) {
        let Some(Resident { core, .. }) = self.host.resident(watch.instance) else { return };
        let (watcher, id) = (watcher(link), WatchId(watch.id));
        match (watch.linked, reason) {
            (Some(linker), Some(reason)) => {
                core.linker_ended(&watcher, id, &address_at(link, linker), &reason);
            }
            _ => {
                core.watchers().remove(&watcher, id);
            }
        }
    }
}

impl NodeInbox {
    /// Answers what the peer may not do here.
    fn deny(&self, link: &Link, head: &RequestHead, service: &str, method: Option<&Method>) -> Intake {
        let handler = match method {
            Some(method) => format!("{service}.{}", method.name()),
            None => service.to_owned(),
        };
        if head.wants_reply {
            let (node, peer) = (&self.host.node, &link.peer().node);
            let detail = format!("node {node} does not allow {handler:?} to node {peer}");
            link.fail(head.id, &CallError::Denied(detail.into()));
        }
        self.host.dead_letter(handler, head.wants_reply, DeadLetterReason::Denied);
        Intake::Done
    }
}

/// The peer, as one that watches.
fn watcher(link: &Arc<Link>) -> Arc<dyn Watcher> {
    Arc::clone(link) as Arc<dyn Watcher>
}

/// The address of one of the peer's instances.
fn address_at(link: &Link, instance: InstanceId) -> Address {
    let Peer { node, incarnation, .. } = link.peer().clone();
    Address { node, incarnation, instance }
}

/// A name, and how it picks.
pub(crate) struct NameRoute<M> {
    name: Arc<str>,
    only_on: Option<NodeId>,
    way: Way,
    node: Surroundings,
    /// What the node's handles to this name have learned.
    pool: Arc<Pool>,
    /// How many calls were made.
    turn: AtomicU64,
    seed: u64,
    budget: RetryBudget,
    resolved: ArcSwapOption<Resolved<M>>,
}

/// The node that looks.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) host: Arc<Host>,
    pub(crate) names: Arc<Names>,
    pub(crate) links: Arc<dyn Links>,
}

/// The name's instances, as far as a version of the directory knows.
struct Resolved<M> {
    version: u64,
    /// In the order of the key, if there is one.
    targets: Vec<Target<M>>,
    /// The same instances in the same order, as a balancer sees them.
    candidates: Vec<Offered>,
}

impl<M: WireMessage> NameRoute<M> {
    pub(crate) fn new(
        name: Arc<str>,
        only_on: Option<NodeId>,
        way: Way,
        node: Surroundings,
        pool: Arc<Pool>,
    ) -> Self {
        let (turn, resolved, budget) = (AtomicU64::new(0), ArcSwapOption::empty(), RetryBudget::default());
        let seed = Draw::seed(node.host.next_seed());
        Self { name, only_on, way, node, pool, turn, seed, budget, resolved }
    }

    /// The instances now. The work is done once for each version of the directory.
    fn resolve<R>(&self, look: impl FnOnce(&Resolved<M>) -> R) -> R {
        // Read before the names: should they change meanwhile, the next call looks again.
        let version = self.node.names.version();
        let known = self.resolved.load();
        match &*known {
            Some(resolved) if resolved.version == version => look(resolved),
            _ => look(&self.resolve_anew(version, known.as_deref())),
        }
    }

    #[cold]
    fn resolve_anew(&self, version: u64, known: Option<&Resolved<M>>) -> Arc<Resolved<M>> {
        let mut remotes: HashMap<&Address, &Target<M>> = HashMap::new();
        if let Some(resolved) = known {
            remotes.extend(resolved.targets.iter().filter_map(|target| Some((target.address()?, target))));
        }
        let names = self.node.names.current();
        let all = names.candidates(&self.name);
        let now = self.node.host.deadlines.now().nanos();
        self.pool.update(version, all.iter().map(|known| (&known.address, known.is_away)), now);
        let mut candidates: Vec<_> =
            all.iter().filter(|c| is_candidate::<M>(c, self.only_on.as_ref())).collect();
        // Those whose node is being looked for are waited for if there is nobody else.
        if candidates.iter().any(|candidate| !candidate.is_away) {
            candidates.retain(|candidate| !candidate.is_away);
        }
        if let Some(key) = self.order() {
            let weight = |address: &Address| key.weight(address.node.as_str(), address.instance.0);
            candidates.sort_by_cached_key(|candidate| std::cmp::Reverse(weight(&candidate.address)));
        }
        let targets = candidates.into_iter().filter_map(|candidate| match remotes.get(&candidate.address) {
            Some(known) => Some((*known).clone()),
            None => self.target(&candidate.address),
        });
        let targets: Vec<_> = targets.collect();
        let offered = targets.iter().filter_map(Target::address).map(|address| {
            let is_local = address.node == self.node.host.node;
            Offered::new(address.clone(), is_local, self.pool.load(address))
        });
        let resolved = Arc::new(Resolved { version, candidates: offered.collect(), targets });
        self.resolved.store(Some(Arc::clone(&resolved)));
        resolved
    }

    fn target(&self, address: &Address) -> Option<Target<M>> {
        let Surroundings { host, links, .. } = &self.node;
        if address.node == host.node {
            let handle = host.resident(address.instance)?.core.handle::<M>()?;
            return Some(handle.target().clone());
        }
        let (host, links, name) = (Arc::clone(host), Arc::clone(links), Some(Arc::clone(&self.name)));
        Some(Target::Remote(Arc::new(Remote::new(address.clone(), name, None, host, links))))
    }

    /// The key in whose order the instances are, if in one's.
    fn order(&self) -> Option<Key> {
        match &self.way {
            Way::Key(key) => Some(*key),
            Way::Balance(Balance::Consistent) => Some(Key::of(self.node.host.node.as_str())),
            Way::Balance(_) | Way::Own(_) => None,
        }
    }

    /// The place of one that has not refused.
    fn choose(&self, resolved: &Resolved<M>, refusals: &Refusals, now: u64) -> Option<usize> {
        let all = &resolved.candidates[..];
        let has_refused = |candidate: &Offered| refusals.contains(candidate.address());
        let balance = match &self.way {
            // By their order alone: all nodes are to agree, whatever each has met with.
            Way::Key(_) | Way::Balance(Balance::Consistent) => {
                return offer::places(all, has_refused).next();
            }
            Way::Balance(balance) => Ok(*balance),
            Way::Own(own) => Err(own),
        };
        // Who tries again takes no turn: else of two instances the one that refuses would get the first try of every call.
        let turn = self.turn.fetch_add(u64::from(refusals.is_empty()), Ordering::Relaxed);
        let draw = Draw::new(self.seed, turn);
        let offered;
        let candidates = if refusals.is_empty() && self.pool.is_settled(now) {
            Candidates::new(all, None, draw, now)
        } else {
            offered = offer::offer(all, has_refused, now, draw.random());
            Candidates::new(all, Some(&offered), draw, now)
        };
        if candidates.is_empty() {
            return None;
        }
        let index = match balance {
            Ok(balance) => balance.pick(candidates),
            Err(own) => own.pick(candidates),
        };
        candidates.place(index).or_else(|| candidates.place(Balance::Random.pick(candidates)))
    }

    fn measures(&self) -> bool {
        match &self.way {
            Way::Balance(balance) => balance.measures(),
            Way::Key(_) => false,
            Way::Own(_) => true,
        }
    }
}

impl<M: WireMessage> Routed<M> for NameRoute<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn only_on(&self) -> Option<&NodeId> {
        self.only_on.as_ref()
    }

    fn key(&self) -> Option<Key> {
        if let Way::Key(key) = self.way { Some(key) } else { None }
    }

    fn with(&self, way: Way) -> Arc<dyn Routed<M>> {
        let (name, only_on) = (Arc::clone(&self.name), self.only_on.clone());
        Arc::new(Self::new(name, only_on, way, self.node.clone(), Arc::clone(&self.pool)))
    }

    fn host(&self) -> &Arc<Host> {
        &self.node.host
    }

    fn pick(&self, refusals: &Refusals, now: Tick) -> Result<Picked<M>, CallError> {
        self.resolve(|resolved| {
            let now = now.nanos();
            if let [only] = &resolved.targets[..]
                && refusals.is_empty()
            {
                return Ok(Picked { target: only.clone(), flight: None });
            }
            let Some(place) = self.choose(resolved, refusals, now) else { return Err(self.nobody()) };
            let flight = resolved.candidates[place].load().begin(now, self.measures());
            Ok(Picked { target: resolved.targets[place].clone(), flight: Some(flight) })
        })
    }

    fn has_any(&self, refusals: &Refusals) -> bool {
        self.resolve(|resolved| resolved.targets.iter().any(|target| !has_refused(target, refusals)))
    }

    fn has_other(&self, refusals: &Refusals, this: &Address) -> bool {
        self.resolve(|resolved| {
            let mut others = resolved.targets.iter().filter(|target| target.address() != Some(this));
            others.any(|target| !has_refused(target, refusals))
        })
    }

    fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    fn targets(&self) -> Vec<Target<M>> {
        self.resolve(|resolved| resolved.targets.clone())
    }
}

impl<M> NameRoute<M> {
    #[cold]
    fn nobody(&self) -> CallError {
        let place = self.only_on.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        CallError::NoRoute(format!("no instance of {:?} is known{place}", &*self.name).into())
    }
}

fn has_refused<M>(target: &Target<M>, refusals: &Refusals) -> bool {
    target.address().is_some_and(|address| refusals.contains(address))
}

/// Whether an instance is one that a handle for `M`, perhaps on one node only, may lead to.
pub(crate) fn is_candidate<M: Message>(candidate: &Candidate, only_on: Option<&NodeId>) -> bool {
    *candidate.interface == *M::INTERFACE && only_on.is_none_or(|node| *node == candidate.address.node)
}

impl<M> fmt::Debug for NameRoute<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameRoute")
            .field("name", &self.name)
            .field("only_on", &self.only_on)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
