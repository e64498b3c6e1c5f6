//! Watches and ends at one moment, on several threads: nobody is told twice, and nobody is left waiting.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watch_that_races_with_the_end_tells_it_once() {
    let node = local_node().await;
    for round in 0..200 {
        let handle = node.spawn(Actor::default());
        let watchers: Vec<_> = (0..8)
            .map(|_| {
                let handle = handle.clone();
                tokio::spawn(async move { handle.watch().collect::<Vec<Down>>().await })
            })
            .collect();
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        handle.stop().try_send().unwrap();
        for watcher in watchers {
            assert_ended(&soon("the end", watcher).await.unwrap(), &StopReason::Normal);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watch_from_another_node_that_races_with_the_end_tells_it_once() {
    let cluster = Cluster::start(2).await;
    for _ in 0..50 {
        cluster[1].service("target", Actor::default).start().await.unwrap();
        let handle = ActorHandle::lookup(&cluster[0], "target").await.unwrap();
        let watchers: Vec<_> = (0..8)
            .map(|_| {
                let watch: Watch = handle.watch();
                tokio::spawn(watch.collect::<Vec<Down>>())
            })
            .collect();
        let late = handle.clone();
        let late = tokio::spawn(async move { late.watch().collect::<Vec<Down>>().await });
        assert!(cluster[1].stop_service("target").await);
        for watcher in watchers {
            assert_eq!(soon("the end", watcher).await.unwrap().len(), 1);
        }
        // The name may have led nowhere by then.
        assert!(soon("the end", late).await.unwrap().len() <= 1);
        while ActorHandle::try_lookup(&cluster[0], "target").is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
