//! The peers: which node is connected by which connection, and who is dialled when.
//!
//! One task owns all of it. Drivers and dials tell it their news; it tells the cluster which peers came, went and what
//! they said, in that order.
//!
//! Invariant: it waits for nothing but news and its timer, and for the cluster to take what it tells.

mod joining;
mod losing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::event::Event;
use crate::id::{Incarnation, NodeId};
use crate::net::dialer::Wiring;
use crate::net::dials::Dials;
use crate::net::forming::Forming;
use crate::net::news::{Dialled, News, Order, PeerEvent, Ticket};
use crate::net::table::{self, PeerTable};
use crate::net::topology::Topology;
use crate::port::Link;
use crate::proto::frame::{Refuse, RefuseReason};
use crate::proto::survivor::{self, Admit, Existing};
use crate::time;

/// What a node that is turned off is told.
const TURNED_OFF: &str = "the node is turned off by the configuration";

/// Tells everybody outside what happened.
pub(crate) type Publish = Arc<dyn Fn(Event) + Send + Sync>;

/// The task's state.
pub(crate) struct Peers {
    me: NodeId,
    wiring: Wiring,
    news: mpsc::Receiver<News>,
    cluster: mpsc::Sender<PeerEvent>,
    table: Arc<PeerTable>,
    publish: Publish,
    up: BTreeMap<NodeId, Ticket>,
    /// Nodes whose connection was lost, and that nobody knows to have gone.
    away: BTreeMap<NodeId, Away>,
    /// Connections that have lost their place.
    retired: Vec<mpsc::Sender<Order>>,
    /// Those of them that stay longer, as the peer may not know of the one that has the place: until it has told its names over
    /// that one, which comes after it uses it for all that is new.
    replaced: BTreeMap<NodeId, Vec<Replaced>>,
    /// Whose connection has told its names.
    heard: BTreeSet<NodeId>,
    /// Those in `up` whose further connections are being made.
    forming: Forming,
    dials: Dials,
    /// Whom this node is configured to connect with.
    topology: Topology,
    configured: watch::Receiver<Topology>,
    /// Connections that were admitted or established, or refused after they had asked, and have not ended.
    open: usize,
    is_closing: bool,
    /// Whoever waits for the last connection's end.
    closed: Option<oneshot::Sender<()>>,
}

/// A connection whose place another one took.
type Replaced = (Arc<Link>, mpsc::Sender<Order>);

/// A node whose connection was lost.
#[derive(Debug)]
struct Away {
    incarnation: Incarnation,
    /// When it counts as gone, if no address of it is known: then only it itself can come back.
    until: Option<Instant>,
    /// How many connections to this life there were.
    connections: u32,
}

impl Peers {
    pub(crate) fn new(
        me: NodeId,
        wiring: Wiring,
        news: mpsc::Receiver<News>,
        cluster: mpsc::Sender<PeerEvent>,
        table: Arc<PeerTable>,
        publish: Publish,
        configured: watch::Receiver<Topology>,
    ) -> Self {
        let dials = Dials::new(wiring.config.load().identity.incarnation.0);
        Self {
            me,
            wiring,
            news,
            cluster,
            table,
            publish,
            up: BTreeMap::new(),
            away: BTreeMap::new(),
            retired: Vec::new(),
            replaced: BTreeMap::new(),
            heard: BTreeSet::new(),
            forming: Forming::default(),
            dials,
            topology: Topology::default(),
            configured,
            open: 0,
            is_closing: false,
            closed: None,
        }
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        self.configure().await;
        loop {
            self.dial_due();
            let overdue = self.away.values().filter_map(|away| away.until);
            let next = overdue.chain(self.dials.next()).chain(self.forming.next()).min();
            tokio::select! {
                biased;
                () = changed(&mut self.configured) => self.configure().await,
                news = self.news.recv() => match news {
                    Some(news) => self.handle(news).await,
                    None => return,
                },
                () = time::sleep_until_some(next) => {
                    self.forget_overdue().await;
                    self.begin_overdue();
                }
            }
        }
    }

