//! What a failure tells its caller, and that it stays with the instance that failed.

use std::future::IntoFuture;
use std::panic::panic_any;

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::{CallChain, DeadLetterReason, Event, LookupError, ShutdownError, StopError};

use crate::gate::{Gate, Watch, local_node, settle};

#[derive(Default)]
struct Fragile {
    calls: u32,
}

#[service(local)]
impl Fragile {
    pub async fn boom(&mut self, with: Payload) -> u32 {
        tokio::task::yield_now().await;
        with.boom()
    }

    pub fn boom_now(&mut self, with: Payload) -> u32 {
        with.boom()
    }

    pub async fn boom_shared(&self, with: Payload) -> u32 {
        tokio::task::yield_now().await;
        with.boom()
    }

    pub fn boom_shared_now(&self, with: Payload) -> u32 {
        with.boom()
    }

    pub async fn boom_with_context(&self, context: &Context, with: Payload) -> u32 {
        assert!(!context.is_cancelled());
        with.boom()
    }

    pub async fn hold(&mut self, gate: Gate, with: Payload) -> u32 {
        gate.pass().await;
        with.boom()
    }

    pub async fn hold_shared(&self, gate: Gate) -> u32 {
        gate.pass().await;
        self.calls
    }

    pub async fn hold_shared_then_boom(&self, gate: Gate) -> u32 {
        gate.pass().await;
        Payload::Str.boom()
    }

    pub fn count(&mut self, ok: bool) -> Result<u32, String> {
        self.calls += 1;
        if ok { Ok(self.calls) } else { Err(format!("not {}", self.calls)) }
    }
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    Str,
    Formatted,
    Other,
}

impl Payload {
    fn boom(self) -> u32 {
        match self {
            Self::Str => panic!("boom"),
            Self::Formatted => panic!("boom {}", 7 * self as usize),
            Self::Other => panic_any(17_u8),
        }
    }
}

fn assert_stopped(error: &CallError) {
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    assert!(!error.may_have_run());
}

#[test]
fn the_error_says_whether_the_handler_may_have_run() {
    type Make = fn(skyhold::Detail) -> CallError;
    let not_run: [Make; 9] = [
        CallError::NoRoute,
        CallError::Overloaded,
        CallError::Stopped,
        CallError::Stale,
        CallError::Denied,
        CallError::Incompatible,
        CallError::TooLarge,
        CallError::Expired,
        CallError::Codec,
    ];
    let may_have_run: [Make; 5] = [
        CallError::Timeout,
        CallError::Disconnected,
        CallError::Panicked,
        CallError::NoReply,
        CallError::BadReply,
    ];
    for (makes, expected) in [(&not_run[..], false), (&may_have_run[..], true)] {
        for make in makes {
            let error = make("why".into());
            assert_eq!(error.may_have_run(), expected, "{error:?}");
            assert!(error.to_string().ends_with(": why"), "{error}");
        }
    }
    assert!(!CallError::Deadlock(CallChain::new(Vec::new())).may_have_run());
}

#[test]
fn every_error_is_an_error_that_travels_between_threads() {
    fn check<E: std::error::Error + Send + Sync + 'static>() {}
    check::<CallError>();
    check::<skyhold::StartError>();
    check::<LookupError>();
    check::<StopError>();
    check::<ShutdownError>();
    check::<skyhold::InvalidName>();
}

