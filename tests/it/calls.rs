//! Calls and sends, here and across nodes.

use skyhold::prelude::*;
use skyhold::testing::Cluster;

#[derive(Default)]
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_call_works_on_the_node_and_across_nodes() {
    let cluster = Cluster::start(3).await;
    let here = cluster[0].service("counter", Counter::default).start().await.unwrap();
    let there = CounterHandle::lookup(&cluster[2], "counter").await.unwrap();
    assert_eq!(here.add(2).await.unwrap(), 2);
    assert_eq!(there.add(3).await.unwrap(), 5);
    there.add(1).send().await.unwrap();
    assert_eq!(there.total().await.unwrap(), 6);
    assert_eq!(here.total().await.unwrap(), 6);
}

/// Stops itself through its node, as a service does that has done its work.
struct Worker;

#[service]
impl Worker {
    pub async fn finish(&mut self, context: &Context) -> bool {
        let own: WorkerHandle = context.handle();
        context.node().stop(&own).await.is_ok() && context.node().stop_service("worker").await
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_its_own_instance_does_not_wait_for_itself() {
    let node = Node::builder("a").start().await.unwrap();
    let worker = node.service("worker", || Worker).start().await.unwrap();
    assert!(worker.finish().await.unwrap());
    node.stop_service("worker").await; // from outside it waits for the end, if that has not come yet
    assert!(!node.stop_service("worker").await, "it has gone, and its name with it");
}
