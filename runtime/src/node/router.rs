//! Where a name leads, call by call, and where a request from the wire goes.
//!
//! Invariant: reads snapshots; waits for nothing.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::cluster::coordinator::Names;
use crate::cluster::directory::Candidate;
use crate::config::{Access, Asked};
use crate::error::CallError;
use crate::event::{DeadLetterReason, StopReason};
use crate::id::{Address, InstanceId, NodeId};
use crate::node::topic::table::Topics;
use crate::policy::budget::RetryBudget;
use crate::policy::rendezvous::Key;
use crate::port::{Inbox, Intake, Link, Links, Peer, WatchId, Watcher};
use crate::proto::frame::{Request, RequestHead};
use crate::proto::watch::Watch;
use crate::service::handle::{Remote, Routed, Target};
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

/// A name, and whose turn it is.
pub(crate) struct NameRoute<M> {
    name: Arc<str>,
    only_on: Option<NodeId>,
    key: Option<Key>,
    host: Arc<Host>,
    names: Arc<Names>,
    links: Arc<dyn Links>,
    turn: AtomicUsize,
    budget: RetryBudget,
    resolved: ArcSwapOption<Resolved<M>>,
}

/// The name's instances, as far as a version of the directory knows.
struct Resolved<M> {
    version: u64,
    targets: Vec<Target<M>>,
}

impl<M: WireMessage> NameRoute<M> {
    pub(crate) fn new(
        name: Arc<str>,
        only_on: Option<NodeId>,
        key: Option<Key>,
        host: Arc<Host>,
        names: Arc<Names>,
        links: Arc<dyn Links>,
    ) -> Self {
        let (turn, resolved, budget) = (AtomicUsize::new(0), ArcSwapOption::empty(), RetryBudget::default());
        Self { name, only_on, key, host, names, links, turn, budget, resolved }
    }

    /// The instances now. The work is done once for each version of the directory.
    fn resolve(&self) -> Arc<Resolved<M>> {
        // Read before the names: should they change meanwhile, the next call looks again.
        let version = self.names.version();
        let known = self.resolved.load();
        if let Some(resolved) = &*known
            && resolved.version == version
        {
            return Arc::clone(resolved);
        }
        let mut remotes: HashMap<&Address, &Target<M>> = HashMap::new();
        if let Some(resolved) = &*known {
            remotes.extend(resolved.targets.iter().filter_map(|target| Some((target.address()?, target))));
        }
        let names = self.names.current();
        let mut candidates: Vec<_> = names
            .candidates(&self.name)
            .iter()
            .filter(|c| is_candidate::<M>(c, self.only_on.as_ref()))
            .collect();
        // Those whose node is being looked for are waited for if there is nobody else.
        if candidates.iter().any(|candidate| !candidate.is_away) {
            candidates.retain(|candidate| !candidate.is_away);
        }
        let candidates = candidates.into_iter();
        let targets = candidates.filter_map(|candidate| match remotes.get(&candidate.address) {
            Some(known) => Some((*known).clone()),
            None => self.target(&candidate.address),
        });
        let mut targets: Vec<_> = targets.collect();
        if let Some(key) = self.key {
            let weight = |address: &Address| key.weight(address.node.as_str(), address.instance.0);
            targets.sort_by_cached_key(|target| std::cmp::Reverse(target.address().map(weight)));
        }
        let resolved = Arc::new(Resolved { version, targets });
        self.resolved.store(Some(Arc::clone(&resolved)));
        resolved
    }

    fn target(&self, address: &Address) -> Option<Target<M>> {
        if address.node == self.host.node {
            let handle = self.host.resident(address.instance)?.core.handle::<M>()?;
            return Some(handle.target().clone());
        }
        let (host, links) = (Arc::clone(&self.host), Arc::clone(&self.links));
        let name = Some(Arc::clone(&self.name));
        Some(Target::Remote(Arc::new(Remote::new(address.clone(), name, None, host, links))))
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
        self.key
    }

    fn with_key(&self, key: Key) -> Arc<dyn Routed<M>> {
        let (name, only_on) = (Arc::clone(&self.name), self.only_on.clone());
        let (host, names, links) = (Arc::clone(&self.host), Arc::clone(&self.names), Arc::clone(&self.links));
        Arc::new(Self::new(name, only_on, Some(key), host, names, links))
    }

    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn pick(&self, refusals: &Refusals) -> Result<Target<M>, CallError> {
        let resolved = self.resolve();
        // Who tries again takes no turn: else of two instances the one that refuses would get the first try of every call.
        // And a key's instances have an order of their own.
        let takes = usize::from(refusals.is_empty() && self.key.is_none());
        let turn = self.turn.fetch_add(takes, Ordering::Relaxed);
        let (before, from) = resolved.targets.split_at(turn.checked_rem(resolved.targets.len()).unwrap_or(0));
        if let Some(target) = from.iter().chain(before).find(|target| !has_refused(target, refusals)) {
            return Ok(target.clone());
        }
        let place = self.only_on.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        Err(CallError::NoRoute(format!("no instance of {:?} is known{place}", &*self.name).into()))
    }

    fn has_any(&self, refusals: &Refusals) -> bool {
        self.resolve().targets.iter().any(|target| !has_refused(target, refusals))
    }

    fn has_other(&self, refusals: &Refusals, this: &Address) -> bool {
        let resolved = self.resolve();
        let mut others = resolved.targets.iter().filter(|target| target.address() != Some(this));
        others.any(|target| !has_refused(target, refusals))
    }

    fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    fn targets(&self) -> Vec<Target<M>> {
        self.resolve().targets.clone()
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