#[tokio::test(start_paused = true)]
async fn the_caller_of_a_handler_that_panics_gets_its_message_at_once() {
    type Boom = fn(&FragileHandle, Payload) -> Call<u32, FragileMessage>;
    let methods: [(Boom, &str); 5] = [
        (FragileHandle::boom, "boom"),
        (FragileHandle::boom_now, "boom_now"),
        (FragileHandle::boom_shared, "boom_shared"),
        (FragileHandle::boom_shared_now, "boom_shared_now"),
        (FragileHandle::boom_with_context, "boom_with_context"),
    ];
    let node = local_node().await;
    let watch = Watch::start();
    for (boom, method) in methods {
        for (payload, text) in [
            (Payload::Str, "boom"),
            (Payload::Formatted, "boom 7"),
            (Payload::Other, "a panic without a message"),
        ] {
            let fragile = node.spawn(Fragile::default());
            let error = boom(&fragile, payload).await.unwrap_err();
            assert!(error.may_have_run());
            assert_eq!(error.to_string(), format!("the handler panicked: fragile.{method}: {text}"));
            assert!(matches!(error, CallError::Panicked(_)));
            // The instance ends with it.
            settle().await;
            assert_stopped(&fragile.count(true).await.unwrap_err());
        }
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_instance_and_no_other() {
    let node = local_node().await;
    let mut events = node.events();
    let (fragile, bystander) = (node.spawn(Fragile::default()), node.spawn(Fragile::default()));
    let gate = Gate::new();
    let running = tokio::spawn(bystander.hold_shared(gate.clone()).into_future());
    gate.reached(1).await;
    fragile.boom(Payload::Str).await.unwrap_err();
    let Some(Event::InstanceEnded { address, service, reason }) = events.next().await else { panic!() };
    assert_eq!(Some(&address), fragile.address());
    assert_eq!(service, "fragile");
    assert_eq!(reason, StopReason::Panicked("boom".to_owned()));
    gate.open();
    assert_eq!(running.await.unwrap(), Ok(0));
    assert_eq!(bystander.count(true).await.unwrap(), Ok(1));
    let counters = node.counters();
    assert_eq!((counters.panics, counters.instances_started, counters.instances_ended), (1, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_a_send_is_counted_and_ends_the_instance() {
    let node = local_node().await;
    let fragile = node.spawn(Fragile::default());
    fragile.boom(Payload::Str).send().await.unwrap();
    settle().await;
    assert_stopped(&fragile.count(true).await.unwrap_err());
    assert_eq!((node.counters().panics, node.counters().instances_ended), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_behind_a_panic_is_answered_stopped_at_once() {
    let node = local_node().await;
    let mut events = node.events();
    let fragile = node.spawn(Fragile::default());
    let gate = Gate::new();
    let watch = Watch::start();
    let boom = tokio::spawn(fragile.hold(gate.clone(), Payload::Str).into_future());
    gate.reached(1).await;
    let queued: Vec<_> = (0..200).map(|_| tokio::spawn(fragile.count(true).into_future())).collect();
    settle().await;
    fragile.count(true).try_send().unwrap();
    gate.open();
    assert!(matches!(boom.await.unwrap(), Err(CallError::Panicked(_))));
    for call in queued {
        assert_stopped(&call.await.unwrap().unwrap_err());
    }
    watch.assert_at_once();
    assert_eq!(node.counters().dead_letters, 201);
    for (call, count) in [(false, 1), (true, 200)] {
        let Some(Event::DeadLetter(letter)) = events.next().await else { panic!("another event") };
        assert_eq!((&*letter.handler, letter.reason), ("fragile.count", DeadLetterReason::Stopped));
        assert_eq!((letter.call, letter.count), (call, count));
    }
}

#[tokio::test(start_paused = true)]
async fn shared_handlers_beside_a_panic_answer_no_reply_at_once() {
    let node = local_node().await;
    let fragile = node.spawn(Fragile::default());
    let gate = Gate::new();
    let watch = Watch::start();
    let mut beside: Vec<_> =
        (0..10).map(|_| Box::pin(fragile.hold_shared(gate.clone()).into_future())).collect();
    for call in &mut beside {
        assert!(poll!(call).is_pending());
    }
    gate.reached(10).await;
    assert!(matches!(fragile.boom_shared(Payload::Str).await, Err(CallError::Panicked(_))));
    for call in beside {
        let error = call.await.unwrap_err();
        assert!(matches!(error, CallError::NoReply(_)), "{error:?}");
        assert!(error.may_have_run());
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_message_that_waits_for_a_handler_that_panics_never_runs() {
    let node = local_node().await;
    let fragile = node.spawn(Fragile::default());
    let (gate, watch) = (Gate::new(), Watch::start());
    let boom = tokio::spawn(fragile.hold_shared_then_boom(gate.clone()).into_future());
    gate.reached(1).await;
    let waiting = tokio::spawn(fragile.count(true).into_future());
    settle().await;
    gate.open();
    assert!(matches!(boom.await.unwrap(), Err(CallError::Panicked(_))));
    assert_stopped(&waiting.await.unwrap().unwrap_err());
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn a_result_travels_as_a_value_and_an_err_stops_nothing() {
    let node = local_node().await;
    let fragile = node.spawn(Fragile::default());
    assert_eq!(fragile.count(true).await.unwrap(), Ok(1));
    assert_eq!(fragile.count(false).await.unwrap(), Err("not 2".to_owned()));
    assert_eq!(fragile.count(true).await.unwrap(), Ok(3));
    assert_eq!(node.counters().instances_ended, 0);
    assert_eq!(both(&fragile).await.unwrap(), 4);
}

/// The two layers of errors, as a user peels them.
async fn both(fragile: &FragileHandle) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    Ok(fragile.count(true).await??)
}

/// Panics when it is dropped.
struct BadDrop;

#[service(local)]
impl BadDrop {
    pub fn boom(&mut self) {
        panic!("boom");
    }
}

impl Drop for BadDrop {
    fn drop(&mut self) {
        panic!("dropped badly");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_service_ends_its_instance_in_order() {
    let node = local_node().await;
    let mut events = node.events();
    let bad = node.spawn(BadDrop);
    let watch = Watch::start();
    node.stop(&bad).await.unwrap();
    let Some(Event::InstanceEnded { reason, .. }) = events.next().await else { panic!() };
    assert_eq!(reason, StopReason::Panicked("dropped badly".to_owned()));
    assert_stopped(&bad.boom().await.unwrap_err());

    // After a panic of a handler the value is dropped all the same.
    let worse = node.spawn(BadDrop);
    assert!(matches!(worse.boom().await, Err(CallError::Panicked(_))));
    node.shutdown().await.unwrap();
    assert_eq!((node.counters().instances_started, node.counters().instances_ended), (2, 2));
    watch.assert_at_once();
}
