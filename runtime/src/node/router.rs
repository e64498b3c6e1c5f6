//! Where a request from the wire goes.
//!
//! Invariant: waits for nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{Access, Asked};
use crate::error::CallError;
use crate::event::{DeadLetterReason, StopReason};
use crate::id::{Address, InstanceId};
use crate::node::central::{self, CONFIG};
use crate::node::manager;
use crate::node::topic::table::Topics;
use crate::port::{Inbox, Intake, Link, Peer, WatchId, Watcher};
use crate::proto::frame::{Request, RequestHead};
use crate::proto::watch::Watch;
use crate::service::host::{Host, OWN, Resident};
use crate::service::message::Method;
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
        if head.instance == OWN {
            manager::ensure(&self.host);
        } else if head.instance == CONFIG {
            central::ensure(&self.host);
        }
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

#[cfg(test)]
mod tests;
