//! Watching from one node to another, over two drivers and a real stream.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use skyhold_macros::service;
use tokio::sync::mpsc;

use crate::event::Event;
use crate::node::lookup::Lookup as _;
use crate::node::node::Node;

use super::*;

mod watched;

/// Hands on what it is told.
#[derive(Debug)]
struct Ear(mpsc::Sender<(u64, StopReason)>);

impl Watcher for Ear {
    fn down(&self, watch: WatchId, reason: StopReason) {
        self.0.try_send((watch.0, reason)).expect("the test listens, and has room");
    }
}

#[derive(Default)]
struct Target {
    touched: AtomicUsize,
}

#[service]
impl Target {
    pub fn touch(&self) -> usize {
        self.touched.fetch_add(1, Ordering::Relaxed)
    }
}

/// A node that watches, and one that runs two instances of a name.
struct Scene {
    here: Node,
    there: Node,
    link: Arc<Link>,
    instances: Vec<Address>,
    ear: Arc<Ear>,
    heard: mpsc::Receiver<(u64, StopReason)>,
}

impl Scene {
    async fn new() -> Self {
        let there =
            Node::builder("there").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
        there.service("target", Target::default).instances(2).start().await.unwrap();
        let address = there.address().unwrap().to_string();
        let here = Node::builder("here").insecure_without_secret().seed(address).start().await.unwrap();
        soon(TargetHandle::lookup(&here, "target")).await.unwrap().touch().await.unwrap();
        let candidates = here.inner().names.current();
        let instances: Vec<_> = candidates.candidates("target").iter().map(|c| c.address.clone()).collect();
        assert_eq!(instances.len(), 2);
        let link = here.inner().table.link(there.id()).unwrap();
        let (ear, heard) = mpsc::channel(8);
        Self { here, there, link, instances, ear: Arc::new(Ear(ear)), heard }
    }

    fn watch(&self, instance: usize, id: u64) -> u64 {
        let watcher = Arc::clone(&self.ear) as Arc<dyn Watcher>;
        self.link.watch(self.instances[instance].instance, None, watcher, WatchId(id), 1).unwrap()
    }

    /// Waits until the other node has taken in all that was said to it.
    async fn taken_in(&self) {
        TargetHandle::try_lookup(&self.here, "target").unwrap().touch().await.unwrap();
    }

    async fn hears(&mut self) -> (u64, StopReason) {
        soon(self.heard.recv()).await.expect("the scene holds the sender")
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    time::timeout(Duration::from_secs(20), future).await.expect("this never happened")
}

#[tokio::test]
async fn a_watcher_on_another_node_hears_of_the_end_once_and_of_what_it_unwatched_never() {
    let mut scene = Scene::new().await;
    scene.watch(0, 10);
    let unwatched = scene.watch(0, 11);
    scene.watch(1, 12);
    assert!(scene.link.unwatch(unwatched, None));
    scene.taken_in().await;
    assert!(scene.there.stop_service("target").await);
    let mut heard = [scene.hears().await, scene.hears().await];
    heard.sort_by_key(|(watch, _)| *watch);
    assert_eq!(heard, [(10, StopReason::Normal), (12, StopReason::Normal)]);
    scene.watch(0, 13);
    assert_eq!(scene.hears().await, (13, StopReason::Gone));
    soon(scene.there.shutdown()).await.unwrap();
    assert!(scene.heard.try_recv().is_err(), "told twice");
}

#[tokio::test]
async fn a_connection_that_ends_tells_the_watcher_and_lets_the_watched_forget_it() {
    let mut scene = Scene::new().await;
    scene.watch(0, 10);
    scene.watch(1, 11);
    scene.taken_in().await;
    let watched = scene.there.inner().table.link(scene.here.id()).unwrap();
    assert!(watched.has_watches(), "the fault meets two watches");
    let mut events = scene.there.events();
    soon(scene.here.shutdown()).await.unwrap();
    for watch in [10, 11] {
        let (told, reason) = scene.hears().await;
        assert!(told == watch && matches!(reason, StopReason::NodeDown(_)), "{told}: {reason:?}");
    }
    assert!(!scene.link.unwatch(1, None), "there is nothing to end");
    soon(async { while !matches!(events.next().await, Some(Event::PeerDown { .. })) {} }).await;
    assert!(!watched.has_watches());
    let core = scene.there.inner().host.resident(scene.instances[0].instance).unwrap().core;
    assert!(!core.watchers().remove(&watcher(&watched), WatchId(1)), "the instance has forgotten");
}
