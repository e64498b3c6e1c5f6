//! The peers: which node is connected by which connection, and who is dialled when.
//!
//! One task owns all of it. Drivers and dials tell it their news; it tells the cluster which peers came, went and what
//! they said, in that order.
//!
//! Invariant: it waits for nothing but news and its timer, and for the cluster to take what it tells.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;
use crate::id::{Incarnation, NodeId};
use crate::net::dialer::Wiring;
use crate::net::news::{Dialled, News, Order, PeerEvent, Ticket};
use crate::policy::backoff::Backoff;
use crate::port::{Link, Links};
use crate::proto::connection::CloseReason;
use crate::proto::frame::{Refuse, RefuseReason};
use crate::proto::survivor::{self, Admit, Existing};
use crate::{random, time};

/// How often an address that only a peer told of is dialled in vain before it is forgotten.
const GIVE_UP_AFTER: u32 = 10;

/// The connections that stand, for everybody to read.
#[derive(Debug, Default)]
pub(crate) struct PeerTable(ArcSwap<HashMap<NodeId, Arc<Link>>>);

impl Links for PeerTable {
    fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.0.load().get(node).cloned()
    }
}

impl PeerTable {
    /// The connected nodes, in no order.
    pub(crate) fn nodes(&self) -> Vec<(NodeId, Incarnation)> {
        self.0.load().values().map(|link| (link.peer().node.clone(), link.peer().incarnation)).collect()
    }
}

/// Tells everybody outside what happened.
pub(crate) type Publish = Arc<dyn Fn(Event) + Send + Sync>;

/// The most addresses that are dialled at a time. What peers tell of beyond that is passed over.
const MAX_DIALS: usize = 4096;

/// The task's state.
pub(crate) struct Peers {
    me: NodeId,
    wiring: Wiring,
    news: mpsc::Receiver<News>,
    cluster: mpsc::Sender<PeerEvent>,
    table: Arc<PeerTable>,
    publish: Publish,
    up: BTreeMap<NodeId, Ticket>,
    /// Connections that have lost their place and are closing.
    retired: Vec<mpsc::Sender<Order>>,
    dials: BTreeMap<Arc<str>, Dial>,
    /// How often was dialled: of two dials to one node the later lives, on both sides.
    dial_number: u64,
    /// Connections that were admitted or established, or refused after they had asked, and have not ended.
    open: usize,
    is_closing: bool,
    /// Whoever waits for the last connection's end.
    closed: Option<oneshot::Sender<()>>,
}

/// An address that is to be connected.
#[derive(Debug)]
struct Dial {
    state: DialState,
    backoff: Backoff,
    failures: u32,
    /// The node that was found there last.
    node: Option<NodeId>,
    /// Configured, and so never forgotten.
    is_seed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DialState {
    /// To be dialled at this time.
    Due(Instant),
    /// Being dialled.
    Dialling,
    /// Connected by a dial of this node.
    Connected,
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        wiring: Wiring,
        news: mpsc::Receiver<News>,
        cluster: mpsc::Sender<PeerEvent>,
        table: Arc<PeerTable>,
        publish: Publish,
    ) -> Self {
        Self {
            me,
            wiring,
            news,
            cluster,
            table,
            publish,
            up: BTreeMap::new(),
            retired: Vec::new(),
            dials: BTreeMap::new(),
            dial_number: 0,
            open: 0,
            is_closing: false,
            closed: None,
        }
    }

