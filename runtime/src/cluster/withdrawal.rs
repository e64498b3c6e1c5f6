//! Names that are taken back from the peers while this node still routes by them, and the wait until every peer knows.
//!
//! A peer answers a `NamesSync` when its callers see the names that were told before it. The answer travels behind every
//! request that was routed by the older names, so that after it none is on the way. (A caller that had picked its
//! instance and not yet written its request may still come late; it is refused and goes elsewhere.)
//!
//! Invariant: values and decisions only. A wait ends with the last peer, or is forgotten with whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::id::NodeId;
use crate::port::Link;
use crate::proto::frame::Frame;

/// Which names are taken back from the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Withdraw {
    /// All, also those that are registered later: the node is about to go.
    All,
    /// These, until their last instance has gone. A name that this node does not have is passed over.
    Names(Vec<Arc<str>>),
}

/// The waits that are under way.
#[derive(Debug, Default)]
pub(crate) struct Withdrawals {
    waits: Vec<Wait>,
    last_token: u64,
}

/// Until these peers have answered or gone.
#[derive(Debug)]
struct Wait {
    token: u64,
    peers: BTreeMap<NodeId, Arc<Link>>,
    done: oneshot::Sender<()>,
}

impl Withdrawals {
    /// Asks every peer to answer when it routes by what it was told before this.
    pub(crate) fn wait_for(&mut self, links: &BTreeMap<NodeId, Arc<Link>>, done: oneshot::Sender<()>) {
        self.last_token += 1;
        let token = self.last_token;
        for link in links.values() {
            link.put(&Frame::NamesSync { token });
        }
        self.waits.push(Wait { token, peers: links.clone(), done });
        self.settle();
    }

    /// A peer came, or came again on another connection, and was told the names: it is waited for too, since it may
    /// still route by what it heard on an earlier connection.
    pub(crate) fn peer_up(&mut self, link: &Arc<Link>) {
        self.settle();
        for wait in &mut self.waits {
            link.put(&Frame::NamesSync { token: wait.token });
            wait.peers.insert(link.peer().node.clone(), Arc::clone(link));
        }
    }

    /// A connection has ended: what could have come over it has come or will not.
    pub(crate) fn peer_down(&mut self, link: &Arc<Link>) {
        self.waits.iter_mut().for_each(|wait| wait.forget(link));
        self.settle();
    }

    /// A peer has answered. An answer that nobody waits for is passed over.
    pub(crate) fn synced(&mut self, link: &Arc<Link>, token: u64) {
        self.waits.iter_mut().filter(|wait| wait.token == token).for_each(|wait| wait.forget(link));
        self.settle();
    }

    /// Tells those whose wait is over, and forgets those who have gone.
    fn settle(&mut self) {
        let over = |wait: &mut Wait| wait.peers.is_empty() || wait.done.is_closed();
        for wait in self.waits.extract_if(.., over) {
            let _ = wait.done.send(()); // who asked may have gone
        }
    }
}

impl Wait {
    fn forget(&mut self, link: &Arc<Link>) {
        let node = &link.peer().node;
        if self.peers.get(node).is_some_and(|awaited| Arc::ptr_eq(awaited, link)) {
            self.peers.remove(node);
        }
    }
}
