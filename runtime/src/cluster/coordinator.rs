//! The cluster's task: the one owner of the directory and of who knows whom.
//!
//! Invariant: it waits for nothing but what it is told. What it publishes are snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::directory::{Directory, Snapshot, Traits};
use crate::cluster::introductions::Introductions;
use crate::cluster::membership::{Identity, Members, Membership, Output};
use crate::cluster::withdrawal::{Withdraw, Withdrawals};
use crate::config::Limits;
use crate::event::Event;
use crate::id::{InstanceId, NodeId};
use crate::net::news::{News, PeerEvent};
use crate::net::peers::Publish;
use crate::port::{Link, Peer};
use crate::proto::described::Described;
use crate::proto::fence::Word;
use crate::proto::frame::Frame;
use crate::{random, time};

#[cfg(test)]
mod tests;

/// How many commands may wait for the task.
const COMMANDS: usize = 1024;

/// How often a node looks what its instances have to do, and tells its peers what has changed.
const LOADS_EVERY: Duration = Duration::from_secs(1);

/// What an instance of this node has to do, as peers are told.
pub(crate) type Measure = Box<dyn Fn(InstanceId) -> u32 + Send>;

/// The directory, for everybody to read.
#[derive(Debug)]
pub(crate) struct Names {
    current: ArcSwap<Snapshot>,
    /// How many changes there were.
    version: AtomicU64,
    /// Wakes whoever waits for a change.
    changed: watch::Sender<()>,
}

impl Names {
    /// The names as they are now.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Tells every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.version.fetch_add(1, Ordering::AcqRel);
        self.changed.send_replace(());
    }
}

/// What a node asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Register(Register),
    /// Takes names back from the peers, and goes on routing to them here until they are registered without instances.
    /// Answered when every connected peer routes elsewhere, or has gone. See [`withdraw`].
    Withdraw {
        names: Withdraw,
        done: oneshot::Sender<()>,
    },
    /// Tells the peers that this node leaves. Nothing is told to them after it. Answered when it is in their connections.
    Leave {
        done: oneshot::Sender<()>,
    },
}

/// What runs here under one name.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) name: Arc<str>,
    pub(crate) interface: &'static str,
    /// All of this node's instances of the name; none takes the name back.
    pub(crate) instances: Vec<InstanceId>,
    pub(crate) traits: Traits,
    /// Answered when the snapshot holds it and the peers are told.
    pub(crate) done: oneshot::Sender<()>,
}

/// Takes names back from the peers, and waits until each has published that, at most `limit`. This node goes on routing
/// to them. Gives whether all peers have, or have gone; if not, they are told all the same and may be slow to read it.
///
/// # Cancel safety
/// Once polled to its first wait the names may be withdrawn; only the waiting is cut short.
pub(crate) async fn withdraw(commands: &mpsc::Sender<Command>, names: Withdraw, limit: Duration) -> bool {
    time::timeout(limit, ask(commands, |done| Command::Withdraw { names, done })).await.is_some()
}

/// Tells the peers that this node leaves, so that it is not taken for dead, at most within `limit`.
pub(crate) async fn leave(commands: &mpsc::Sender<Command>, limit: Duration) {
    let _ = time::timeout(limit, ask(commands, |done| Command::Leave { done })).await; // it is taken for dead
}

/// Waits until the task has done something. Without the task the node has ended, and all that it told.
async fn ask(commands: &mpsc::Sender<Command>, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
    let (done, is_done) = oneshot::channel();
    if commands.send(command(done)).await.is_ok() {
        drop(is_done.await);
    }
}

/// What the task hears and says, and from whom.
pub(crate) struct Outside {
    /// How many nodes the cluster is said to have.
    pub(crate) expected: watch::Receiver<usize>,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    /// For dialling whom a peer told of. Only tried: the peers' task may be waiting for this one.
    pub(crate) peers: mpsc::Sender<News>,
    pub(crate) publish: Publish,
    pub(crate) measure: Measure,
}

