//! Calls to another node: the same as on this one, and what only a connection can add.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{DeadLetterReason, Event};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Does what its caller says, and shows the test what it did.
#[derive(Clone, Default)]
struct Probe {
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    notes: Mutex<Vec<u64>>,
    runs: AtomicU64,
    begun: Notify,
    cancelled: Notify,
    is_cancelled: AtomicBool,
    gate: Notify,
}

#[service(mailbox = 2048)]
impl Probe {
    pub fn echo(&self, text: String) -> String {
        self.seen.runs.fetch_add(1, Ordering::SeqCst);
        text
    }

    pub fn divide(&self, dividend: u64, divisor: u64) -> Result<u64, String> {
        dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / 0"))
    }

    pub fn note(&mut self, number: u64, padding: Vec<u8>) -> u64 {
        drop(padding);
        self.seen.notes.lock().unwrap().push(number);
        number
    }

    pub fn size(&self, bytes: Vec<u8>) -> usize {
        self.seen.runs.fetch_add(1, Ordering::SeqCst);
        bytes.len()
    }

    pub fn zeros(&self, count: usize) -> Vec<u8> {
        vec![0; count]
    }

    /// Never ends by itself; shows when its caller gives up.
    pub async fn hang(&self, context: &Context) {
        self.seen.begun.notify_one();
        context.cancelled().await;
        self.seen.is_cancelled.store(true, Ordering::SeqCst);
        self.seen.cancelled.notify_one();
        std::future::pending().await
    }

    /// Runs alone until the gate is opened.
    pub async fn hold(&mut self) -> u64 {
        self.seen.begun.notify_one();
        self.seen.gate.notified().await;
        7
    }

    pub fn explode(&self, text: String) {
        panic!("{text}");
    }

    pub fn caller(&self, context: &Context) -> String {
        context.caller().to_string()
    }
}

impl Probe {
    fn notes(&self) -> Vec<u64> {
        self.seen.notes.lock().unwrap().clone()
    }

    fn runs(&self) -> u64 {
        self.seen.runs.load(Ordering::SeqCst)
    }
}

/// Two nodes; the second runs the service, the first has the handle.
struct Scene {
    cluster: Cluster,
    probe: Probe,
    remote: ProbeHandle,
}

/// The smallest limit: a message of 64 KiB, and 64 KiB around it.
const MAX_MESSAGE: usize = 64 * 1024;

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start_with(2, |node| node.max_message(MAX_MESSAGE)).await;
        let probe = Probe::default();
        let factory = probe.clone();
        cluster[1].service("probe", move || factory.clone()).start().await.unwrap();
        let remote = ProbeHandle::lookup(&cluster[0], "probe").await.unwrap();
        Self { cluster, probe, remote }
    }

    /// Shows that the connection is still the same one: nobody came or went, and a call works.
    async fn stayed_connected(&self, events: &mut skyhold::Events) {
        assert_eq!(self.remote.divide(6, 3).await, Ok(Ok(2)));
        let down = async {
            while let Some(event) = events.next().await {
                assert!(!matches!(event, Event::PeerDown { .. } | Event::PeerUp { .. }), "{event:?}");
            }
        };
        // Under the paused clock this is over at once.
        assert!(tokio::time::timeout(Duration::from_secs(3), down).await.is_err());
    }
}

