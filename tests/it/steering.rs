//! Restarting services and changing how many instances they have, while they are called.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::testing::{Cluster, usage};
use skyhold::{
    Event, InstanceId, InstanceReport, Intensity, KnownInstance, ManageError, ManagerHandle, Pace, Restart,
    StartError, Strategy, Supervisor,
};

use crate::gate::{Gate, settle};

/// A service whose lives are counted. It holds its stop hook at a gate, and its start hook can be made to fail.
struct Worker {
    life: u64,
    plan: Plan,
}

#[derive(Clone, Default)]
struct Plan {
    lives: Arc<AtomicU64>,
    refuses: Arc<AtomicBool>,
    stop: Gate,
    work: Gate,
    drained: Arc<Mutex<Vec<InstanceId>>>,
}

impl Plan {
    /// Its gates hold nobody.
    fn free() -> Self {
        Self { stop: Gate::opened(), work: Gate::opened(), ..Self::default() }
    }

    fn make(&self) -> impl FnMut() -> Worker + Send + 'static {
        let plan = self.clone();
        move || Worker { life: plan.lives.fetch_add(1, Ordering::Relaxed), plan: plan.clone() }
    }
}

#[service]
impl Worker {
    #[on_start]
    fn begin(&mut self) -> Result<(), io::Error> {
        if self.plan.refuses.load(Ordering::Relaxed) { Err(io::Error::other("not now")) } else { Ok(()) }
    }

    #[on_stop]
    async fn end(&mut self, context: &Context) {
        self.plan.drained.lock().unwrap().push(context.address().instance);
        self.plan.stop.pass().await;
    }

    /// The number of this life, and where it is.
    pub async fn work(&mut self, context: &Context) -> (u64, InstanceId) {
        self.plan.work.pass().await;
        (self.life, context.address().instance)
    }

    pub async fn restart_itself(&mut self, context: &Context, pace: Pace) -> Result<bool, String> {
        context.node().restart_service("worker", pace).await.map_err(|error| error.to_string())
    }
}

/// Calls without a pause until it is told to end; gives how many calls, and what went wrong.
fn load(worker: WorkerHandle) -> (Arc<AtomicBool>, tokio::task::JoinHandle<(usize, Vec<CallError>)>) {
    let ends = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ends);
    let calls = tokio::spawn(async move {
        let (mut calls, mut errors) = (0, Vec::new());
        while !told.load(Ordering::Relaxed) {
            errors.extend(worker.work().await.err());
            calls += 1;
            tokio::task::yield_now().await;
        }
        (calls, errors)
    });
    (ends, calls)
}

