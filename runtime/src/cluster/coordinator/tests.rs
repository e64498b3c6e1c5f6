//! The task by itself: its peers are links whose other end the test reads and speaks for.
#![expect(clippy::disallowed_methods, reason = "the task ends with the test's runtime")]

use super::*;
use crate::event::Event;
use crate::id::Incarnation;
use crate::proto::frame::{self, NameEntry, parse};

const LIMIT: Duration = Duration::from_secs(10);

/// The task of node `me`, and what tells it its peers' events.
struct Scene {
    names: Arc<Names>,
    members: watch::Receiver<Members>,
    commands: mpsc::Sender<Command>,
    events: mpsc::Sender<PeerEvent>,
}

impl Scene {
    fn new() -> Self {
        let (events, hears) = mpsc::channel(64);
        let (peers, _) = mpsc::channel(64);
        let me = Identity::new(node("me"), Incarnation(1), None);
        let (_, expected) = watch::channel(0);
        let (publish, measure): (Publish, Measure) = (Arc::new(|_| {}), Box::new(|_| 0));
        let outside = Outside { expected, events: hears, peers, publish, measure };
        let (task, seen) = Coordinator::new(me, false, Limits::default(), outside);
        let Seen { names, members, commands } = seen;
        tokio::spawn(task.run());
        Self { names, members, commands, events }
    }

    async fn tell(&self, event: PeerEvent) {
        self.events.send(event).await.unwrap();
        settle().await;
    }

    /// A peer that has just connected.
    async fn peer(&self, name: &str) -> Arc<Link> {
        let link = Link::to(name);
        self.tell(PeerEvent::Up(Arc::clone(&link))).await;
        link
    }

    async fn register(&self, name: &str, instances: &[u64]) {
        let (done, is_done) = oneshot::channel();
        let instances = instances.iter().copied().map(InstanceId).collect();
        let register =
            Register { name: name.into(), interface: "I", instances, traits: Traits::default(), done };
        self.commands.send(Command::Register(register)).await.unwrap();
        is_done.await.unwrap();
    }

    /// Begins to withdraw, and lets that come to its wait.
    async fn withdraw(&self, names: Withdraw) -> tokio::task::JoinHandle<bool> {
        let commands = self.commands.clone();
        let wait = tokio::spawn(async move { withdraw(&commands, names, LIMIT).await });
        settle().await;
        wait
    }

    fn knows(&self, name: &str) -> bool {
        !self.names.current().candidates(name).is_empty()
    }
}

/// What was written to a peer since the last look, in short.
fn told(link: &Link) -> String {
    let mut bytes = link.taken();
    let mut words = vec![];
    while let Some(frame) = parse(&mut bytes, 1 << 20).unwrap() {
        match frame {
            Frame::Names(names) => words.extend(names.entries.iter().map(entry_word)),
            Frame::NamesSync { token } => words.push(format!("sync{token}")),
            Frame::NamesSynced { token } => words.push(format!("synced{token}")),
            Frame::Gossip { .. } => {} // the members are not looked at here
            other => words.push(format!("{other:?}")),
        }
    }
    words.join(" ")
}