/// Polls a call once, which hands it over.
async fn begin<F: Future + Unpin>(future: &mut F) {
    std::future::poll_fn(|cx| {
        assert!(Pin::new(&mut *future).poll(cx).is_pending(), "nobody answered yet");
        std::task::Poll::Ready(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_value_and_a_service_s_own_error_come_back() {
    let Scene { remote, cluster: _cluster, .. } = Scene::new().await;
    assert_eq!(remote.echo("hällo".into()).await, Ok("hällo".to_owned()));
    assert_eq!(remote.divide(6, 3).await, Ok(Ok(2)));
    assert_eq!(remote.divide(6, 0).await, Ok(Err("6 / 0".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn sends_arrive_in_their_order_before_a_later_call() {
    let Scene { remote, probe, cluster: _cluster } = Scene::new().await;
    remote.note(1, vec![]).send().await.unwrap();
    remote.note(2, vec![]).try_send().unwrap();
    assert_eq!(remote.note(3, vec![]).await, Ok(3));
    assert_eq!(probe.notes(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_and_sends_big_and_small_arrive_in_their_order() {
    let Scene { remote, probe, cluster: _cluster } = Scene::new().await;
    let mut calls = Vec::new();
    for number in 0..1000 {
        let padding = vec![0; if number % 101 == 0 { 60_000 } else { usize::try_from(number % 7).unwrap() }];
        let clone = remote.clone();
        match number % 4 {
            0 => clone.note(number, padding).send().await.unwrap(),
            1 => clone.note(number, padding).try_send().unwrap(),
            _ => {
                let mut call = clone.note(number, padding).into_future();
                begin(&mut call).await;
                calls.push((number, call));
            }
        }
    }
    for (number, call) in calls {
        assert_eq!(call.await, Ok(number));
    }
    assert_eq!(probe.notes(), (0..1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_which_node_called() {
    let scene = Scene::new().await;
    assert_eq!(scene.remote.caller().await, Ok("n0".to_owned()));
    let here = ProbeHandle::lookup(&scene.cluster[1], "probe").await.unwrap();
    assert_eq!(here.caller().await, Ok("n1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_panic_answers_its_caller_on_another_node_at_once() {
    let scene = Scene::new().await;
    let begin = Instant::now();
    let error = scene.remote.explode("spilled".into()).await.unwrap_err();
    assert!(matches!(&error, CallError::Panicked(text) if text.as_str().contains("spilled")), "{error:?}");
    assert!(error.may_have_run());
    assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    assert_eq!(scene.cluster[1].counters().panics, 1);
    assert_eq!(scene.cluster[0].peers().len(), 1, "the connection stands");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_dropped_without_an_answer_answers_no_reply_at_once() {
    let scene = Scene::new().await;
    let begun = Instant::now();
    let mut dropped = scene.remote.hang().into_future();
    begin(&mut dropped).await;
    scene.probe.seen.begun.notified().await;
    scene.remote.explode("the neighbour".into()).await.unwrap_err();
    let error = dropped.await.unwrap_err();
    assert!(matches!(error, CallError::NoReply(_)), "{error:?}");
    assert!(error.may_have_run());
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_answers_what_is_queued_stopped_and_later_calls_no_route() {
    let scene = Scene::new().await;
    let (mut running, mut queued) =
        (scene.remote.hold().into_future(), scene.remote.echo("queued".into()).into_future());
    begin(&mut running).await;
    begin(&mut queued).await;
    scene.probe.seen.begun.notified().await;
    let stop = scene.cluster[1].stop_service("probe");
    let ended = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        scene.probe.seen.gate.notify_one();
        (running.await, queued.await)
    };
    let (was_there, (running, queued)) = tokio::join!(stop, ended);
    assert!(was_there);
    assert_eq!(running, Ok(7), "the handler that ran is answered");
    let error = queued.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    assert!(!error.may_have_run());
    assert_eq!(scene.probe.runs(), 0);
    // The news that the name is gone goes another way than the answers, and may come after them.
    let error = scene.remote.echo("late".into()).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_) | CallError::NoRoute(_)), "{error:?}");
    tokio::time::sleep(Duration::from_millis(10)).await;
    let error = scene.remote.echo("later".into()).await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute(_)), "{error:?}");
    assert_eq!(scene.probe.runs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_times_out_at_its_caller_on_time_and_the_handler_is_cancelled() {
    let scene = Scene::new().await;
    let begin = Instant::now();
    let error = scene.remote.hang().timeout(Duration::from_millis(250)).await.unwrap_err();
    let took = begin.elapsed();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    assert!(error.may_have_run());
    assert!(took >= Duration::from_millis(250) && took <= Duration::from_millis(350), "{took:?}");
    let cancelled = tokio::time::timeout(Duration::from_millis(100), scene.probe.seen.cancelled.notified());
    assert!(cancelled.await.is_ok(), "the handler's context was not cancelled");
}

#[tokio::test(start_paused = true)]
async fn the_default_deadline_is_the_calling_node_s_setting() {
    let cluster = Cluster::start_with(2, |node| node.call_timeout(Duration::from_secs(3))).await;
    cluster[1].service("probe", Probe::default).start().await.unwrap();
    let remote = ProbeHandle::lookup(&cluster[0], "probe").await.unwrap();
    let begin = Instant::now();
    let error = remote.hang().await.unwrap_err();
    let took = begin.elapsed();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    assert!(took >= Duration::from_secs(3) && took <= Duration::from_millis(3100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_the_handler_on_the_other_node() {
    let scene = Scene::new().await;
    let mut call = scene.remote.hang().into_future();
    begin(&mut call).await;
    scene.probe.seen.begun.notified().await;
    assert!(!scene.probe.seen.is_cancelled.load(Ordering::SeqCst));
    drop(call);
    let cancelled = tokio::time::timeout(Duration::from_millis(100), scene.probe.seen.cancelled.notified());
    assert!(cancelled.await.is_ok(), "the handler's context was not cancelled");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_takes_a_queued_request_back_unrun() {
    let scene = Scene::new().await;
    let mut events = scene.cluster[1].events();
    let (mut running, mut queued) =
        (scene.remote.hold().into_future(), scene.remote.note(1, vec![]).into_future());
    begin(&mut running).await;
    begin(&mut queued).await;
    scene.probe.seen.begun.notified().await;
    drop(queued);
    // The cancel is behind the request and before this: what is sent in order is heard in order.
    let mut last = scene.remote.note(2, vec![]).into_future();
    begin(&mut last).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    scene.probe.seen.gate.notify_one();
    assert_eq!(running.await, Ok(7));
    assert_eq!(last.await, Ok(2));
    assert_eq!(scene.probe.notes(), [2]);
    match events.next().await {
        Some(Event::DeadLetter(letter)) => assert_eq!(letter.reason, DeadLetterReason::Expired),
        other => panic!("a dead letter was expected, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_deadline_passed_in_the_mailbox_never_runs() {
    let scene = Scene::new().await;
    let mut running = scene.remote.hold().into_future();
    begin(&mut running).await;
    scene.probe.seen.begun.notified().await;
    let error = scene.remote.note(1, vec![]).timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    scene.probe.seen.gate.notify_one();
    assert_eq!(running.await, Ok(7));
    assert_eq!(scene.remote.note(2, vec![]).await, Ok(2));
    assert_eq!(scene.probe.notes(), [2]);
    assert_eq!(scene.cluster[1].counters().expired.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_fails_at_its_sender_and_did_not_run() {
    let scene = Scene::new().await;
    let mut events = scene.cluster[0].events();
    assert_eq!(scene.remote.size(vec![1; MAX_MESSAGE]).await, Ok(MAX_MESSAGE));
    for error in [
        scene.remote.size(vec![1; 3 * MAX_MESSAGE]).await.unwrap_err(),
        scene.remote.size(vec![1; 3 * MAX_MESSAGE]).send().await.unwrap_err(),
        scene.remote.size(vec![1; 3 * MAX_MESSAGE]).try_send().unwrap_err(),
    ] {
        assert!(matches!(error, CallError::TooLarge(_)), "{error:?}");
        assert!(!error.may_have_run());
    }
    scene.stayed_connected(&mut events).await;
    assert_eq!(scene.probe.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_too_large_is_an_error_of_its_caller_alone() {
    let scene = Scene::new().await;
    let mut events = scene.cluster[0].events();
    assert_eq!(scene.remote.zeros(MAX_MESSAGE).await.map(|zeros| zeros.len()), Ok(MAX_MESSAGE));
    let error = scene.remote.zeros(3 * MAX_MESSAGE).await.unwrap_err();
    assert!(matches!(error, CallError::BadReply(_)), "{error:?}");
    assert!(error.may_have_run());
    scene.stayed_connected(&mut events).await;
}

/// A service with a mailbox that is soon full.
#[derive(Clone)]
struct Narrow {
    gate: Arc<Notify>,
}

#[service(mailbox = 4)]
impl Narrow {
    pub async fn wait(&mut self) {
        self.gate.notified().await;
    }

    pub fn other(&mut self) -> u64 {
        1
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_on_another_node_makes_its_own_callers_wait_and_nobody_else() {
    let scene = Scene::new().await;
    let gate = Arc::new(Notify::new());
    let narrow = Narrow { gate: Arc::clone(&gate) };
    scene.cluster[1].service("narrow", move || narrow.clone()).start().await.unwrap();
    let remote = NarrowHandle::lookup(&scene.cluster[0], "narrow").await.unwrap();
    let mut events = scene.cluster[1].events();
    let mut waiting = Vec::new();
    for _ in 0..12 {
        let mut call = remote.wait().into_future();
        self::begin(&mut call).await;
        waiting.push(call);
    }
    // One runs, a few wait in the mailbox, the rest in front of it.
    let begin = Instant::now();
    let hasty = remote.other().timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(hasty, CallError::Timeout(_)), "{hasty:?}");
    assert_eq!(begin.elapsed(), Duration::from_millis(50));
    assert_eq!(scene.remote.divide(6, 3).await, Ok(Ok(2)), "another service on the same connection");
    assert!(matches!(events.next().await, Some(Event::HighWater { .. })), "it is full");
    assert_eq!(scene.cluster[1].counters().dead_letters, 0);
    for call in waiting {
        gate.notify_one();
        assert_eq!(call.await, Ok(()));
    }
    assert_eq!(remote.other().await, Ok(1));
    assert_eq!(scene.cluster[1].counters().expired.total(), 1, "who was hasty was never begun");
}