    async fn handle(&mut self, news: News) {
        match news {
            News::Admit(ticket, decision) => self.admit(ticket, decision).await,
            News::Join { link, extra, decision } => self.join(&link, &extra, decision),
            News::Joined(first) => {
                self.open += 1;
                self.begin_whole(&first);
            }
            News::ExtraDown => {
                self.open = self.open.saturating_sub(1);
                self.finish_closing();
            }
            News::Up(ticket) => self.dialled(ticket).await,
            News::Down { link, dialled, address, reason } => {
                self.down(link, &dialled, address, &reason).await;
            }
            News::DialFailed { address, error, is_refused } => {
                tracing::debug!(node = %self.me, %address, error, "dial failed");
                self.dial_failed(&address, is_refused).await;
            }
            News::Names(link, names) => {
                if self.is_current(&link) {
                    let node = &link.peer().node;
                    self.heard.insert(node.clone());
                    self.let_go(node);
                    self.tell(PeerEvent::Names(link, names)).await;
                }
            }
            News::Described(link, described) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::Described(link, described)).await;
                }
            }
            News::Members(link, members) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::Members(members)).await;
                }
            }
            News::Gossip(link, bytes) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::Gossip(link, bytes)).await;
                }
            }
            News::NamesSync(link, token) => {
                if self.is_current(&link) {
                    self.tell(PeerEvent::NamesSync(link, token)).await;
                }
            }
            News::NamesSynced(link, token) => self.tell(PeerEvent::NamesSynced(link, token)).await,
            News::Dial(address) if self.is_closing => drop(address),
            News::Dial(address) => self.dials.add(address, false, None, time::now()),
            News::Want(node) => self.dials.hint(&node, time::now()),
            News::Expect { node, incarnation, at } => self.expect(node, incarnation, at),
            News::Close(done) => self.close(done),
        }
    }

    /// Makes the topology so as it is configured now. The node's own address is passed over. Connections stay, but those with
    /// nodes that are turned off.
    async fn configure(&mut self) {
        let now = time::now();
        self.topology = self.configured.borrow_and_update().clone();
        if let Some(own) = self.wiring.config.load().identity.listen {
            self.topology.seeds.remove(own.to_string().as_str());
        }
        if self.is_closing {
            return;
        }
        self.dials.configure(&self.topology.seeds, now);
        let off: Vec<_> = self.up.iter().filter(|(node, _)| self.topology.is_off(node)).collect();
        for (node, up) in off {
            drop(up.orders.try_send(Order::Close(TURNED_OFF.into())));
            if let Some(at) = up.link.peer().listen.filter(is_dialable) {
                // So that it is known whose it is, and not dialled.
                self.dials.add(at.to_string().into(), false, Some(node.clone()), now);
            }
        }
        let lost = |node: &&NodeId| self.topology.is_off(node) || !self.dials.look_for(node);
        let gone: Vec<_> = self.away.keys().filter(lost).cloned().collect();
        for node in gone {
            self.gone(&node, false).await;
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
            None if peer.listen.is_some_and(|at| self.dials.is_dialling(at)) => Existing::Dialing,
            None => Existing::None,
        };
        let verdict = if self.is_closing {
            Admit::Refuse(RefuseReason::ShuttingDown)
        } else if self.topology.is_off(&peer.node) {
            Admit::Refuse(RefuseReason::TurnedOff)
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
        if let Dialled::ByMe(address) = &ticket.dialled {
            self.dials.connected(address, &ticket.link.peer().node);
        }
        if self.topology.is_off(&ticket.link.peer().node) {
            drop(ticket.orders.try_send(Order::Close(TURNED_OFF.into())));
            self.retired.push(ticket.orders);
            return;
        }
        if self.is_beaten(&ticket) {
            let node = ticket.link.peer().node.clone();
            self.replace(&node, &ticket);
            if self.heard.contains(&node) {
                self.let_go(&node);
            }
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
        let formed = self.forming.remove(&peer.node);
        let was_unknown = formed.as_ref().is_some_and(|waits| waits.is_new);
        let mut standing = None;
        if let Some(old) = self.up.remove(&peer.node) {
            let lived = old.link.peer().incarnation;
            if lived == peer.incarnation {
                ticket.link.traffic().came_after(old.link.traffic().before());
                is_new = was_unknown;
                standing = formed.map_or_else(|| Some(Arc::clone(&old.link)), |waits| waits.standing);
                drop(old.orders.try_send(Order::Probe));
                self.replace(&peer.node, &old);
            } else {
                let reason = "a later life of the node took its place".to_owned();
                old.link.family().iter().for_each(|link| link.close(&reason, None));
                drop(old.orders.try_send(Order::Close(reason.clone())));
                self.tell(PeerEvent::Down { link: Arc::clone(&old.link), is_away: false }).await;
                if !was_unknown {
                    (self.publish)(Event::PeerDown { peer: peer.node.clone(), reason });
                }
            }
            self.retired.retain(|orders| !orders.is_closed());
            self.retired.push(old.orders);
        }
        match self.away.get(&peer.node) {
            Some(away) if away.incarnation == peer.incarnation => {
                ticket.link.traffic().came_after(away.connections);
            }
            Some(_) => self.gone(&peer.node, true).await, // the life that was away is over
            None => {}
        }
        self.away.remove(&peer.node);
        self.heard.remove(&peer.node);
        let link = Arc::clone(&ticket.link);
        if link.is_forming() {
            // The cluster goes on over the first one, calls wait for the others.
            self.forming.add(peer.node.clone(), is_new, standing, time::now());
            is_new = false;
            if ticket.dialled != Dialled::ByPeer {
                self.wiring.dial_extras(&ticket);
            }
        }
        self.up.insert(peer.node.clone(), ticket);
        self.publish_table();
        self.tell(PeerEvent::Up(link)).await;
        // To everybody outside, another connection to the same life is no news.
        if is_new {
            (self.publish)(Event::PeerUp { peer: peer.node, incarnation: peer.incarnation });
        }
    }

    /// A connection has lost its place to another one of its life.
    fn replace(&mut self, node: &NodeId, ticket: &Ticket) {
        ticket.link.replaced(false);
        drop(ticket.orders.try_send(Order::Replaced)); // it may have ended
        let replaced = self.replaced.entry(node.clone()).or_default();
        replaced.retain(|(_, orders)| !orders.is_closed());
        replaced.push((Arc::clone(&ticket.link), ticket.orders.clone()));
    }

    /// The connections that were replaced may close: the peer knows it.
    fn let_go(&mut self, node: &NodeId) {
        for (link, orders) in self.replaced.remove(node).into_iter().flatten() {
            link.replaced(true);
            drop(orders.try_send(Order::Retire)); // it may have ended
        }
    }

    /// Dials every address whose time has come and behind which no connected peer is.
    fn dial_due(&mut self) {
        if self.is_closing {
            return self.dials.clear();
        }
        let is_there = |node: Option<&NodeId>, address: &str| {
            let is_off = node.is_some_and(|node| self.topology.is_off(node));
            is_off
                || self.up.values().map(|ticket| ticket.link.peer()).any(|peer| {
                    node == Some(&peer.node) || peer.listen.is_some_and(|at| at.to_string() == address)
                })
        };
        for (address, number) in self.dials.due(time::now(), is_there) {
            self.wiring.dial(address, number);
        }
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
        let ready = self.up.iter().filter(|(node, _)| !self.forming.has(node));
        let ready = ready.map(|(node, ticket)| (node, &ticket.link)).chain(self.forming.standing());
        let up = ready.map(|(node, link)| (node.clone(), Arc::clone(link))).collect();
        let away = self.away.keys().chain(self.forming.awaited()).cloned().collect();
        self.table.publish(table::Peers { up, away });
    }

    async fn tell(&self, event: PeerEvent) {
        drop(self.cluster.send(event).await); // the cluster's task is gone: the node ends
    }
}

/// Ends when the topology is configured anew. Cancel safe.
async fn changed(configured: &mut watch::Receiver<Topology>) {
    if configured.changed().await.is_err() {
        std::future::pending::<()>().await; // nobody can change it any more
    }
}

/// `0.0.0.0` is where a node listens, but not where it is.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    !address.ip().is_unspecified() && address.port() != 0
}
