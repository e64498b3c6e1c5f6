//! Restarts in the middle of traffic, on many threads: every call ends, nothing runs twice, and the order is kept.
//!
//! Nothing here waits for time; the limit is there so that a lost call is a failure and no standstill.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use skyhold::Intensity;

use super::*;

const CALLERS: usize = 8;
const MESSAGES: u64 = 2_000;
const LIMIT: Duration = Duration::from_secs(60);

/// What was begun: who sent it, and its number there.
type Begun = Arc<Mutex<Vec<(usize, u64)>>>;

struct Target {
    begun: Begun,
}

#[service(mailbox = 16)]
impl Target {
    pub async fn alone(&mut self, caller: usize, number: u64) {
        self.begun.lock().unwrap().push((caller, number));
        if number % 31 == 17 {
            boom();
        }
        if number.is_multiple_of(7) {
            tokio::task::yield_now().await;
        }
    }

    pub fn shared(&self, caller: usize, number: u64) {
        self.begun.lock().unwrap().push((caller, number));
        if number % 37 == 19 {
            boom();
        }
    }
}

/// Panics without a word on the terminal.
fn boom() {
    std::panic::resume_unwind(Box::new("boom"));
}

/// Calls and sends, and gives the numbers of what certainly did not run.
async fn storm(target: TargetHandle, caller: usize) -> Vec<u64> {
    let mut unrun = Vec::new();
    for number in 0..MESSAGES {
        let result = match number % 3 {
            0 => target.alone(caller, number).await,
            1 => target.shared(caller, number).await,
            _ => target.alone(caller, number).send().await,
        };
        if let Err(error) = result {
            assert!(
                matches!(error, CallError::Panicked(_) | CallError::NoReply(_)),
                "who restarts refuses nothing: {error:?}"
            );
            if !error.may_have_run() {
                unrun.push(number);
            }
        }
    }
    unrun
}

async fn check(aborts: bool) {
    let node = Node::builder("a").start().await.unwrap();
    let begun = Begun::default();
    let begun_here = Arc::clone(&begun);
    let target = node
        .service("target", move || Target { begun: Arc::clone(&begun_here) })
        .restart(eager(Restart::always()))
        .intensity(Intensity::unlimited())
        .start()
        .await
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let aborting = tokio::spawn({
        let (node, target, over) = (node.clone(), target.clone(), Arc::clone(&over));
        async move {
            while aborts && !over.load(Ordering::Relaxed) {
                node.abort(&target).unwrap();
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
    let storms: Vec<_> = (0..CALLERS).map(|caller| tokio::spawn(storm(target.clone(), caller))).collect();
    let ends = tokio::time::timeout(LIMIT, join_all(storms)).await.expect("every call ends");
    over.store(true, Ordering::Relaxed);
    aborting.await.unwrap();
    let restarts = node.counters().restarts;
    assert!(restarts > 100, "the storm restarted it {restarts} times");
    tokio::time::timeout(LIMIT, node.drain_service("target")).await.expect("it ends");
    let begun = std::mem::take(&mut *begun.lock().unwrap());
    for (caller, unrun) in ends.into_iter().enumerate() {
        let unrun = unrun.unwrap();
        let numbers: Vec<_> =
            begun.iter().filter(|(by, _)| *by == caller).map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice: caller {caller}: {numbers:?}");
        assert!(
            unrun.iter().all(|number| !numbers.contains(number)),
            "the errors are right: caller {caller}"
        );
        if !aborts {
            assert_eq!(numbers.len() as u64, MESSAGES, "none is lost: caller {caller}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_in_a_storm_of_panics_all_end_in_order_and_none_runs_twice() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_in_a_storm_of_aborts_all_end_in_order_and_none_runs_twice() {
    check(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tree_whose_services_fail_all_the_time_stops_when_it_is_told_to() {
    for round in 0..40 {
        let node = Node::builder("a").start().await.unwrap();
        let before = usage(&node);
        let begun = Begun::default();
        let service = |name: &str| {
            let begun = Arc::clone(&begun);
            node.service(name, move || Target { begun: Arc::clone(&begun) }).restart(eager(Restart::always()))
        };
        let low = |name: &str| {
            Supervisor::new(name, Strategy::OneForAll)
                .intensity(Intensity::new(2, Duration::from_secs(5)))
                .restart(eager(Restart::always()))
        };
        let strategy = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][round % 3];
        let lowest = low("lowest").child(service("a")).child(service("b"));
        let middle = low("middle").child(lowest).child(service("c"));
        let top = Supervisor::new("top", strategy).intensity(Intensity::unlimited()).child(middle);
        let top = top.child(service("d")).start(&node).await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let failing: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| {
                let (target, over) = (TargetHandle::try_lookup(&node, name).unwrap(), Arc::clone(&over));
                let node = node.clone();
                tokio::spawn(async move {
                    while !over.load(Ordering::Relaxed) {
                        // It panics; and it is cut off in whatever state it is then.
                        let _ = target.alone(0, 17).timeout(Duration::from_millis(20)).await;
                        drop(node.abort(&target));
                        tokio::task::yield_now().await;
                    }
                })
            })
            .into();
        while node.counters().restarts < 20 + round as u64 * 5 {
            tokio::task::yield_now().await;
        }
        let stopped = tokio::time::timeout(LIMIT, top.stop()).await;
        assert!(stopped.is_ok(), "round {round}: the tree never stopped: {:?}", top.children().await);
        over.store(true, Ordering::Relaxed);
        tokio::time::timeout(LIMIT, join_all(failing)).await.expect("every call ends");
        while usage(&node) != before {
            tokio::task::yield_now().await; // the runtime takes away what has ended
        }
    }
}
