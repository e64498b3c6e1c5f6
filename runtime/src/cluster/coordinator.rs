//! The cluster's task: the one owner of the directory and of who knows whom.
//!
//! Invariant: it waits for nothing but what it is told. What it publishes are snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::directory::{Directory, Snapshot};
use crate::cluster::introductions::Introductions;
use crate::id::{Incarnation, InstanceId, NodeId};
use crate::net::news::{News, PeerEvent};
use crate::port::Link;
use crate::proto::frame::Frame;

/// How many registrations may wait for the task.
const COMMANDS: usize = 1024;

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
pub(crate) struct Register {
    pub(crate) name: Arc<str>,
    pub(crate) interface: &'static str,
    /// All of this node's instances of the name; none takes the name back.
    pub(crate) instances: Vec<InstanceId>,
    /// Answered when the snapshot holds it and the peers are told.
    pub(crate) done: oneshot::Sender<()>,
}

/// The task's state.
pub(crate) struct Coordinator {
    directory: Directory,
    introductions: Introductions,
    links: BTreeMap<NodeId, Arc<Link>>,
    names: Arc<Names>,
    commands: mpsc::Receiver<Register>,
    events: mpsc::Receiver<PeerEvent>,
    /// For dialling whom a peer told of. Only tried: the peers' task may be waiting for this one.
    peers: mpsc::Sender<News>,
}

impl Coordinator {
    pub(crate) fn new(
        me: &NodeId,
        incarnation: Incarnation,
        events: mpsc::Receiver<PeerEvent>,
        peers: mpsc::Sender<News>,
    ) -> (Self, Arc<Names>, mpsc::Sender<Register>) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let names = Arc::new(Names {
            current: ArcSwap::default(),
            version: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        });
        let coordinator = Self {
            directory: Directory::new(me.clone(), incarnation),
            introductions: Introductions::new(me.clone()),
            links: BTreeMap::new(),
            names: Arc::clone(&names),
            commands,
            events,
            peers,
        };
        (coordinator, names, sender)
    }

    /// Runs until nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.peer_event(event),
                    None => return,
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.register(command),
                    None => return,
                },
            }
        }
    }

    fn register(&mut self, command: Register) {
        let Register { name, interface, instances, done } = command;
        if let Some(change) = self.directory.set_own(&name, interface, instances) {
            self.names.publish(self.directory.snapshot());
            let change = Frame::Names(change);
            self.links.values().for_each(|link| link.put(&change));
        }
        let _ = done.send(()); // who asked may have gone
    }

    fn peer_event(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::Up(link) => self.peer_up(link),
            PeerEvent::Down(link) => self.peer_down(&link),
            PeerEvent::Names(link, names) => {
                let peer = link.peer();
                if self.directory.apply(&peer.node, peer.incarnation, names) {
                    self.names.publish(self.directory.snapshot());
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
        let (to_it, to_others) = self.introductions.connected(link.peer());
        for names in self.directory.own_names() {
            link.put(&Frame::Names(names));
        }
        for members in to_it {
            link.put(&Frame::Members(members));
        }
        for members in to_others {
            let frame = Frame::Members(members);
            let others = self.links.values().filter(|other| other.peer().node != link.peer().node);
            others.for_each(|other| other.put(&frame));
        }
        self.links.insert(link.peer().node.clone(), link);
    }

    fn peer_down(&mut self, link: &Arc<Link>) {
        let peer = link.peer();
        if self.links.get(&peer.node).is_some_and(|known| Arc::ptr_eq(known, link)) {
            self.links.remove(&peer.node);
        }
        self.introductions.disconnected(peer);
        if self.directory.remove_peer(&peer.node, peer.incarnation) {
            self.names.publish(self.directory.snapshot());
        }
    }
}
