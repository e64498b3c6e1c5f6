//! Dropping a call's future takes the request back; what runs already learns of it; what hangs on an instance ends
//! with it.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{join, poll};
use skyhold::prelude::*;

use crate::gate::{Gate, Log, Watch, local_node, settle};

/// Notes what happens to its handlers.
#[derive(Default)]
struct Worker {
    log: Log,
}

#[service(local)]
impl Worker {
    pub async fn hold(&mut self, gate: Gate) {
        self.log.add("hold");
        gate.pass().await;
        self.log.add("held");
    }

    pub fn note(&mut self, text: &'static str) {
        self.log.add(text);
    }

    pub async fn until_cancelled(&self, context: &Context, gate: Gate) {
        assert!(!context.is_cancelled());
        gate.pass().await;
        context.cancelled().await;
        assert!(context.is_cancelled());
        self.log.add("cancelled");
    }

    pub async fn until_cancelled_alone(&mut self, context: &Context, gate: Gate) {
        self.until_cancelled(context, gate).await;
    }

    /// Starts a child task that holds a token, and gives its abort handle away.
    pub fn start_child(&self, context: &Context, gate: Gate, token: Arc<()>) -> tokio::task::AbortHandle {
        let log = self.log.clone();
        context.spawn(async move {
            log.add("child");
            gate.pass().await;
            drop(token);
            log.add("child done");
        })
    }

    pub fn stop(&self, context: &Context) {
        context.stop();
    }

    pub fn boom(&mut self) {
        panic!("boom");
    }
}

async fn worker() -> (Node, WorkerHandle, Log) {
    let node = local_node().await;
    let log = Log::default();
    let worker = node.spawn(Worker { log: log.clone() });
    (node, worker, log)
}

