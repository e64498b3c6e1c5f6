//! Every call ends: by its deadline plus 100 ms, whatever its callee does, and what is too late is never begun.

mod chains;
mod phases;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use skyhold::prelude::*;
use skyhold::{DeadLetterReason, Event};
use tokio::sync::oneshot;

use crate::gate::{Gate, Watch, local_node, settle};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Slow {
    begun: Arc<AtomicU32>,
}

#[service(local, mailbox = 20_000)]
impl Slow {
    pub async fn hold(&mut self, gate: Gate) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        gate.pass().await;
    }

    pub async fn hold_shared(&self, gate: Gate) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        gate.pass().await;
    }

    pub async fn call(&self, other: SlowHandle, own: Option<Duration>) -> Result<(), CallError> {
        let call = other.hold(Gate::new());
        match own {
            Some(timeout) => call.timeout(timeout).await,
            None => call.await,
        }
    }

    /// How much time the last of a row of nested calls has.
    pub async fn time_left(&self, context: &Context, mut row: Vec<SlowHandle>) -> Option<Duration> {
        if let Some(next) = row.pop() {
            return next.time_left(row).await.unwrap();
        }
        let now = tokio::time::Instant::now().into_std();
        context.deadline().map(|deadline| deadline - now)
    }

    pub async fn tell_time_left(&self, context: &Context, tell: oneshot::Sender<Option<Duration>>) {
        let left = self.time_left(context, Vec::new()).await;
        tell.send(left).unwrap();
    }

    pub async fn time_left_from_a_task(&self, context: &Context, other: SlowHandle) -> Option<Duration> {
        let (tell, told) = oneshot::channel();
        context.spawn(async move {
            tell.send(other.time_left(Vec::new()).await.unwrap()).unwrap();
        });
        told.await.unwrap()
    }
}

fn spawn(node: &Node) -> (SlowHandle, Arc<AtomicU32>) {
    let begun = Arc::new(AtomicU32::new(0));
    (node.spawn(Slow { begun: Arc::clone(&begun) }), begun)
}

fn assert_timeout(error: &CallError) {
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    assert!(error.may_have_run());
}

