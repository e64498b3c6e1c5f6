//! Which peers may call what.

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::{Access, DeadLetterReason, Event, NodeBuilder, StopReason};

use super::{CounterHandle, calling, counting};
use crate::raw::{Fields, Hello, Raw, kind, soon};

/// A node whose counter is looked up by two others.
async fn scene(access: Access) -> (Node, [Node; 2], [CounterHandle; 2]) {
    let a = counting(|a| a.insecure_without_secret().access(access)).await;
    let b = calling("gate-1", &a, NodeBuilder::insecure_without_secret).await;
    let c = calling("metrics", &a, NodeBuilder::insecure_without_secret).await;
    let from_b = CounterHandle::lookup_on(&b, "a", "counter").await.unwrap();
    let from_c = CounterHandle::lookup_on(&c, "a", "counter").await.unwrap();
    (a, [b, c], [from_b, from_c])
}

fn rules() -> Access {
    Access::open().allow("gate-*", "counter").allow_methods("metrics", "counter", ["total"])
}

#[tokio::test]
async fn a_peer_calls_what_a_rule_allows_it_and_nothing_else() {
    let (a, _others, [gate, metrics]) = scene(rules()).await;
    assert_eq!(gate.add(2).await, Ok(2));
    assert_eq!(metrics.total().await, Ok(2));
    let denied = metrics.add(5).await.unwrap_err();
    assert!(matches!(denied, CallError::Denied(_)) && !denied.may_have_run());
    assert_eq!(denied.to_string(), r#"denied: node a does not allow "counter.add" to node metrics"#);
    assert_eq!(gate.total().await, Ok(2), "it did not run");
    // Within the node nobody asks.
    let own = CounterHandle::lookup(&a, "counter").await.unwrap();
    assert_eq!(own.add(1).await, Ok(3));
}

#[tokio::test]
async fn a_send_that_is_denied_is_a_dead_letter() {
    let (a, _others, [_, metrics]) = scene(rules()).await;
    let mut events = a.events();
    metrics.add(5).send().await.unwrap();
    let letter = soon("the dead letter", async {
        loop {
            if let Some(Event::DeadLetter(letter)) = events.next().await {
                return letter;
            }
        }
    })
    .await;
    assert_eq!((letter.handler.as_str(), letter.reason), ("counter.add", DeadLetterReason::Denied));
    assert_eq!(metrics.total().await, Ok(0));
}

#[tokio::test]
async fn access_changes_for_connections_that_stand() {
    let (a, _others, [gate, metrics]) = scene(Access::open()).await;
    assert_eq!(metrics.add(1).await, Ok(1));
    a.set_access(rules());
    assert!(matches!(metrics.add(1).await, Err(CallError::Denied(_))));
    assert_eq!(gate.add(1).await, Ok(2));
    a.set_access(Access::closed());
    assert!(matches!(gate.total().await, Err(CallError::Denied(_))));
    a.set_access(Access::open());
    assert_eq!(metrics.add(1).await, Ok(3));
}

#[tokio::test]
async fn who_may_call_nothing_may_not_watch() {
    let access = Access::closed().allow_methods("metrics", "counter", ["total"]);
    let (a, _others, [gate, metrics]) = scene(access).await;
    let mut denied = gate.watch();
    assert_eq!(soon("an end", denied.next()).await.unwrap().reason, StopReason::Gone);
    let mut allowed = metrics.watch();
    metrics.total().await.unwrap();
    assert!(allowed.next().now_or_never().is_none());
    a.stop_service("counter").await;
    assert_eq!(soon("an end", allowed.next()).await.unwrap().reason, StopReason::Normal);
}

#[tokio::test]
async fn an_instance_that_has_no_name_is_out_of_reach_whoever_guesses_its_number() {
    const STOPPED: u8 = 3;
    const INCOMPATIBLE: u8 = 6;
    let a = counting(NodeBuilder::insecure_without_secret).await;
    let _hidden: CounterHandle = a.spawn(super::Counter::default());
    let mut raw = Raw::join(&a, &Hello::default()).await;
    let mut answers = Vec::new();
    // 0 is the node's manager, which rules of access are for.
    for instance in 1..17 {
        let head = Fields::default().u64(instance).u64(instance).u32(1).u32(2);
        raw.write(&head.u32(0).u8(1).frame(kind::REQUEST)).await;
        let failure = raw.until(kind::FAILURE).await;
        let mut fields = failure.fields();
        assert_eq!(fields.u64(), instance);
        answers.push(fields.u8());
    }
    let count = |code| answers.iter().filter(|answer| **answer == code).count();
    // The one with a name answers that it has no such method.
    assert_eq!((count(INCOMPATIBLE), count(STOPPED)), (1, 15), "{answers:?}");
}