#[tokio::test(start_paused = true)]
async fn a_call_does_nothing_until_it_is_awaited_or_sent() {
    let (_node, worker, log) = worker().await;
    let call = worker.note("unsent");
    let future = worker.note("unpolled").into_future();
    let send = worker.note("unpolled send").send();
    settle().await;
    assert_eq!(log.line(), "");
    drop((call, future, send));
    settle().await;
    assert_eq!(log.line(), "");
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_whose_caller_went_is_never_begun() {
    let (node, worker, log) = worker().await;
    let gate = Gate::new();
    worker.hold(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    let mut dropped = Box::pin(worker.note("dropped").into_future());
    let mut kept = Box::pin(worker.note("kept").into_future());
    assert!(poll!(&mut dropped).is_pending() && poll!(&mut kept).is_pending());
    drop(dropped);
    gate.open();
    kept.await.unwrap();
    assert_eq!(log.line(), "hold held kept");
    assert_eq!((node.counters().expired.total(), node.counters().dead_letters), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_send_is_not_taken_back_once_it_was_handed_over() {
    let (_node, worker, log) = worker().await;
    let gate = Gate::new();
    worker.hold(gate.clone()).try_send().unwrap();
    let mut send = Box::pin(worker.note("sent").send());
    assert!(poll!(&mut send).is_ready());
    drop(send);
    gate.open();
    settle().await;
    assert_eq!(log.line(), "hold held sent");
}

struct Narrow {
    log: Log,
}

#[service(local, mailbox = 1)]
impl Narrow {
    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }

    pub fn note(&mut self, text: &'static str) {
        self.log.add(text);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_and_gives_up_leaves_nothing_behind() {
    let node = local_node().await;
    let log = Log::default();
    let narrow = node.spawn(Narrow { log: log.clone() });
    let gate = Gate::new();
    narrow.hold(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    narrow.note("first").try_send().unwrap();

    let mut call = Box::pin(narrow.note("dropped call").into_future());
    let mut send = Box::pin(narrow.note("dropped send").send());
    let mut kept = Box::pin(narrow.note("kept").into_future());
    assert!(poll!(&mut call).is_pending() && poll!(&mut send).is_pending() && poll!(&mut kept).is_pending());
    drop((call, send));
    gate.open();
    kept.await.unwrap();
    assert_eq!(log.line(), "first kept");
}

#[tokio::test(start_paused = true)]
async fn room_that_was_given_to_who_gives_up_goes_to_the_next_one() {
    let node = local_node().await;
    let log = Log::default();
    let narrow = node.spawn(Narrow { log: log.clone() });
    let (first, second) = (Gate::new(), Gate::new());
    narrow.hold(first.clone()).try_send().unwrap();
    first.reached(1).await;
    narrow.hold(second.clone()).try_send().unwrap();
    let mut given_up = Box::pin(narrow.note("given up").into_future());
    let mut kept = Box::pin(narrow.note("kept").into_future());
    assert!(poll!(&mut given_up).is_pending() && poll!(&mut kept).is_pending());
    // The room is given, but nobody looks.
    first.open();
    second.reached(1).await;
    drop(given_up);
    second.open();
    kept.await.unwrap();
    assert_eq!(log.line(), "kept");
}

#[tokio::test(start_paused = true)]
async fn a_running_handler_learns_that_its_caller_went() {
    let (_node, worker, log) = worker().await;
    for (call, expected) in [
        (WorkerHandle::until_cancelled as fn(&WorkerHandle, Gate) -> _, "cancelled"),
        (WorkerHandle::until_cancelled_alone, "cancelled cancelled"),
    ] {
        let gate = Gate::opened();
        let mut call = Box::pin(call(&worker, gate.clone()).into_future());
        assert!(poll!(&mut call).is_pending());
        gate.reached(1).await;
        drop(call);
        settle().await;
        assert_eq!(log.line(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_handler_learns_that_its_deadline_passed() {
    let (_node, worker, log) = worker().await;
    let error = worker.until_cancelled(Gate::opened()).timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    settle().await;
    assert_eq!(log.line(), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn one_caller_that_goes_does_not_cancel_another_ones_handler() {
    let (_node, worker, log) = worker().await;
    let gate = Gate::opened();
    let mut goes = Box::pin(worker.until_cancelled(gate.clone()).into_future());
    let mut stays = Box::pin(worker.until_cancelled(gate.clone()).into_future());
    assert!(poll!(&mut goes).is_pending() && poll!(&mut stays).is_pending());
    gate.reached(2).await;
    drop(goes);
    settle().await;
    assert_eq!(log.line(), "cancelled");
    assert!(poll!(&mut stays).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_send_is_never_cancelled_by_its_sender() {
    let (_node, worker, log) = worker().await;
    let gate = Gate::opened();
    worker.until_cancelled(gate.clone()).send().await.unwrap();
    gate.reached(1).await;
    settle().await;
    assert_eq!(log.line(), "");
}

#[tokio::test(start_paused = true)]
async fn child_tasks_end_with_their_instance_however_it_ends() {
    type End = fn(&Node, &WorkerHandle) -> futures_util::future::BoxFuture<'static, ()>;
    let by_node: End = |node, worker| {
        let (node, worker) = (node.clone(), worker.clone());
        Box::pin(async move { node.stop(&worker).await.unwrap() })
    };
    let by_itself: End = |_, worker| {
        let stop = worker.stop();
        Box::pin(async move { stop.await.unwrap() })
    };
    let by_panic: End = |_, worker| {
        let boom = worker.boom();
        Box::pin(async move { drop(boom.await.unwrap_err()) })
    };
    for end in [by_node, by_itself, by_panic] {
        let (node, worker, log) = worker().await;
        let (gate, token) = (Gate::new(), Arc::new(()));
        worker.start_child(gate.clone(), Arc::clone(&token)).await.unwrap();
        gate.reached(1).await;
        end(&node, &worker).await;
        settle().await;
        assert_eq!(Arc::strong_count(&token), 1, "the child was dropped");
        gate.open();
        settle().await;
        assert_eq!(log.line(), "child");
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_task_goes_on_after_its_handler_and_can_be_aborted() {
    let (_node, worker, log) = worker().await;
    let (gate, token) = (Gate::new(), Arc::new(()));
    worker.start_child(gate.clone(), Arc::clone(&token)).await.unwrap();
    let child = worker.start_child(Gate::new(), Arc::clone(&token)).await.unwrap();
    settle().await;
    assert_eq!(Arc::strong_count(&token), 3);
    child.abort();
    gate.open();
    settle().await;
    assert_eq!(Arc::strong_count(&token), 1);
    assert_eq!(log.line(), "child child child done");
}

/// Counts how many values of a kind live.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(living))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Keeper;

#[service(local)]
impl Keeper {
    pub async fn keep(&mut self, value: Counted, gate: Gate) {
        gate.pass().await;
        drop(value);
    }
}

#[tokio::test(start_paused = true)]
async fn the_arguments_of_what_was_given_up_are_dropped() {
    let node = local_node().await;
    let keeper = node.spawn(Keeper);
    let living = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let watch = Watch::start();
    {
        let held = keeper.keep(Counted::new(&living), gate.clone()).into_future();
        let queued = keeper.keep(Counted::new(&living), gate.clone()).into_future();
        let unsent = keeper.keep(Counted::new(&living), gate.clone());
        let (mut held, mut queued) = (Box::pin(held), Box::pin(queued));
        assert!(poll!(&mut held).is_pending() && poll!(&mut queued).is_pending());
        gate.reached(1).await;
        assert_eq!(living.load(Ordering::SeqCst), 3);
        drop(unsent);
    }
    gate.open();
    let (one, other) = join!(
        keeper.keep(Counted::new(&living), gate.clone()).into_future(),
        keeper.keep(Counted::new(&living), gate.clone()).into_future()
    );
    one.unwrap();
    other.unwrap();
    assert_eq!(living.load(Ordering::SeqCst), 0);
    watch.assert_at_once();
}
