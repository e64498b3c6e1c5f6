//! Further connections that come beside a peer's first one, and when calls to the peer begin.
//!
//! Invariant: a peer is up for the cluster with its first connection; for calls, and for everybody outside, once its group has
//! begun.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Peers;
use crate::event::Event;
use crate::id::NodeId;
use crate::net::news::Dialled;
use crate::port::{Link, NotJoined};
use crate::proto::frame::{Refuse, RefuseReason};
use crate::proto::group::Extra;
use crate::time;

impl Peers {
    /// Decides about a further connection that a peer made.
    pub(super) fn join(
        &mut self,
        link: &Arc<Link>,
        extra: &Extra,
        decision: oneshot::Sender<Result<(), Refuse>>,
    ) {
        self.open += 1; // also if it is refused: its end will be told
        let first = self.up.get(&link.peer().node).filter(|up| up.dialled == Dialled::ByPeer);
        let first = first.map(|up| Arc::clone(&up.link)).filter(|first| first.peer() == link.peer());
        let joined = match &first {
            _ if self.is_closing => Err(NotJoined::Over),
            Some(first) => first.join(link, extra),
            None => Err(NotJoined::Other),
        };
        let joined = joined.map_err(|error| Refuse::new(RefuseReason::NoFirst, error.to_string()));
        drop(decision.send(joined));
        if let Some(first) = first {
            self.begin_whole(&first);
        }
    }

    /// Begins with a peer if all its connections stand.
    pub(super) fn begin_whole(&mut self, first: &Arc<Link>) {
        if self.is_current(first) && first.is_whole() {
            self.begin(&first.peer().node.clone());
        }
    }

    /// Begins with those whose further connections could not be made in time.
    pub(super) fn begin_overdue(&mut self) {
        for node in self.forming.overdue(time::now()) {
            self.begin(&node);
        }
    }

    /// Whoever waits for the peer goes on.
    fn begin(&mut self, node: &NodeId) {
        let Some(waits) = self.forming.remove(node) else { return };
        let Some(up) = self.up.get(node) else { return };
        let wanted = up.link.group_size();
        if !up.link.begin() {
            tracing::warn!(node = %self.me, peer = %node, wanted, "further connections could not be made in time: one takes all");
        }
        let incarnation = up.link.peer().incarnation;
        self.publish_table();
        if waits.is_new {
            (self.publish)(Event::PeerUp { peer: node.clone(), incarnation });
        }
    }
}