/// What others see of the task.
pub(crate) struct Seen {
    pub(crate) names: Arc<Names>,
    pub(crate) members: watch::Receiver<Members>,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// The task's state.
pub(crate) struct Coordinator {
    directory: Directory,
    introductions: Introductions,
    links: BTreeMap<NodeId, Arc<Link>>,
    withdrawals: Withdrawals,
    measure: Measure,
    loads_at: Instant,
    membership: Membership,
    /// How many nodes the cluster is said to have.
    expected: watch::Receiver<usize>,
    /// The members, for everybody to read.
    members: watch::Sender<Members>,
    publish: Publish,
    names: Arc<Names>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<PeerEvent>,
    /// For dialling whom a peer told of. Only tried: the peers' task may be waiting for this one.
    peers: mpsc::Sender<News>,
}

impl Coordinator {
    /// Gives the task, and what others see of it.
    pub(crate) fn new(me: Identity, is_client: bool, limits: Limits, outside: Outside) -> (Self, Seen) {
        let Outside { mut expected, events, peers, publish, measure } = outside;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let names = Arc::new(Names {
            current: ArcSwap::default(),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        });
        let directory = Directory::new(me.node.clone(), me.incarnation, limits);
        let introductions = Introductions::new(me.node.clone(), is_client);
        let chance = random::seeded(me.incarnation.0);
        let mut membership = Membership::new(me, chance, time::now());
        membership.handle_expected(*expected.borrow_and_update());
        let (members, sees_members) = watch::channel(membership.members());
        let seen = Seen { names: Arc::clone(&names), members: sees_members, commands: sender };
        let coordinator = Self {
            directory,
            introductions,
            links: BTreeMap::new(),
            withdrawals: Withdrawals::default(),
            measure,
            loads_at: time::now(),
            membership,
            expected,
            members,
            publish,
            names,
            commands,
            events,
            peers,
        };
        (coordinator, seen)
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            self.drain_membership();
            let wakes_at = self.membership.poll_timeout();
            let loads_at = (!self.links.is_empty()).then_some(self.loads_at);
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.peer_event(event),
                    None => return,
                },
                command = self.commands.recv() => match command {
                    Some(Command::Register(register)) => self.register(register),
                    Some(Command::Withdraw { names, done }) => self.withdraw(&names, done),
                    Some(Command::Leave { done }) => self.leave(done),
                    None => return,
                },
                Ok(()) = self.expected.changed() => {
                    let expected = *self.expected.borrow_and_update();
                    self.membership.handle_expected(expected);
                    self.publish_members();
                }
                () = time::sleep_until_some(wakes_at) => self.membership.handle_timeout(time::now()),
                () = time::sleep_until_some(loads_at) => self.tell_loads(),
            }
        }
    }

    fn register(&mut self, command: Register) {
        let Register { name, interface, instances, traits, done } = command;
        if let Some(change) = self.directory.set_own(&name, interface, instances, traits) {
            self.publish_if(true);
            self.tell_all(change);
        }
        let _ = done.send(()); // who asked may have gone
    }

    fn withdraw(&mut self, names: &Withdraw, done: oneshot::Sender<()>) {
        let change = self.directory.withdraw(names);
        self.tell_all(change);
        self.withdrawals.wait_for(&self.links, done);
    }

    fn leave(&mut self, done: oneshot::Sender<()>) {
        self.membership.handle_leave();
        self.drain_membership();
        let _ = done.send(()); // who asked may have gone
    }

    fn tell_all(&self, change: Vec<Frame>) {
        for frame in change {
            self.links.values().for_each(|link| link.put(&frame));
        }
    }

    fn tell_loads(&mut self) {
        self.loads_at = time::now() + LOADS_EVERY;
        let changed = self.directory.measure(&self.measure);
        self.tell_all(Described::loads(&changed).collect());
    }

    fn peer_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Up(link) => self.peer_up(link),
            PeerEvent::Down { link, is_away } => self.peer_down(&link, is_away),
            PeerEvent::Gone { node, incarnation, is_certain } => {
                if is_certain {
                    self.membership.handle_gone(&node, incarnation, time::now());
                }
                let changed = self.directory.remove_peer(&node, incarnation);
                self.publish_if(changed);
            }
            PeerEvent::Silent { node, incarnation } => {
                self.membership.handle_silent(&node, incarnation, time::now());
            }
            PeerEvent::Names(link, names) => {
                let peer = link.peer();
                let changed = self.directory.apply(&peer.node, peer.incarnation, names);
                self.publish_if(changed);
            }
            PeerEvent::Described(link, described) => {
                let peer = link.peer();
                let changed = self.directory.describe(&peer.node, peer.incarnation, described);
                self.publish_if(changed);
            }
            PeerEvent::NamesSync(link, token) => {
                // What came before it is published: see above. The answer goes behind what was routed by what was known before.
                link.say_behind(Word::NamesSynced { token });
            }
            PeerEvent::NamesSynced(link, token) => self.withdrawals.synced(&link, token),
            PeerEvent::Gossip(link, bytes) => {
                let node = &link.peer().node;
                if let Err(error) = self.membership.handle_gossip(node, &bytes, time::now()) {
                    tracing::warn!(%node, %error, "what a peer told of the members cannot be read");
                }
            }
            PeerEvent::Members(members) => {
                for address in self.introductions.to_dial(&members) {
                    // Told again by the next peer if this is lost.
                    drop(self.peers.try_send(News::Dial(address.to_string().into())));
                }
            }
        }
    }

    fn peer_up(&mut self, link: Arc<Link>) {
        let changed = self.directory.peer_is_away(&link.peer().node, link.peer().incarnation, false);
        self.publish_if(changed);
        let (to_it, to_others) = self.introductions.connected(link.peer());
        for frame in self.directory.own_names() {
            link.put(&frame);
        }
        for frame in Described::loads(&self.directory.own_loads()) {
            link.put(&frame);
        }
        self.withdrawals.peer_up(&link);
        for members in to_it {
            link.put(&Frame::Members(members));
        }
        for members in to_others {
            let frame = Frame::Members(members);
            let others = self.links.values().filter(|other| other.peer().node != link.peer().node);
            others.for_each(|other| other.put(&frame));
        }
        let peer = link.peer().clone();
        let speaks = link.has_gossip();
        self.links.insert(peer.node.clone(), link);
        if speaks {
            let Peer { node, incarnation, listen } = peer;
            self.membership.handle_connected(Identity::new(node, incarnation, listen), time::now());
        }
    }

    fn peer_down(&mut self, link: &Arc<Link>, is_away: bool) {
        let peer = link.peer();
        if self.links.get(&peer.node).is_some_and(|known| Arc::ptr_eq(known, link)) {
            self.links.remove(&peer.node);
            if self.links.is_empty() {
                self.directory.measure(|_| 0); // nobody goes on measuring
            }
            self.membership.handle_disconnected(&peer.node);
        }
        self.withdrawals.peer_down(link);
        self.introductions.disconnected(peer);
        let changed = if is_away {
            self.directory.peer_is_away(&peer.node, peer.incarnation, true)
        } else {
            self.directory.remove_peer(&peer.node, peer.incarnation)
        };
        self.publish_if(changed);
    }

    /// Does what the membership wants done, and publishes what it knows.
    fn drain_membership(&mut self) {
        while let Some(output) = self.membership.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    if let Some(link) = self.links.get(&to).filter(|link| link.has_gossip()) {
                        link.put(&Frame::Gossip { bytes });
                    }
                }
                Output::Tell(event) => {
                    // Before the event, so that who hears it sees it.
                    self.publish_members();
                    (self.publish)(event);
                }
                Output::Dial(address) => {
                    drop(self.peers.try_send(News::Dial(address.to_string().into()))); // another time
                }
            }
        }
    }

    fn publish_members(&self) {
        let version = self.membership.version();
        self.members.send_if_modified(|members| {
            let is_new = members.version != version;
            if is_new {
                *members = self.membership.members();
            }
            is_new
        });
    }

    fn publish_if(&mut self, changed: bool) {
        if changed {
            self.names.publish(self.directory.snapshot());
        }
        for (name, owner) in self.directory.take_lost() {
            (self.publish)(Event::NameLost { name: name.to_string(), owner });
        }
    }
}