fn entry_word(entry: &NameEntry) -> String {
    let sign = if entry.instances.is_empty() { '-' } else { '+' };
    format!("{sign}{}", entry.name)
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Lets every task run until all wait.
async fn settle() {
    time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_is_over_when_every_peer_has_answered_it() {
    let scene = Scene::new();
    let (a, b) = (scene.peer("a").await, scene.peer("b").await);
    scene.register("x", &[1]).await;
    assert_eq!((told(&a), told(&b)), ("+x".into(), "+x".into()));

    let wait = scene.withdraw(Withdraw::All).await;
    assert_eq!((told(&a), told(&b)), ("-x sync1".into(), "-x sync1".into()));
    assert!(scene.knows("x"), "this node still routes by it");
    scene.tell(PeerEvent::NamesSynced(Arc::clone(&a), 1)).await;
    scene.tell(PeerEvent::NamesSynced(Arc::clone(&a), 1)).await;
    scene.tell(PeerEvent::NamesSynced(Arc::clone(&b), 7)).await;
    assert!(!wait.is_finished(), "only a has answered");
    scene.tell(PeerEvent::NamesSynced(b, 1)).await;
    assert!(wait.is_finished() && wait.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_without_peers_is_over_at_once() {
    let scene = Scene::new();
    scene.register("x", &[1]).await;
    let wait = scene.withdraw(Withdraw::All).await;
    assert!(wait.is_finished() && wait.await.unwrap());
    let late = scene.peer("late").await;
    scene.register("y", &[2]).await;
    assert_eq!(told(&late), "", "neither is told to who comes later");
    assert!(scene.knows("x") && scene.knows("y"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_holds_a_withdrawal_up_to_its_limit_and_one_that_goes_does_not() {
    let scene = Scene::new();
    let (a, b) = (scene.peer("a").await, scene.peer("b").await);
    scene.register("x", &[1]).await;
    let wait = scene.withdraw(Withdraw::Names(vec!["x".into()])).await;
    scene.tell(PeerEvent::Down { link: a, is_away: false }).await;
    assert!(!wait.is_finished(), "b has said nothing");
    let begin = time::now();
    assert!(!wait.await.unwrap(), "not everybody has answered");
    assert!(time::now() - begin <= LIMIT);

    let wait = scene.withdraw(Withdraw::All).await;
    scene.tell(PeerEvent::Down { link: b, is_away: false }).await;
    assert!(wait.is_finished() && wait.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_on_another_connection_answers_on_that() {
    let scene = Scene::new();
    let old = scene.peer("a").await;
    scene.register("x", &[1]).await;
    let wait = scene.withdraw(Withdraw::Names(vec!["x".into()])).await;
    let new = scene.peer("a").await;
    assert_eq!(told(&new), "sync1", "and it is not told of x");
    scene.tell(PeerEvent::NamesSynced(Arc::clone(&old), 1)).await;
    scene.tell(PeerEvent::Down { link: old, is_away: false }).await;
    assert!(!wait.is_finished(), "by the new connection it may still come");
    scene.tell(PeerEvent::NamesSynced(new, 1)).await;
    assert!(wait.is_finished() && wait.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_is_answered_after_what_it_told_before_is_published() {
    let scene = Scene::new();
    let a = scene.peer("a").await;
    let says = |instances| {
        let entries = vec![NameEntry { name: "x".into(), interface: "I".into(), instances }];
        PeerEvent::Names(Arc::clone(&a), frame::Names { complete: false, entries })
    };
    scene.tell(says(vec![InstanceId(1)])).await;
    assert!(scene.knows("x"));
    scene.events.send(says(vec![])).await.unwrap();
    scene.tell(PeerEvent::NamesSync(Arc::clone(&a), 9)).await;
    assert_eq!(told(&a), "synced9");
    assert!(!scene.knows("x"));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_says_nothing_of_who_is_a_member() {
    let scene = Scene::new();
    let (a, b) = (scene.peer("a").await, scene.peer("b").await);
    // It may be this node that closes it, or turns the peer off.
    for (link, is_away) in [(a, false), (b, true)] {
        scene.tell(PeerEvent::Down { link, is_away }).await;
    }
    assert_eq!(scene.members.borrow().members.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_says_so_to_its_peers() {
    let scene = Scene::new();
    let link = scene.peer("a").await;
    drop(link.taken());
    leave(&scene.commands, LIMIT).await;
    let mut bytes = link.taken();
    let mut said = std::iter::from_fn(|| parse(&mut bytes, 1 << 20).unwrap());
    let Some(Frame::Gossip { bytes }) = said.find(|frame| matches!(frame, Frame::Gossip { .. })) else {
        panic!("it says nothing");
    };
    // Whoever hears it has it from itself, and from nobody else.
    let told = |node: &str| Identity::new(NodeId::new(node).unwrap(), Incarnation(1), None);
    let mut hears = Membership::new(told("a"), random::seeded(1), time::now());
    hears.handle_connected(told("me"), time::now());
    hears.handle_gossip(&node("me"), &bytes, time::now()).unwrap();
    let events = std::iter::from_fn(|| hears.poll_output());
    let left = events.filter(|output| matches!(output, Output::Tell(Event::MemberLeft { .. }))).count();
    assert_eq!(left, 1);
}