fn assert_expired(error: &CallError) {
    assert!(matches!(error, CallError::Expired(_)), "{error:?}");
    assert!(!error.may_have_run());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_nothing_ends_after_thirty_seconds() {
    let node = local_node().await;
    let (slow, _) = spawn(&node);
    let watch = Watch::start();
    assert_timeout(&slow.hold(Gate::new()).await.unwrap_err());
    watch.assert_ended_at(30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_default_timeout_is_a_setting_of_the_node() {
    let node = Node::builder("a").call_timeout(7 * SECOND).start().await.unwrap();
    let (slow, _) = spawn(&node);
    let watch = Watch::start();
    assert_timeout(&slow.hold(Gate::new()).await.unwrap_err());
    watch.assert_ended_at(7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_its_own_ends_a_call() {
    let node = local_node().await;
    for timeout in [Duration::from_millis(5), SECOND, 100 * SECOND] {
        let (slow, _) = spawn(&node);
        let watch = Watch::start();
        assert_timeout(&slow.hold(Gate::new()).timeout(timeout).await.unwrap_err());
        watch.assert_ended_at(timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_late_call_names_the_method() {
    let node = local_node().await;
    let (slow, _) = spawn(&node);
    let error = slow.hold(Gate::new()).timeout(SECOND).await.unwrap_err().to_string();
    assert!(error.starts_with("timeout: `slow.hold`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_timeout_is_too_long() {
    let node = Node::builder("a").call_timeout(Duration::MAX).start().await.unwrap();
    let (slow, _) = spawn(&node);
    slow.hold(Gate::opened()).await.unwrap();
    slow.hold(Gate::opened()).timeout(Duration::MAX).await.unwrap();
    slow.hold(Gate::opened()).timeout(Duration::MAX).send().await.unwrap();
    slow.hold(Gate::opened()).timeout(Duration::MAX).try_send().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_without_any_time_is_never_begun() {
    let node = local_node().await;
    let (slow, begun) = spawn(&node);
    let watch = Watch::start();
    assert_expired(&slow.hold(Gate::opened()).timeout(Duration::ZERO).await.unwrap_err());
    watch.assert_at_once();
    settle().await;
    assert_eq!(begun.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_ends_by_the_earlier_of_both_deadlines() {
    let node = local_node().await;
    for (outer, own, expected) in [
        (5 * SECOND, None, 5 * SECOND),
        (5 * SECOND, Some(2 * SECOND), 2 * SECOND),
        (5 * SECOND, Some(50 * SECOND), 5 * SECOND),
        (60 * SECOND, None, 30 * SECOND),
        (60 * SECOND, Some(45 * SECOND), 45 * SECOND),
    ] {
        let ((outer_slow, _), (inner, _)) = (spawn(&node), spawn(&node));
        let watch = Watch::start();
        let result = outer_slow.call(inner, own).timeout(outer).await;
        watch.assert_ended_at(expected);
        // Where both end at once either one may say so.
        let error = match result {
            Ok(inner) => inner.unwrap_err(),
            Err(outer) => outer,
        };
        assert_timeout(&error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_goes_through_a_row_of_nested_calls() {
    let node = local_node().await;
    let row = vec![spawn(&node).0, spawn(&node).0, spawn(&node).0];
    let left = spawn(&node).0.time_left(row).timeout(3 * SECOND).await.unwrap();
    assert_eq!(left, Some(3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_call_by_a_task_of_a_handler_has_a_deadline_of_its_own() {
    let node = local_node().await;
    let ((slow, _), (other, _)) = (spawn(&node), spawn(&node));
    let left = slow.time_left_from_a_task(other).timeout(3 * SECOND).await.unwrap();
    assert_eq!(left, Some(30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_send_that_was_handed_over_has_no_deadline() {
    let node = local_node().await;
    let (slow, begun) = spawn(&node);
    let gate = Gate::new();
    slow.hold(gate.clone()).try_send().unwrap();
    slow.hold(gate.clone()).timeout(SECOND).send().await.unwrap();
    let (tell, told) = oneshot::channel();
    slow.tell_time_left(tell).timeout(SECOND).send().await.unwrap();
    let late = slow.hold_shared(Gate::opened()).timeout(100 * SECOND).await.unwrap_err();
    assert_timeout(&late);
    gate.open();
    assert_eq!(told.await.unwrap(), None);
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_whose_deadline_passed_is_never_begun_and_counted() {
    let node = local_node().await;
    let mut events = node.events();
    let (slow, begun) = spawn(&node);
    let gate = Gate::new();
    slow.hold(gate.clone()).try_send().unwrap();
    let calls = [
        slow.hold(Gate::opened()).timeout(SECOND).into_future(),
        slow.hold_shared(Gate::opened()).timeout(2 * SECOND).into_future(),
    ];
    for result in join_all(calls).await {
        assert!(result.is_err());
    }
    gate.open();
    slow.hold_shared(Gate::opened()).await.unwrap();
    assert_eq!(begun.load(Ordering::SeqCst), 2, "the first and the last one");
    assert_eq!((node.counters().expired.total(), node.counters().dead_letters), (2, 2));
    for handler in ["slow.hold", "slow.hold_shared"] {
        let letter = loop {
            if let Event::DeadLetter(letter) = events.next().await.unwrap() {
                break letter;
            }
        };
        assert_eq!(
            (&*letter.handler, letter.call, letter.reason),
            (handler, true, DeadLetterReason::Expired)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_past_its_deadline_is_overloaded() {
    let node = local_node().await;
    let small = node.spawn(Small);
    small.hold(Gate::new()).try_send().unwrap();
    settle().await;
    small.hold(Gate::new()).try_send().unwrap();
    for timeout in [SECOND, 31 * SECOND] {
        let watch = Watch::start();
        let error = small.hold(Gate::new()).timeout(timeout).await.unwrap_err();
        watch.assert_ended_at(timeout);
        assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
        let watch = Watch::start();
        let error = small.hold(Gate::new()).timeout(timeout).send().await.unwrap_err();
        watch.assert_ended_at(timeout);
        assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
        assert!(!error.may_have_run());
    }
}

struct Small;

#[service(local, mailbox = 1)]
impl Small {
    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_with_deadlines_of_their_own_all_end_on_time() {
    let node = local_node().await;
    let (slow, begun) = spawn(&node);
    let callers = (0..10_000_u64).map(|n| {
        let slow = slow.clone();
        tokio::spawn(async move {
            // No order: neither rising nor falling.
            let timeout = Duration::from_millis(1 + n * 7919 % 20_011);
            let watch = Watch::start();
            assert_timeout(&slow.hold(Gate::new()).timeout(timeout).await.unwrap_err());
            watch.assert_ended_at(timeout);
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    assert_eq!(begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_caller_with_an_earlier_deadline_ends_first() {
    let node = local_node().await;
    let (slow, _) = spawn(&node);
    let watch = Watch::start();
    let late = tokio::spawn(slow.hold(Gate::new()).timeout(20 * SECOND).into_future());
    settle().await;
    let early = slow.hold(Gate::new()).timeout(SECOND).await;
    assert_timeout(&early.unwrap_err());
    watch.assert_ended_at(SECOND);
    assert_timeout(&late.await.unwrap().unwrap_err());
    watch.assert_ended_at(20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_moves_to_another_task_still_ends_by_its_deadline() {
    let node = local_node().await;
    let (slow, _) = spawn(&node);
    let watch = Watch::start();
    let mut call = Box::pin(slow.hold(Gate::new()).timeout(SECOND).into_future());
    assert!(futures_util::poll!(&mut call).is_pending());
    assert_timeout(&tokio::spawn(call).await.unwrap().unwrap_err());
    watch.assert_ended_at(SECOND);
}
