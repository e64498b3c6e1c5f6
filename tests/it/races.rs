//! Ends of instances and nodes in the middle of traffic, on many threads: every call ends, whatever the interleaving.
//!
//! Nothing here waits for time; the limit is there so that a lost call is a failure and no standstill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use skyhold::prelude::*;
use skyhold::{Restart, Strategy, Supervisor};

const CALLERS: usize = 16;
const ROUNDS: usize = 60;
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Busy {
    begun: Arc<AtomicUsize>,
}

#[service(mailbox = 4)]
impl Busy {
    pub async fn alone(&mut self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    pub fn shared(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub fn stop(&mut self, context: &Context) {
        context.stop();
    }

    pub fn boom(&mut self) {
        panic!("boom");
    }
}

/// Calls until an error comes.
async fn call_to_the_end(busy: BusyHandle, caller: usize) -> (usize, CallError) {
    let mut answered = 0;
    loop {
        let result = match (caller + answered) % 4 {
            0 => busy.alone().await,
            1 => busy.shared().await,
            // A call that another one is dropped for.
            2 => tokio::select! {
                result = busy.shared() => result,
                result = busy.alone() => result,
            },
            _ => busy.alone().send().await,
        };
        match result {
            Ok(()) => answered += 1,
            Err(error) => return (answered, error),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    ByItself,
    Panic,
    Abort,
    /// A panic, after which its supervisor does not begin another life.
    GivenUp,
    Shutdown,
    Drop,
}

async fn check(end: End) {
    for round in 0..ROUNDS {
        let node = Node::builder("a").start().await.unwrap();
        let begun = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&begun);
        let service = move || Busy { begun: Arc::clone(&counted) };
        let busy = if matches!(end, End::GivenUp) {
            let supervisor = Supervisor::new("s", Strategy::Dynamic).start(&node).await.unwrap();
            supervisor.spawn(Restart::never(), service).await.unwrap()
        } else {
            node.spawn(service())
        };
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| tokio::spawn(call_to_the_end(busy.clone(), caller))).collect();
        while begun.load(Ordering::Relaxed) < 20 + round {
            tokio::task::yield_now().await;
        }
        // Kept, unless the end is that nobody keeps it.
        let mut node = Some(node);
        match (end, &node) {
            (End::Stop, Some(node)) => node.stop(&busy).await.unwrap(),
            (End::Shutdown, Some(node)) => node.shutdown().await.unwrap(),
            (End::ByItself, _) => busy.stop().send().await.unwrap(),
            (End::Abort, Some(node)) => node.abort(&busy).unwrap(),
            (End::Panic | End::GivenUp, _) => busy.boom().send().await.unwrap(),
            _ => drop(node.take()),
        }
        let ends = tokio::time::timeout(LIMIT, join_all(callers)).await;
        let ends = ends.unwrap_or_else(|_| panic!("{end:?}, round {round}: a call never ended"));
        for ended in ends {
            let (answered, error) = ended.unwrap();
            assert!(
                matches!(error, CallError::Stopped(_) | CallError::NoReply(_)),
                "{end:?}, round {round}, after {answered} calls: {error:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_instance_is_stopped_in_the_middle() {
    check(End::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_instance_stops_itself_in_the_middle() {
    check(End::ByItself).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_instance_panics_in_the_middle() {
    check(End::Panic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_instance_is_aborted_in_the_middle() {
    check(End::Abort).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_instance_does_not_come_back_in_the_middle() {
    check(End::GivenUp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_node_shuts_down_in_the_middle() {
    check(End::Shutdown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_ends_when_its_node_is_dropped_in_the_middle() {
    check(End::Drop).await;
}
