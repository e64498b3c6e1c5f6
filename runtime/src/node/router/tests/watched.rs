//! Watching through handles, seen from inside: what the tables hold afterwards, and handles that outlived their instance.
#![allow(clippy::needless_pass_by_value, clippy::unused_self, reason = "these are the forms of messages")]

use crate::event::Down;
use crate::id::{Incarnation, NodeId};
use crate::port::Links;
use crate::service::context::Context;
use crate::service::core::Core;
use crate::service::handle::{self, Handle, Remote, ServiceHandle};
use crate::service::watch::Watching;

use super::*;

const MANY: usize = 10_000;

/// Watches what it is told to.
#[derive(Default)]
struct Guard {
    watching: Vec<Watching>,
    downs: usize,
}

#[service(local)]
impl Guard {
    #[on_down]
    fn down(&mut self, _down: Down) {
        self.downs += 1;
    }

    pub fn watch(&mut self, context: &Context, target: TargetHandle) {
        self.watching.push(context.watch(&target));
    }

    pub fn watch_and_unwatch(&mut self, context: &Context, target: TargetHandle) {
        context.unwatch(context.watch(&target));
    }

    pub fn link_and_unlink(&mut self, context: &Context, target: TargetHandle) {
        context.link(&target);
        context.unlink(&target);
    }

    pub fn unwatch_all(&mut self, context: &Context) {
        self.watching.drain(..).for_each(|watching| context.unwatch(watching));
    }

    pub fn fail(&mut self) {
        panic!("on purpose");
    }

    pub fn downs(&mut self) -> usize {
        self.downs
    }
}

fn core_of<H: ServiceHandle>(of: &H) -> Arc<Core> {
    match of.as_inner().target() {
        handle::Target::Local(local) => Arc::clone(local.core()),
        _ => panic!("it is on this node"),
    }
}

fn watches_nothing(core: &Core) -> bool {
    core.with_watched(|_, watched| watched.is_none())
}

impl Scene {
    /// A handle to the instance with this address, from here.
    fn handle_to(&self, address: Address) -> TargetHandle {
        let links = Arc::clone(&self.here.inner().table) as Arc<dyn Links>;
        let remote = Remote::new(address, None, None, Arc::clone(&self.here.inner().host), links);
        TargetHandle::from_inner(Handle::new(handle::Target::Remote(Arc::new(remote))))
    }

    /// Waits until nothing is watched over the connection, on either side.
    async fn forgotten(&self) {
        let watched = self.there.inner().table.link(self.here.id()).unwrap();
        soon(async {
            while watched.has_watches() || self.link.has_watches() {
                self.taken_in().await;
            }
        })
        .await;
        for instance in &self.instances {
            let core = self.there.inner().host.resident(instance.instance).unwrap().core;
            assert!(core.watchers().is_unused());
        }
    }
}

async fn reason(handle: &TargetHandle) -> StopReason {
    let mut watch = handle.watch();
    let down = soon(watch.next()).await.unwrap();
    assert_eq!(soon(watch.next()).await, None);
    down.reason
}

#[tokio::test]
async fn a_handle_that_outlived_its_instance_or_its_node_says_so_at_once() {
    let scene = Scene::new().await;
    let living = scene.instances[0].clone();
    let earlier = Address { incarnation: Incarnation(living.incarnation.0 - 1), ..living.clone() };
    assert_eq!(reason(&scene.handle_to(earlier)).await, StopReason::Stale);
    let unknown = Address { instance: InstanceId(999), ..living.clone() };
    assert_eq!(reason(&scene.handle_to(unknown)).await, StopReason::Gone);
    let elsewhere = Address { node: NodeId::new("elsewhere").unwrap(), ..living.clone() };
    let not_connected = StopReason::NodeDown("node elsewhere is not connected".to_owned());
    assert_eq!(reason(&scene.handle_to(elsewhere)).await, not_connected);
    soon(scene.there.shutdown()).await.unwrap();
    let gone = reason(&scene.handle_to(living)).await;
    assert!(matches!(gone, StopReason::NodeDown(_)), "{gone:?}");
}

#[tokio::test]
async fn what_is_anonymous_is_gone_for_another_node() {
    let scene = Scene::new().await;
    let anonymous = scene.there.spawn(Target::default());
    let address = anonymous.address().unwrap().clone();
    assert_eq!(reason(&scene.handle_to(address)).await, StopReason::Gone);
    anonymous.touch().await.unwrap();
}

#[tokio::test]
async fn ten_thousand_watches_that_are_given_up_leave_nothing_on_either_node() {
    let scene = Scene::new().await;
    let near = scene.here.spawn(Target::default());
    let far = TargetHandle::lookup(&scene.here, "target").await.unwrap();
    let guard = scene.here.spawn(Guard::default());
    for target in [&near, &far] {
        for _ in 0..MANY {
            drop(target.watch());
            guard.watch_and_unwatch(target.clone()).await.unwrap();
            guard.link_and_unlink(target.clone()).await.unwrap();
            guard.watch(target.clone()).await.unwrap();
        }
        assert!(!watches_nothing(&core_of(&guard)));
        guard.unwatch_all().await.unwrap();
        assert!(watches_nothing(&core_of(&guard)));
    }
    assert!(core_of(&near).watchers().is_unused());
    scene.forgotten().await;
    assert_eq!(guard.downs().await.unwrap(), 0);
}

#[tokio::test]
async fn ten_thousand_watched_ends_leave_nothing() {
    let scene = Scene::new().await;
    let guard = scene.here.spawn(Guard::default());
    let mut watches = Vec::new();
    for _ in 0..MANY {
        let target = scene.here.spawn(Target::default());
        guard.watch(target.clone()).await.unwrap();
        watches.push(target.watch());
        scene.here.abort(&target).unwrap();
    }
    for watch in &mut watches {
        assert!(soon(watch.next()).await.is_some());
        assert_eq!(soon(watch.next()).await, None);
    }
    soon(async { while guard.downs().await.unwrap() < MANY {} }).await;
    assert!(watches_nothing(&core_of(&guard)));
}

#[tokio::test]
async fn the_end_of_a_watcher_leaves_nothing_where_it_watched() {
    let scene = Scene::new().await;
    let near = scene.here.spawn(Target::default());
    let far = TargetHandle::lookup(&scene.here, "target").await.unwrap();
    let guard = scene.here.spawn(Guard::default());
    for _ in 0..100 {
        guard.watch(near.clone()).await.unwrap();
        guard.watch(far.clone()).await.unwrap();
    }
    assert!(!core_of(&near).watchers().is_unused() && scene.link.has_watches());
    drop(guard.fail().await);
    soon(core_of(&guard).ended()).await;
    assert!(watches_nothing(&core_of(&guard)) && core_of(&near).watchers().is_unused());
    scene.forgotten().await;
}
