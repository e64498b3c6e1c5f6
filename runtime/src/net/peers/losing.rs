//! Connections that have ended, and nodes that are looked for until they are found or have gone.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Away, Peers, is_dialable};
use crate::event::Event;
use crate::id::{Incarnation, NodeId};
use crate::net::news::{Dialled, PeerEvent};
use crate::port::{Link, Peer};
use crate::proto::connection::CloseReason;
use crate::proto::frame::RefuseReason;
use crate::time;

impl Peers {
    pub(super) async fn down(
        &mut self,
        link: Option<Arc<Link>>,
        dialled: &Dialled,
        address: String,
        reason: &CloseReason,
    ) {
        let now = time::now();
        if let Dialled::ByMe(address) = dialled {
            // A link is there if it stood.
            if link.is_some() {
                self.dials.lost(address, now);
            } else {
                self.dial_failed(address, false).await;
                if let CloseReason::Refused { by_peer: true, refuse } = reason
                    && let Some(is_literal) = self.topology.found(address)
                {
                    self.dials.refused(address, refuse, is_literal, now);
                }
            }
        }
        if link.is_some() {
            self.open = self.open.saturating_sub(1);
        }
        let is_duplicate = matches!(
            reason,
            CloseReason::Refused { refuse, .. } if refuse.reason == RefuseReason::Duplicate
        );
        let was_current = link.as_ref().is_some_and(|link| self.is_current(link));
        if let Some(link) = link.filter(|_| was_current) {
            let Peer { node, incarnation, listen } = link.peer().clone();
            self.up.remove(&node);
            self.heard.remove(&node);
            let was_unknown = self.forming.remove(&node).is_some_and(|waits| waits.is_new);
            self.let_go(&node);
            let stays_away = self.is_closing || self.topology.is_off(&node);
            let is_away = !stays_away && !matches!(reason, CloseReason::Goodbye(_));
            if is_away {
                if let Some(at) = listen.filter(is_dialable) {
                    self.dials.add(at.to_string().into(), false, Some(node.clone()), now);
                }
                let can_be_dialled = self.dials.look_for(&node);
                let until = (!can_be_dialled).then(|| now + self.wiring.config.load().silence);
                let connections = link.traffic().before().saturating_add(1);
                self.away.insert(node.clone(), Away { incarnation, until, connections });
            }
            self.publish_table();
            self.tell(PeerEvent::Down { link, is_away }).await;
            if let CloseReason::Silent(_) = reason {
                self.tell(PeerEvent::Silent { node: node.clone(), incarnation }).await;
            }
            if !was_unknown {
                (self.publish)(Event::PeerDown { peer: node, reason: reason.to_string() });
            }
        } else if (reason.is_refusal() || matches!(reason, CloseReason::HandshakeTimeout)) && !is_duplicate {
            (self.publish)(Event::PeerRefused { address, reason: reason.to_string() });
        }
        self.finish_closing();
    }

    pub(super) async fn dial_failed(&mut self, address: &str, is_refused: bool) {
        // Nobody listens there: the process has gone.
        let refused = self.dials.expected_at(address).filter(|_| is_refused).cloned();
        let forgotten = self.dials.failed(address, time::now());
        let is_certain = refused.is_some();
        let gone = refused.or_else(|| forgotten.filter(|node| !self.dials.look_for(node)));
        if let Some(node) = gone {
            self.gone(&node, is_certain).await;
        }
    }

    /// Looks for a node of which somebody has heard.
    pub(super) fn expect(&mut self, node: NodeId, incarnation: Incarnation, at: SocketAddr) {
        let is_wanted = !self.is_closing && node != self.me && !self.topology.is_off(&node);
        if is_wanted && !self.up.contains_key(&node) {
            self.dials.add(at.to_string().into(), false, Some(node.clone()), time::now());
            if self.dials.look_for(&node) {
                self.away.entry(node).or_insert(Away { incarnation, until: None, connections: 0 });
            }
        }
        self.publish_table(); // whoever asked looks again
    }

    /// A node that was away is not waited for any more.
    pub(super) async fn gone(&mut self, node: &NodeId, is_certain: bool) {
        if let Some(Away { incarnation, .. }) = self.away.remove(node) {
            self.publish_table();
            self.tell(PeerEvent::Gone { node: node.clone(), incarnation, is_certain }).await;
        }
    }

    /// Whoever could only have come back by itself, and has not.
    pub(super) async fn forget_overdue(&mut self) {
        let now = time::now();
        let is_overdue = |away: &Away| away.until.is_some_and(|until| until <= now);
        let overdue: Vec<_> =
            self.away.iter().filter(|(_, away)| is_overdue(away)).map(|(node, _)| node.clone()).collect();
        for node in overdue {
            self.gone(&node, false).await;
        }
    }
}
