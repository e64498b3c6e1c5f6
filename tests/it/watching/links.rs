//! Links: a failure of one of two is one of the other, and no other end is.

use skyhold::prelude::*;

use super::*;

/// The reasons of the ends of the watcher's and the target's lives, as they come.
struct Ends {
    watcher: Watch,
    target: Watch,
}

impl Scene {
    /// Links the watcher with the target, and watches both from outside.
    async fn linked(&self) -> Ends {
        self.watches.link(self.place, "target".into()).await.unwrap();
        self.ends()
    }

    fn ends(&self) -> Ends {
        Ends { watcher: self.watches.watch(), target: self.is_watched.watch() }
    }

    async fn lives(&self) -> (usize, usize) {
        settle().await;
        (self.watcher.lives.load(Ordering::SeqCst), self.target.lives.load(Ordering::SeqCst))
    }
}

async fn end(watch: &mut Watch) -> String {
    soon("an end", watch.next()).await.unwrap().reason.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_the_target_fails_the_watcher_and_both_come_back() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        let mut ends = scene.linked().await;
        drop(scene.is_watched.fail().await);
        assert_eq!(end(&mut ends.target).await, "panicked: on purpose");
        let reason = end(&mut ends.watcher).await;
        let target = scene.is_watched.watch();
        let address = format!("{target:?}");
        assert!(reason.starts_with(&format!("failed: linked with n{place}#")), "{reason} {address}");
        assert!(reason.ends_with(", which panicked: on purpose"), "{reason}");
        scene.watches.is_there().await.unwrap();
        scene.is_watched.is_there().await.unwrap();
        assert_eq!(scene.lives().await, (2, 2));
        assert_eq!(scene.noted().await, "", "a link is not told to the hook");
        // The new lives are not linked.
        drop(scene.is_watched.fail().await);
        assert_eq!(scene.lives().await.0, 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_the_watcher_fails_the_target() {
    here_and_there(async |place| {
        let scene = Scene::new(place).await;
        let mut ends = scene.linked().await;
        scene.is_watched.is_there().await.unwrap();
        drop(scene.watches.fail().await);
        assert_eq!(end(&mut ends.watcher).await, "panicked: on purpose");
        let reason = end(&mut ends.target).await;
        assert!(reason.starts_with("failed: linked with n0#"), "{reason}");
        assert!(reason.ends_with(", which panicked: on purpose"), "{reason}");
        scene.is_watched.is_there().await.unwrap();
        assert_eq!(scene.lives().await, (2, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_no_failure_undoes_the_link_and_says_nothing() {
    here_and_there(async |place| {
        for ends_first in ["watcher", "target"] {
            let scene = Scene::new(place).await;
            let mut ends = scene.linked().await;
            let (first, second) = if ends_first == "watcher" {
                (&scene.watches, &scene.is_watched)
            } else {
                (&scene.is_watched, &scene.watches)
            };
            first.stop().await.unwrap();
            let first_ends = if ends_first == "watcher" { &mut ends.watcher } else { &mut ends.target };
            assert_eq!(end(first_ends).await, "stopped");
            assert_eq!(scene.lives().await, (1, 1));
            second.is_there().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn either_side_undoes_a_link() {
    here_and_there(async |place| {
        for undoes in ["watcher", "target"] {
            let scene = Scene::new(place).await;
            scene.watches.link(place, "target".into()).await.unwrap();
            scene.watches.link(place, "target".into()).await.unwrap();
            scene.is_watched.is_there().await.unwrap();
            if undoes == "watcher" {
                scene.watches.unlink(place, "target".into()).await.unwrap();
            } else {
                scene.is_watched.unlink(0, "watcher".into()).await.unwrap();
            }
            scene.is_watched.is_there().await.unwrap();
            settle().await;
            drop(scene.is_watched.fail().await);
            scene.is_watched.is_there().await.unwrap();
            assert_eq!(scene.lives().await, (1, 2), "{undoes}");
            drop(scene.watches.fail().await);
            scene.watches.is_there().await.unwrap();
            assert_eq!(scene.lives().await, (2, 2), "{undoes}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_connection_fails_both_sides_of_a_link() {
    let scene = Scene::new(1).await;
    let mut watcher = scene.linked().await.watcher;
    let target = ActorHandle::lookup(&scene.cluster[1], "target").await.unwrap();
    target.is_there().await.unwrap();
    let mut target = target.watch();
    scene.cluster.partition(&[0], &[1]).await;
    assert!(scene.cluster.is_partitioned(0, 1));
    for watch in [&mut watcher, &mut target] {
        let down = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.unwrap().unwrap();
        let reason = down.reason.to_string();
        assert!(reason.contains("whose node is not connected"), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_with_what_has_ended_is_a_failure() {
    here_and_there(async |place| {
        // The word that the name leads nowhere is still on its way, to the other node and in this one.
        let scene = Scene::with(place, Actor::default(), Restart::never()).await;
        let mut watcher = scene.watches.watch();
        if place == 1 {
            scene.cluster.delay(Duration::from_millis(100)).await;
            assert!(scene.cluster[1].stop_service("target").await);
            scene.watches.link(1, "target".into()).try_send().unwrap();
        } else {
            let node = &scene.cluster[0];
            let gone = node.spawn(Actor::default());
            node.stop(&gone).await.unwrap();
            let linker = node.spawn(Linker { with: gone });
            watcher = linker.watch();
        }
        let reason = end(&mut watcher).await;
        assert!(reason.ends_with(", which had ended before"), "{reason}");
    })
    .await;
}

/// Links itself when it starts.
struct Linker {
    with: ActorHandle,
}

#[service(local)]
impl Linker {
    #[on_start]
    fn begin(&mut self, context: &Context) {
        context.link(&context.handle::<LinkerHandle>());
        context.link(&self.with);
    }

    pub fn is_there(&self) {}
}

#[tokio::test(start_paused = true)]
async fn two_services_that_link_each_other_at_each_start_come_to_rest_after_a_failure() {
    here_and_there(async |place| {
        for fails in ["watcher", "target"] {
            let scene = Scene::new(place).await;
            *scene.watcher.links.lock().unwrap() = vec![(place, "target")];
            *scene.target.links.lock().unwrap() = vec![(0, "watcher")];
            scene.cluster.delay(Duration::from_millis(5)).await;
            for handle in [&scene.watches, &scene.is_watched] {
                drop(handle.fail().await);
                handle.is_there().await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let before = scene.lives().await;
            let fails = if fails == "watcher" { &scene.watches } else { &scene.is_watched };
            drop(fails.fail().await);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(scene.lives().await, (before.0 + 1, before.1 + 1), "both failed once");
            // They are linked again.
            drop(fails.fail().await);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(scene.lives().await, (before.0 + 2, before.1 + 2), "both failed once more");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_passes_along_a_chain_of_links() {
    let node = local_node().await;
    let first = node.spawn(Actor::default());
    let second = node.spawn(Linker { with: first.clone() });
    second.is_there().await.unwrap();
    let third = node.spawn(Chained { with: second });
    third.is_there().await.unwrap();
    let mut watch = third.watch();
    drop(first.fail().await);
    let reason = end(&mut watch).await;
    assert_eq!(reason, "failed: linked with a#2, which failed: linked with a#1, which panicked: on purpose");
}

/// Links itself when it starts.
struct Chained {
    with: LinkerHandle,
}

#[service(local)]
impl Chained {
    #[on_start]
    fn begin(&mut self, context: &Context) {
        context.link(&self.with);
    }

    pub fn is_there(&self) {}
}