    /// Connects to `address` as long as the node lives. The node's own address is passed over.
    pub(crate) fn seed(&mut self, address: &str) {
        let own = self.wiring.config.identity.listen.map(|at| at.to_string());
        if own.as_deref() != Some(address) {
            self.add_dial(address.into(), true);
        }
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.dial_due();
            let next = self.dials.values().filter_map(Dial::due).min();
            tokio::select! {
                biased;
                news = self.news.recv() => match news {
                    Some(news) => self.handle(news).await,
                    None => return,
                },
                () = sleep_until(next) => {}
            }
        }
    }

    async fn handle(&mut self, news: News) {
        match news {
            News::Admit(ticket, decision) => self.admit(ticket, decision).await,
            News::Up(ticket) => self.dialled(ticket).await,
            News::Down { link, dialled, address, reason } => {
                self.down(link, &dialled, address, &reason).await;
            }
            News::DialFailed { address, error } => {
                tracing::debug!(node = %self.me, %address, error, "dial failed");
                self.dial_failed(&address);
            }
            News::Names(link, names) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::Names(link, names)).await;
                }
            }
            News::Members(link, members) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::Members(members)).await;
                }
            }
            News::NamesSync(link, token) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::NamesSync(link, token)).await;
                }
            }
            News::NamesSynced(link, token) => self.tell(PeerEvent::NamesSynced(link, token)).await,
            News::Dial(address) => {
                if !self.is_closing && self.dials.len() < MAX_DIALS {
                    self.add_dial(address, false);
                }
            }
            News::Close(done) => self.close(done),
        }
    }

    /// Decides about a connection that a peer made.
    async fn admit(&mut self, ticket: Ticket, decision: oneshot::Sender<Result<(), Refuse>>) {
        let peer = ticket.link.peer().clone();
        let existing = match self.up.get(&peer.node) {
            Some(up) => Existing::Up {
                incarnation: up.link.peer().incarnation,
                dialled_by_me: up.dialled != Dialled::ByPeer,
                is_later: up.dialled == Dialled::ByPeer && up.number > ticket.number,
            },
            None if self.is_dialling(peer.listen) => Existing::Dialing,
            None => Existing::None,
        };
        let verdict = if self.is_closing {
            Admit::Refuse(RefuseReason::ShuttingDown)
        } else {
            survivor::admit(&self.me, &peer.node, peer.incarnation, existing)
        };
        if let Admit::Refuse(reason) = verdict {
            if let Some(up) = self.up.get(&peer.node) {
                drop(up.orders.try_send(Order::Probe)); // the peer may know something about the one that stands
            }
            self.open += 1; // its end will be told
            drop(decision.send(Err(Refuse::from(reason))));
            return;
        }
        self.open += 1;
        drop(decision.send(Ok(())));
        self.install(ticket).await;
    }

    /// A connection that this node dialled stands. The peer has admitted it, by the rule that both sides compute.
    async fn dialled(&mut self, ticket: Ticket) {
        self.open += 1;
        if let Dialled::ByMe(address) = &ticket.dialled
            && let Some(dial) = self.dials.get_mut(address)
        {
            dial.state = DialState::Connected;
            dial.failures = 0;
            dial.node = Some(ticket.link.peer().node.clone());
            dial.backoff.reset();
        }
        if self.is_beaten(&ticket) {
            drop(ticket.orders.try_send(Order::Retire));
            self.retired.retain(|orders| !orders.is_closed());
            self.retired.push(ticket.orders);
            return;
        }
        self.install(ticket).await;
    }

    /// Whether the connection that stands lives, and not this one, which this node has dialled.
    fn is_beaten(&self, ticket: &Ticket) -> bool {
        let peer = ticket.link.peer();
        let Some(up) = self.up.get(&peer.node) else { return false };
        let standing = (up.dialled != Dialled::ByPeer).then_some(up.number > ticket.number);
        let same_life = up.link.peer().incarnation == peer.incarnation;
        let beaten = same_life && survivor::gives_way(&self.me, &peer.node, standing);
        if beaten {
            drop(up.orders.try_send(Order::Probe)); // should it be dead, it is soon known
        }
        beaten
    }

    /// Gives the connection its peer's place. The one that had it is retired, or closed if it is of another life.
    async fn install(&mut self, ticket: Ticket) {
        let peer = ticket.link.peer().clone();
        let mut is_new = true;
        if let Some(old) = self.up.remove(&peer.node) {
            let lived = old.link.peer().incarnation;
            if lived == peer.incarnation {
                is_new = false;
                drop(old.orders.try_send(Order::Probe));
                drop(old.orders.try_send(Order::Retire));
            } else {
                let reason = "a later life of the node took its place".to_owned();
                old.link.close(&reason, None);
                drop(old.orders.try_send(Order::Close(reason.clone())));
                self.tell(PeerEvent::Down(Arc::clone(&old.link))).await;
                (self.publish)(Event::PeerDown { peer: peer.node.clone(), reason });
            }
            self.retired.retain(|orders| !orders.is_closed());
            self.retired.push(old.orders);
        }
        let link = Arc::clone(&ticket.link);
        self.up.insert(peer.node.clone(), ticket);
        self.publish_table();
        self.tell(PeerEvent::Up(link)).await;
        // To everybody outside, another connection to the same life is no news.
        if is_new {
            (self.publish)(Event::PeerUp { peer: peer.node, incarnation: peer.incarnation });
        }
    }

    async fn down(
        &mut self,
        link: Option<Arc<Link>>,
        dialled: &Dialled,
        address: String,
        reason: &CloseReason,
    ) {
        if link.is_some() {
            self.open = self.open.saturating_sub(1);
        }
        if let Dialled::ByMe(address) = dialled {
            self.dial_failed(address);
        }
        let is_duplicate = matches!(
            reason,
            CloseReason::Refused { refuse, .. } if refuse.reason == RefuseReason::Duplicate
        );
        let was_current = link.as_ref().is_some_and(|link| self.is_current(link));
        if let Some(link) = link.filter(|_| was_current) {
            self.up.remove(&link.peer().node);
            self.publish_table();
            let peer = link.peer().node.clone();
            self.tell(PeerEvent::Down(link)).await;
            (self.publish)(Event::PeerDown { peer, reason: reason.to_string() });
        } else if (reason.is_refusal() || matches!(reason, CloseReason::HandshakeTimeout)) && !is_duplicate {
            (self.publish)(Event::PeerRefused { address, reason: reason.to_string() });
        }
        self.finish_closing();
    }

    fn dial_failed(&mut self, address: &Arc<str>) {
        let Some(dial) = self.dials.get_mut(address) else { return };
        dial.failures += 1;
        if !dial.is_seed && dial.failures > GIVE_UP_AFTER {
            self.dials.remove(address);
            return;
        }
        dial.state = DialState::Due(time::now() + dial.backoff.next());
    }

    fn add_dial(&mut self, address: Arc<str>, is_seed: bool) {
        let seed =
            address.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let backoff = Backoff::new(random::seeded(seed ^ self.wiring.config.identity.incarnation.0));
        let state = DialState::Due(time::now());
        self.dials.entry(address).or_insert(Dial { state, backoff, failures: 0, node: None, is_seed });
    }

    /// Dials every address whose time has come and behind which no connected peer is.
    fn dial_due(&mut self) {
        if self.is_closing {
            self.dials.clear();
            return;
        }
        let now = time::now();
        for (address, dial) in &mut self.dials {
            if dial.due().is_none_or(|due| due > now) {
                continue;
            }
            let is_there = |ticket: &Ticket| {
                let peer = ticket.link.peer();
                dial.node.as_ref() == Some(&peer.node)
                    || peer.listen.is_some_and(|at| at.to_string() == **address)
            };
            if self.up.values().any(is_there) {
                dial.state = DialState::Due(now + Duration::from_secs(1));
            } else {
                dial.state = DialState::Dialling;
                self.dial_number += 1;
                self.wiring.dial(Arc::clone(address), self.dial_number);
            }
        }
    }

    fn is_dialling(&self, listen: Option<std::net::SocketAddr>) -> bool {
        listen.is_some_and(|at| {
            self.dials.get(at.to_string().as_str()).is_some_and(|dial| dial.state == DialState::Dialling)
        })
    }

    fn is_current(&self, link: &Arc<Link>) -> bool {
        self.up.get(&link.peer().node).is_some_and(|ticket| Arc::ptr_eq(&ticket.link, link))
    }

    fn close(&mut self, done: oneshot::Sender<()>) {
        let goodbye = || Order::Close("the node shuts down".into());
        for orders in self.up.values().map(|ticket| &ticket.orders).chain(&self.retired) {
            drop(orders.try_send(goodbye()));
        }
        self.is_closing = true;
        self.closed = Some(done);
        self.finish_closing();
    }

    fn finish_closing(&mut self) {
        if self.open == 0
            && let Some(done) = self.closed.take()
        {
            let _ = done.send(()); // who waited may have gone
        }
    }

    fn publish_table(&self) {
        let links = self.up.iter().map(|(node, ticket)| (node.clone(), Arc::clone(&ticket.link))).collect();
        self.table.0.store(Arc::new(links));
    }

    async fn tell(&self, event: PeerEvent) {
        drop(self.cluster.send(event).await); // the cluster's task is gone: the node ends
    }
}

impl Dial {
    fn due(&self) -> Option<Instant> {
        match self.state {
            DialState::Due(at) => Some(at),
            DialState::Dialling | DialState::Connected => None,
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