async fn numbers(worker: &WorkerHandle, count: usize) -> BTreeSet<InstanceId> {
    let mut watch = worker.watch_instances().unwrap();
    loop {
        let instances = watch.next().await.unwrap();
        if instances.instances.len() == count {
            return instances
                .instances
                .iter()
                .map(|KnownInstance { address, .. }| address.instance)
                .collect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_gives_each_instance_another_life_at_its_address_and_fails_no_call() {
    let cluster = Cluster::start(2).await;
    let plan = Plan::free();
    let service = cluster[0].service("worker", plan.make()).instances(4);
    service.intensity(Intensity::new(0, Duration::from_secs(5))).start().await.unwrap();
    let remote = WorkerHandle::lookup(&cluster[1], "worker").await.unwrap();
    let before = numbers(&remote, 4).await;
    let (ends, calls) = load(remote.clone());
    for pace in [Pace::Rolling, Pace::AtOnce] {
        assert!(cluster[0].restart_service("worker", pace).await.unwrap());
    }
    ends.store(true, Ordering::Relaxed);
    let (count, errors) = calls.await.unwrap();
    assert!(count > 0 && errors.is_empty(), "of {count}: {errors:?}");
    assert_eq!(plan.lives.load(Ordering::Relaxed), 12, "each instance has had three lives");
    assert_eq!(numbers(&remote, 4).await, before);
    assert!(!cluster[0].restart_service("other", Pace::Rolling).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_has_one_instance_down_at_a_time() {
    let node = crate::gate::local_node().await;
    let plan = Plan { work: Gate::opened(), ..Plan::default() };
    node.service("worker", plan.make()).instances(3).start().await.unwrap();
    let restarting = tokio::spawn({
        let node = node.clone();
        async move { node.restart_service("worker", Pace::Rolling).await }
    });
    plan.stop.reached(1).await;
    settle().await;
    assert_eq!((plan.stop.arrived(), restarting.is_finished()), (1, false));
    plan.stop.open();
    assert!(restarting.await.unwrap().unwrap());
    assert_eq!(plan.stop.arrived(), 3);

    let plan = Plan { work: Gate::opened(), ..Plan::default() };
    node.service("others", plan.make()).instances(3).start().await.unwrap();
    let restarting = node.restart_service("others", Pace::AtOnce);
    tokio::pin!(restarting);
    assert!(restarting.as_mut().now_or_never().is_none());
    plan.stop.reached(3).await;
    plan.stop.open();
    assert!(restarting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_waits_for_the_next_life_and_what_runs_ends_in_this_one() {
    let node = crate::gate::local_node().await;
    let plan = Plan { stop: Gate::opened(), ..Plan::default() };
    let worker = node.service("worker", plan.make()).start().await.unwrap();
    let mut running = std::pin::pin!(worker.work().into_future());
    assert!((&mut running).now_or_never().is_none());
    plan.work.reached(1).await;
    let mut queued = std::pin::pin!(worker.work().into_future());
    assert!((&mut queued).now_or_never().is_none());
    let restarting = tokio::spawn({
        let node = node.clone();
        async move { node.restart_service("worker", Pace::Rolling).await }
    });
    settle().await;
    assert!(!restarting.is_finished(), "its handler runs");
    plan.work.open();
    assert_eq!(running.await.unwrap().0, 0);
    assert_eq!(queued.await.unwrap().0, 1);
    assert!(restarting.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_says_why_and_its_supervisor_goes_on() {
    let node = crate::gate::local_node().await;
    let plan = Plan::free();
    let service = node.service("worker", plan.make()).instances(2).intensity(Intensity::unlimited());
    let worker = service.start().await.unwrap();
    plan.refuses.store(true, Ordering::Relaxed);
    let error = node.restart_service("worker", Pace::Rolling).await.unwrap_err();
    assert!(matches!(&error, StartError::Refused { service, .. } if service == "worker"), "{error}");
    assert_eq!(plan.drained.lock().unwrap().len(), 1, "the second was left alone");
    plan.refuses.store(false, Ordering::Relaxed);
    let mut events = node.events();
    // It comes back by itself, after its pause.
    loop {
        if let Event::Restarted { child, .. } = events.next().await.unwrap() {
            assert_eq!(child, "worker");
            break;
        }
    }
    worker.work().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_touches_no_other_child_of_a_supervisor() {
    let node = crate::gate::local_node().await;
    let (first, second) = (Plan::free(), Plan::free());
    let supervisor = Supervisor::new("both", Strategy::OneForAll)
        .child(node.service("worker", first.make()).restart(Restart::never()))
        .child(node.service("second", second.make()))
        .start(&node)
        .await
        .unwrap();
    assert!(node.restart_service("worker", Pace::Rolling).await.unwrap());
    assert_eq!(first.lives.load(Ordering::Relaxed), 2, "also one that no failure brings back");
    assert_eq!(second.lives.load(Ordering::Relaxed), 1);
    assert_eq!(supervisor.children().await.iter().map(|child| child.restarts).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_restart_its_own_service() {
    let node = crate::gate::local_node().await;
    for pace in [Pace::Rolling, Pace::AtOnce] {
        let plan = Plan::free();
        let worker = node.service("worker", plan.make()).instances(2).start().await.unwrap();
        assert_eq!(worker.restart_itself(pace).await.unwrap(), Ok(true));
        while plan.lives.load(Ordering::Relaxed) < 4 {
            tokio::task::yield_now().await;
        }
        worker.work().await.unwrap();
        assert!(node.stop_service("worker").await);
    }
}

#[tokio::test(start_paused = true)]
async fn one_instance_is_restarted_by_its_number() {
    let cluster = Cluster::start(2).await;
    let plan = Plan::free();
    cluster[1].service("worker", plan.make()).instances(2).start().await.unwrap();
    let anonymous = cluster[1].spawn(Worker { life: 7, plan: plan.clone() });
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    let (_, number) = anonymous.work().await.unwrap();
    let all = manager.instances().await.unwrap();
    let is_it =
        |instance: &&InstanceReport| instance.service == "worker" && instance.address.instance != number;
    let worker = all.iter().rfind(is_it).unwrap();
    assert_eq!(manager.restart_instance(worker.address.instance).await.unwrap(), Ok(true));
    assert_eq!(*plan.drained.lock().unwrap(), [worker.address.instance]);
    assert_eq!(manager.restart_instance(number).await.unwrap(), Ok(false), "nobody supervises it");
    assert_eq!(manager.restart_instance(InstanceId(99)).await.unwrap(), Ok(false));
}

#[tokio::test(start_paused = true)]
async fn a_service_is_scaled_up_and_down_under_load_and_no_call_fails() {
    let cluster = Cluster::start(2).await;
    let plan = Plan::free();
    cluster[0].service("worker", plan.make()).start().await.unwrap();
    let remote = WorkerHandle::lookup(&cluster[1], "worker").await.unwrap();
    let first = numbers(&remote, 1).await;
    let (ends, calls) = load(remote.clone());
    let manager = ManagerHandle::on(&cluster[1], "n0").await.unwrap();
    for (instances, lives) in [(4, 4), (4, 4), (2, 4), (3, 5), (1, 5)] {
        assert_eq!(manager.scale("worker".into(), instances).await.unwrap(), Ok(true));
        let left = numbers(&remote, instances).await;
        assert!(left.is_superset(&first), "the last one started goes first");
        assert_eq!(plan.lives.load(Ordering::Relaxed), lives);
        assert_eq!(usage(&cluster[0]).instances, instances + 1, "and the manager");
    }
    ends.store(true, Ordering::Relaxed);
    let (count, errors) = calls.await.unwrap();
    assert!(count > 0 && errors.is_empty(), "of {count}: {errors:?}");
    assert_eq!(manager.scale("other".into(), 2).await.unwrap(), Ok(false));
    let error = manager.scale("worker".into(), 0).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("draining it ends it"), "{error}");
    assert!(cluster[0].stop_service("worker").await, "also what was added");
    assert_eq!(usage(&cluster[0]).instances, 1);
}

#[tokio::test(start_paused = true)]
async fn instances_that_do_not_come_up_leave_the_service_as_it_was() {
    let node = crate::gate::local_node().await;
    let plan = Plan::free();
    let worker = node.service("worker", plan.make()).instances(2).start().await.unwrap();
    let before = numbers(&worker, 2).await;
    plan.refuses.store(true, Ordering::Relaxed);
    let error = node.scale_service("worker", 4).await.unwrap_err();
    assert!(matches!(error, StartError::Refused { .. }), "{error}");
    plan.refuses.store(false, Ordering::Relaxed);
    assert_eq!(numbers(&worker, 2).await, before);
    assert!(node.scale_service("worker", 3).await.unwrap(), "it may be tried again");
    numbers(&worker, 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_to_go_runs_what_is_queued() {
    let node = crate::gate::local_node().await;
    let plan = Plan { stop: Gate::opened(), ..Plan::default() };
    let worker = node.service("worker", plan.make()).instances(2).start().await.unwrap();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let worker = worker.clone();
            tokio::spawn(async move { worker.work().await })
        })
        .collect();
    plan.work.reached(2).await;
    settle().await;
    let scaling = tokio::spawn({
        let node = node.clone();
        async move { node.scale_service("worker", 1).await }
    });
    settle().await;
    assert!(!scaling.is_finished());
    plan.work.open();
    assert!(scaling.await.unwrap().unwrap());
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn members_with_a_label_are_steered_together() {
    let (zones, next) = (["eu", "eu", "us"], AtomicUsize::new(0));
    let cluster = Cluster::start_with(3, move |node| {
        node.label("zone", zones[next.fetch_add(1, Ordering::Relaxed)])
            .kind("worker", |plan: &Nothing| plan.worker())
    })
    .await;
    let europe = cluster[2].cluster().select().with("zone", "eu");
    let answers = europe.start("worker", "worker", 2, "").await;
    assert_eq!(answers.keys().map(NodeId::as_str).collect::<Vec<_>>(), ["n0", "n1"]);
    assert!(answers.values().all(Result::is_ok), "{answers:?}");
    let worker = WorkerHandle::lookup(&cluster[2], "worker").await.unwrap();
    numbers(&worker, 4).await;
    assert!(europe.scale("worker", 3).await.values().all(|answer| *answer == Ok(true)));
    numbers(&worker, 6).await;
    let everywhere = cluster[2].cluster().select().restart("worker", Pace::Rolling).await;
    let had: Vec<_> = everywhere.into_values().map(Result::unwrap).collect();
    assert_eq!(had, [true, true, false]);
    let error = europe.start("workre", "more", 1, "").await.into_values().next().unwrap().unwrap_err();
    assert!(error.to_string().contains("did you mean \"worker\"?"), "{error}");
    assert!(europe.drain("worker").await.values().all(|answer| *answer == Ok(true)));
    assert!(europe.stop("worker").await.values().all(|answer| *answer == Ok(false)));
}

#[tokio::test(start_paused = true)]
async fn a_selection_gives_the_nodes_the_time_that_it_is_told() {
    let cluster = Cluster::start(3).await;
    let plan = Plan { work: Gate::opened(), ..Plan::default() };
    for (index, name) in [(1, "worker"), (1, "other"), (2, "worker")] {
        let service = cluster[index].service(name, plan.make()).stop_within(Duration::from_secs(300));
        service.start().await.unwrap();
    }
    let one = cluster[0].cluster().select().on(cluster[1].id().clone());
    assert_eq!(one.nodes().await.len(), 1);
    // The handlers of their end wait at the gate.
    let impatient = one.restart("other", Pace::AtOnce).await.into_values().next().unwrap();
    assert!(
        matches!(&impatient, Err(ManageError::Unreachable(why)) if why.contains("did not answer in time")),
        "{impatient:?}"
    );
    let patient = one.timeout(Duration::from_secs(200));
    let patient = tokio::spawn(async move { patient.restart("worker", Pace::AtOnce).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    plan.stop.open();
    let answers: Vec<_> = patient.await.unwrap().into_iter().collect();
    assert_eq!(answers, [(cluster[1].id().clone(), Ok(true))]);
}

/// What a worker of that kind is configured with: nothing.
#[derive(serde::Deserialize)]
struct Nothing {}

impl Nothing {
    #[expect(clippy::unused_self, reason = "a kind is made from its configuration")]
    fn worker(&self) -> Worker {
        Worker { life: 0, plan: Plan::free() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_over_nodes_ends_with_the_first_one_that_fails() {
    let cluster = Cluster::start(3).await;
    let plans: Vec<_> = (0..3).map(|_| Plan::free()).collect();
    for (index, plan) in plans.iter().enumerate() {
        cluster[index].service("worker", plan.make()).start().await.unwrap();
    }
    plans[1].refuses.store(true, Ordering::Relaxed);
    let answers = cluster[0].cluster().select().restart("worker", Pace::Rolling).await;
    let answers: Vec<_> = answers.into_iter().map(|(node, answer)| (node.to_string(), answer)).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(answers[0], ("n0".to_owned(), Ok(true)));
    assert!(matches!(&answers[1].1, Err(ManageError::Start(why)) if why.contains("not now")), "{answers:?}");
    assert_eq!(plans[2].lives.load(Ordering::Relaxed), 1);

    cluster.pause(1).await;
    assert!(cluster.is_paused(1));
    let answers = cluster[0].cluster().select().stop("worker").await;
    let unreachable: Vec<_> = answers
        .iter()
        .filter(|(_, answer)| matches!(answer, Err(ManageError::Unreachable(_))))
        .map(|(node, _)| node.as_str())
        .collect();
    assert!(unreachable.len() <= 1 && answers.len() >= 2, "{answers:?}");
}
