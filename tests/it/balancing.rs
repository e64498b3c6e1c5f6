//! Calls to a name with many instances: how they are spread, and which instances are spared or passed over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Balancer, Candidates, Intensity, Restart, Weighted};
use tokio::task::JoinSet;

mod faults;
mod own;
mod proofs;
mod spreading;

/// One node's instances: what they do, and how often they did.
#[derive(Default)]
struct Plan {
    /// How long a call takes, in milliseconds.
    takes: AtomicU64,
    fault: AtomicUsize,
    ran: AtomicUsize,
}

/// What an instance may do wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Panics,
    NeverAnswers,
    AnswersErr,
}

#[derive(Clone)]
struct Worker(Arc<Plan>);

#[service]
impl Worker {
    /// Gives the node's name.
    pub async fn work(&self, context: &Context) -> Result<String, String> {
        let Self(plan) = self;
        plan.ran.fetch_add(1, Ordering::SeqCst);
        let fault = plan.fault.load(Ordering::SeqCst);
        if fault == Fault::Panics as usize {
            panic!("as it was told");
        }
        if fault == Fault::NeverAnswers as usize {
            std::future::pending::<()>().await;
        }
        let takes = Duration::from_millis(plan.takes.load(Ordering::SeqCst));
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if fault == Fault::AnswersErr as usize {
            return Err("as it was told".into());
        }
        Ok(context.address().node.to_string())
    }

    /// Calls through a handle that was sent here; gives how often each node had the call.
    pub async fn spread_of(&self, other: WorkerHandle, calls: usize) -> BTreeMap<String, usize> {
        spread(&other, calls).await
    }
}

/// Nodes of which the first has the handle, and some run the service, each an instance.
struct Scene {
    cluster: Cluster,
    plans: Vec<Arc<Plan>>,
    routed: WorkerHandle,
}

impl Scene {
    /// `runs` are the nodes that run it.
    async fn new(nodes: usize, runs: &[usize]) -> Self {
        let cluster = Cluster::start(nodes).await;
        let plans: Vec<Arc<Plan>> = (0..nodes).map(|_| Arc::default()).collect();
        for index in runs {
            start(&cluster, *index, &plans[*index]).await;
        }
        let routed = WorkerHandle::lookup(&cluster[0], "worker").await.unwrap();
        Self { cluster, plans, routed }
    }

    /// Starts one more.
    async fn start(&self, index: usize) {
        start(&self.cluster, index, &self.plans[index]).await;
    }

    fn fail(&self, index: usize, fault: Fault) {
        self.plans[index].fault.store(fault as usize, Ordering::SeqCst);
    }

    fn takes(&self, index: usize, time: Duration) {
        self.plans[index].takes.store(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// How often each node's instance ran since the last time this was asked.
    fn ran(&self) -> Vec<usize> {
        self.plans.iter().map(|plan| plan.ran.swap(0, Ordering::SeqCst)).collect()
    }
}

/// Starts an instance that comes back at once whenever it fails, and waits until the first node knows it.
async fn start(cluster: &Cluster, index: usize, plan: &Arc<Plan>) {
    let (plan, instant) = (Arc::clone(plan), Duration::from_millis(1));
    let service = cluster[index].service("worker", move || Worker(Arc::clone(&plan)));
    let restart = Restart::on_failure().backoff(instant, instant);
    service.restart(restart).intensity(Intensity::unlimited()).start().await.unwrap();
    WorkerHandle::lookup_on(&cluster[0], cluster[index].id().as_str(), "worker").await.unwrap();
}

/// Where so many calls one after the other arrive.
async fn spread(handle: &WorkerHandle, calls: usize) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..calls {
        *spread.entry(handle.work().await.unwrap().unwrap()).or_default() += 1;
    }
    spread
}

/// A call's time, from when it was made, and its end.
type Ended = (Duration, Result<Result<String, String>, CallError>);

/// Makes calls at a steady rate, whether or not those before have ended, and gives how each went.
async fn steady(handle: &WorkerHandle, calls: usize, every: Duration) -> Vec<Ended> {
    let mut running = JoinSet::new();
    for _ in 0..calls {
        let call = handle.work().timeout(Duration::from_millis(500)).into_future();
        running.spawn(async move {
            let begin = tokio::time::Instant::now();
            let result = call.await;
            (begin.elapsed(), result)
        });
        tokio::time::sleep(every).await;
    }
    running.join_all().await
}

/// The time that of a hundred calls one exceeds.
fn p99(ended: &[Ended]) -> Duration {
    let mut times: Vec<_> = ended.iter().map(|(time, _)| *time).collect();
    times.sort();
    times[times.len() * 99 / 100]
}
