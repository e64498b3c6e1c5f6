//! What is counted, one by one.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::{Monitoring, Outcomes, Restart};

use super::{instance, method, stats};
use crate::gate::{Gate, local_node, settle};

#[derive(Clone, Default)]
struct Worker;

#[service(name = "worker", mailbox = 2, overflow = "reject")]
impl Worker {
    pub fn quick(&self) {}

    pub fn explode(&mut self) {
        panic!("told to");
    }
}

#[derive(Clone)]
struct Holder(Gate);

#[service(name = "holder", mailbox = 2, overflow = "reject")]
impl Holder {
    pub async fn hold(&mut self) {
        self.0.pass().await;
    }

    pub async fn share(&self) {
        self.0.pass().await;
    }

    pub fn quick(&self) {}

    pub fn explode(&self) {
        panic!("told to");
    }
}

/// Outcomes that begin with none.
fn outcomes(set: impl FnOnce(&mut Outcomes)) -> Outcomes {
    let mut outcomes = Outcomes::default();
    set(&mut outcomes);
    outcomes
}

#[tokio::test(start_paused = true)]
async fn calls_and_sends_are_counted_one_by_one_by_method() {
    let node = local_node().await;
    let worker = node.spawn(Worker);
    for _ in 0..1000 {
        worker.quick().await.unwrap();
    }
    for _ in 0..100 {
        worker.quick().send().await.unwrap();
        settle().await;
    }
    let report = method(&node.manager(), "worker", "quick").await;
    assert_eq!((report.calls, report.sends, report.in_flight), (1000, 100, 0));
    assert_eq!(report.outcomes, outcomes(|o| o.done = 1100));
    let measured = report.handler.unwrap().count;
    assert!(measured.abs_diff(1100) <= 64, "{measured} stand for all, but for a group that has not ended");
    let figures = instance(&node.manager(), "worker").await.figures.unwrap();
    assert_eq!((figures.calls, figures.sends, figures.outcomes), (1000, 100, report.outcomes));
    assert!(figures.polls >= 1100, "{}", figures.polls);
    assert_eq!(method(&node.manager(), "worker", "explode").await.calls, 0);
}

#[tokio::test(start_paused = true)]
async fn each_outcome_is_counted_as_what_it_is() {
    let node = local_node().await;
    let gate = Gate::new();
    let holder = node.spawn(Holder(gate.clone()));
    let held = tokio::spawn(holder.hold().timeout(Duration::from_secs(60)).into_future());
    gate.reached(1).await;

    let expires = tokio::spawn(holder.quick().timeout(Duration::from_millis(100)).into_future());
    let abandoned = tokio::spawn(holder.quick().timeout(Duration::from_secs(60)).into_future());
    settle().await;
    for _ in 0..3 {
        assert!(matches!(holder.quick().await, Err(CallError::Overloaded(_))), "there is no room");
    }
    abandoned.abort();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(expires.await.unwrap().is_err());
    gate.open();
    held.await.unwrap().unwrap();
    settle().await;

    let manager = node.manager();
    let quick = method(&manager, "holder", "quick").await;
    let expected = outcomes(|o| (o.expired, o.abandoned, o.overloaded) = (1, 1, 3));
    assert_eq!((quick.calls, quick.outcomes), (0, expected));
    let hold = method(&manager, "holder", "hold").await;
    assert_eq!((hold.calls, hold.outcomes), (1, outcomes(|o| o.done = 1)));
    let figures = instance(&manager, "holder").await.figures.unwrap();
    assert_eq!(figures.most_waiting, 2);
    let both = outcomes(|o| (o.done, o.expired, o.abandoned, o.overloaded) = (1, 1, 1, 3));
    assert_eq!(figures.outcomes, both);
}

#[tokio::test(start_paused = true)]
async fn what_a_panic_cuts_off_and_what_an_end_leaves_in_the_mailbox_is_counted() {
    let node = local_node().await;
    let gate = Gate::new();
    let holder = node.spawn(Holder(gate.clone()));
    let mut calls = Vec::new();
    for number in 1..=3 {
        calls.push(tokio::spawn(holder.share().into_future()));
        gate.reached(number).await;
    }
    let manager = node.manager();
    let before = method(&manager, "holder", "share").await;
    assert_eq!((before.calls, before.in_flight, before.outcomes), (3, 3, Outcomes::default()));
    let first = tokio::spawn(holder.explode().into_future());
    let second = tokio::spawn(holder.hold().into_future());
    for call in calls {
        assert!(matches!(call.await.unwrap(), Err(CallError::NoReply(_))));
    }
    assert!(matches!(first.await.unwrap(), Err(CallError::Panicked(_))));
    assert!(matches!(second.await.unwrap(), Err(CallError::Stopped(_))));
    let outcome = async |name| method(&manager, "holder", name).await.outcomes;
    assert_eq!(outcome("share").await, outcomes(|o| o.cut_off = 3));
    assert_eq!(outcome("explode").await, outcomes(|o| o.panicked = 1));
    assert_eq!(outcome("hold").await, outcomes(|o| o.stopped = 1));
    assert_eq!(method(&manager, "holder", "share").await.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn figures_go_on_through_lives_and_a_service_remembers_ended_instances() {
    let node = local_node().await;
    let service = node.service("worker", Worker::default).restart(Restart::on_failure());
    let worker: WorkerHandle = service.start().await.unwrap();
    let manager = node.manager();
    for life in 1..=3 {
        worker.quick().await.unwrap();
        assert!(matches!(worker.explode().await, Err(CallError::Panicked(_))));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let figures = instance(&manager, "worker").await.figures.unwrap();
        assert_eq!(figures.outcomes, outcomes(|o| (o.done, o.panicked) = (life, life)));
        assert_eq!(stats(&manager, "worker").await.restarts, life);
    }
    assert!(node.stop_service("worker").await);
    let report = stats(&manager, "worker").await;
    assert_eq!((report.instances, report.figures), (0, None));
    let quick = method(&manager, "worker", "quick").await;
    assert_eq!((quick.calls, quick.outcomes), (3, outcomes(|o| o.done = 3)));
    assert_eq!(method(&manager, "worker", "explode").await.outcomes, outcomes(|o| o.panicked = 3));
}

#[tokio::test(start_paused = true)]
async fn instances_without_a_name_are_one_service() {
    let node = local_node().await;
    let workers: Vec<_> = (0..10).map(|_| node.spawn(Worker)).collect();
    for worker in &workers {
        worker.quick().await.unwrap();
    }
    let report = stats(&node.manager(), "worker").await;
    assert_eq!((report.instances, report.figures.unwrap().calls), (10, 10));
    assert_eq!(report.methods[0].calls, 10);
    assert_eq!(report.memory, None, "this program has another allocator");
    assert_eq!(node.manager().stats("nobody".into()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_measured_nothing_is_told() {
    let node = Node::builder("a").monitoring(Monitoring::Off).start().await.unwrap();
    let gate = Gate::new();
    let holder = node.spawn(Holder(gate.clone()));
    let held = tokio::spawn(holder.hold().into_future());
    gate.reached(1).await;
    let report = instance(&node.manager(), "holder").await;
    assert_eq!(report.figures, None);
    assert_eq!(report.running.as_deref(), Some("hold"), "this costs nothing");
    assert_eq!(report.handlers[0].age, None);
    let report = stats(&node.manager(), "holder").await;
    assert_eq!((report.instances, report.figures, report.methods.len()), (1, None, 0));
    gate.open();
    held.await.unwrap().unwrap();
}
