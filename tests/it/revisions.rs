//! Nodes of the wire's first revision and of the present one together: who dials, and who calls, makes no difference.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, stream};
use skyhold::prelude::*;
use skyhold::testing::{Cluster, first_revision};
use skyhold::{Event, Events, Limits, LookupError, StopReason};

use crate::gate::{Gate, Watch, settle};
use crate::raw::{Fields, Hello, Raw, kind};

/// Does what its caller says, and shows the test what it did.
#[derive(Clone, Default)]
struct Probe {
    notes: Arc<Mutex<Vec<u64>>>,
    runs: Arc<AtomicU64>,
    gate: Gate,
    cancelled: Gate,
}

/// How many messages wait in the mailbox of a [`Probe`]; one more is taken out to run next.
const MAILBOX: usize = 4;

#[service(mailbox = 4)]
impl Probe {
    pub fn echo(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        bytes
    }

    pub fn zeros(&self, count: usize) -> Vec<u8> {
        vec![0; count]
    }

    pub fn divide(&self, dividend: u64, divisor: u64) -> Result<u64, String> {
        dividend.checked_div(divisor).ok_or_else(|| format!("{dividend} / 0"))
    }

    pub fn note(&mut self, number: u64, padding: Vec<u8>) -> u64 {
        drop(padding);
        self.notes.lock().unwrap().push(number);
        number
    }

    /// Holds the instance until the gate opens.
    pub async fn hold(&mut self) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.gate.pass().await;
        7
    }

    /// Never ends by itself; shows when its caller gives up.
    pub async fn hang(&self, context: &Context) {
        self.gate.pass().await;
        context.cancelled().await;
        self.cancelled.pass().await;
    }

    pub fn explode(&self, text: String) {
        panic!("{text}");
    }

    /// Is called back by whom it calls, and waits for that.
    pub async fn there_and_back(&self, context: &Context, other: ProbeHandle) -> Result<u64, String> {
        other.back(context.handle()).await.map_err(|error| error.to_string())?
    }

    pub async fn back(&self, caller: ProbeHandle) -> Result<u64, String> {
        caller.divide(84, 2).await.map_err(|error| error.to_string())?
    }

    pub fn count(&self, to: u64) -> impl Stream<Item = u64> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        stream::iter(0..to)
    }

    pub async fn sum(&self, mut numbers: Streaming<u64>) -> u64 {
        self.runs.fetch_add(1, Ordering::SeqCst);
        let mut sum = 0;
        while let Some(Ok(number)) = numbers.next().await {
            sum += number;
        }
        sum
    }
}

impl Probe {
    fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }
}

/// Is quick.
struct Quick;

#[service(mailbox = 256)]
impl Quick {
    pub fn size(&self, bytes: Vec<u8>) -> usize {
        bytes.len()
    }
}

/// A node of the first revision and a present one. One of the two has the handle, and the other one runs the service.
struct Scene {
    cluster: Cluster,
    probe: Probe,
    remote: ProbeHandle,
    caller: usize,
    callee: usize,
    events: Events,
}

/// What takes a mebibyte has this as its frame limit.
const MEBIBYTE: usize = 1 << 20;

impl Scene {
    async fn new(old: usize, caller: usize) -> Self {
        let (began, started) = (Watch::start(), AtomicUsize::new(0));
        let cluster = Cluster::start_with(2, move |node| {
            let limits = Limits::default().send_buffer(64 * 1024);
            let node = node.max_message(MEBIBYTE).limits(limits);
            let is_old = started.fetch_add(1, Ordering::SeqCst) == old;
            if is_old { first_revision(node) } else { node }
        })
        .await;
        // The first node found nobody when it dialled, and pauses for so long at least.
        assert!(began.elapsed() < Duration::from_millis(50), "the second node has dialled");
        let callee = 1 - caller;
        let events = cluster[caller].events();
        let probe = Probe::default();
        let template = probe.clone();
        cluster[callee].service("probe", move || template.clone()).start().await.unwrap();
        let remote = ProbeHandle::lookup(&cluster[caller], "probe").await.unwrap();
        Self { cluster, probe, remote, caller, callee, events }
    }

    /// Shows that the two speak the first revision, and that their connection was never lost.
    async fn check_unhurt(mut self) {
        self.probe.gate.open();
        let error = self.remote.count(1).await.unwrap_err();
        assert!(
            matches!(&error, CallError::BadReply(text) if text.as_str().contains("streams too")),
            "{error}"
        );
        assert_eq!(self.remote.divide(6, 2).await, Ok(Ok(3)));
        while let Some(Some(event)) = tokio::task::unconstrained(self.events.next()).now_or_never() {
            assert!(!matches!(event, Event::PeerDown { .. } | Event::PeerUp { .. }), "{event:?}");
        }
    }
}

/// Checks a claim with the old node as the one that was dialled and as the one that has dialled, as caller and as callee.
async fn everywhere(check: impl AsyncFn(&mut Scene)) {
    for (old, caller) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        println!("node {old} is the old one, node 1 has dialled, node {caller} calls");
        let mut scene = Scene::new(old, caller).await;
        check(&mut scene).await;
        scene.check_unhurt().await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_sends_arrive_in_order_and_are_answered() {
    everywhere(async |scene| {
        assert_eq!(scene.remote.echo(b"text".to_vec()).await.unwrap(), b"text");
        assert_eq!(scene.remote.divide(1, 0).await, Ok(Err("1 / 0".to_owned())));
        let mut expected = Vec::new();
        for number in (0..10).step_by(2) {
            // Long and short by turns: where there are pieces these would go in some.
            scene.remote.note(number, vec![7; 100_000]).send().await.unwrap();
            assert_eq!(scene.remote.note(number + 1, Vec::new()).await, Ok(number + 1));
            expected.extend([number, number + 1]);
        }
        assert_eq!(*scene.probe.notes.lock().unwrap(), expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_mebibyte_comes_back_and_what_is_above_the_frame_limit_is_too_large_for_its_sender() {
    everywhere(async |scene| {
        let mebibyte: Vec<u8> = (0..MEBIBYTE).map(|at| (at % 251) as u8).collect();
        assert_eq!(scene.remote.echo(mebibyte.clone()).await, Ok(mebibyte));
        let error = scene.remote.echo(vec![7; 2 * MEBIBYTE]).await.unwrap_err();
        assert!(matches!(&error, CallError::TooLarge(text) if text.as_str().contains("1114112")), "{error}");
        assert!(!error.may_have_run());
        assert_eq!(scene.probe.runs(), 1);
        let error = scene.remote.zeros(2 * MEBIBYTE).await.unwrap_err();
        assert!(matches!(&error, CallError::BadReply(text) if text.as_str().contains("1114112")), "{error}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn names_come_and_go() {
    everywhere(async |scene| {
        let (caller, callee) = (&scene.cluster[scene.caller], &scene.cluster[scene.callee]);
        assert!(matches!(ProbeHandle::try_lookup(caller, "later"), Err(LookupError::NotFound { .. })));
        callee.service("later", Probe::default).instances(3).start().await.unwrap();
        let later = ProbeHandle::lookup(caller, "later").await.unwrap();
        for _ in 0..6 {
            assert_eq!(later.divide(6, 3).await, Ok(Ok(2)));
        }
        // The peer says when it routes by what it was told, so that nobody waits for long.
        let clock = Watch::start();
        assert!(callee.drain_service("later").await);
        clock.assert_at_once();
        assert!(matches!(ProbeHandle::try_lookup(caller, "later"), Err(LookupError::NotFound { .. })));
        assert!(matches!(later.divide(6, 3).await, Err(CallError::NoRoute(_))));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn watches_tell_of_an_end_once() {
    everywhere(async |scene| {
        let callee = &scene.cluster[scene.callee];
        let watched = callee.service("watched", Probe::default).start().await.unwrap();
        let remote = ProbeHandle::lookup(&scene.cluster[scene.caller], "watched").await.unwrap();
        let mut watch = remote.watch();
        assert_eq!(remote.divide(6, 3).await, Ok(Ok(2)));
        assert!(watch.next().now_or_never().is_none());
        assert!(callee.stop_service("watched").await);
        let down = watch.next().await.unwrap();
        assert_eq!(down.reason, StopReason::Normal);
        assert!(watch.next().await.is_none());
        drop(watched);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_vanishes_is_told_to_its_watchers_and_callers() {
    for (old, caller) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let scene = Scene::new(old, caller).await;
        let mut watch = scene.remote.watch();
        let held = tokio::spawn(scene.remote.hold().into_future());
        scene.probe.gate.reached(1).await;
        scene.cluster.kill(scene.callee).await;
        assert!(matches!(held.await.unwrap(), Err(CallError::Disconnected(_))));
        assert!(matches!(watch.next().await.unwrap().reason, StopReason::NodeDown(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_cancels_what_runs_and_what_waits() {
    everywhere(async |scene| {
        let hang = tokio::spawn(scene.remote.hang().into_future());
        scene.probe.gate.reached(1).await;
        scene.probe.gate.open();
        settle().await;
        assert_eq!(scene.probe.cancelled.arrived(), 0);
        hang.abort();
        scene.probe.cancelled.reached(1).await;
        scene.probe.cancelled.open();
    })
    .await;
    everywhere(async |scene| {
        let held = tokio::spawn(scene.remote.hold().into_future());
        scene.probe.gate.reached(1).await;
        let note = tokio::spawn(scene.remote.note(1, Vec::new()).into_future());
        settle().await;
        note.abort();
        settle().await;
        scene.probe.gate.open();
        assert_eq!(held.await.unwrap(), Ok(7));
        assert_eq!(scene.remote.note(2, Vec::new()).await, Ok(2));
        assert_eq!(*scene.probe.notes.lock().unwrap(), [2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_fails_its_caller_with_what_it_said() {
    everywhere(async |scene| {
        let error = scene.remote.explode("on purpose".into()).await.unwrap_err();
        assert!(
            matches!(&error, CallError::Panicked(text) if text.as_str().contains("on purpose")),
            "{error}"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_and_what_is_too_late_never_begins() {
    everywhere(async |scene| {
        let held = tokio::spawn(scene.remote.hold().into_future());
        scene.probe.gate.reached(1).await;
        let (clock, deadline) = (Watch::start(), Duration::from_millis(500));
        let error = scene.remote.note(1, Vec::new()).timeout(deadline).await.unwrap_err();
        clock.assert_ended_at(deadline);
        assert!(matches!(error, CallError::Timeout(_)), "{error}");
        scene.probe.gate.open();
        assert_eq!(held.await.unwrap(), Ok(7));
        assert_eq!(scene.remote.note(2, Vec::new()).await, Ok(2));
        assert_eq!(*scene.probe.notes.lock().unwrap(), [2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_fails_where_it_would_be_written_and_says_why() {
    everywhere(async |scene| {
        let error = scene.remote.count(3).await.unwrap_err();
        assert!(
            matches!(&error, CallError::BadReply(text) if text.as_str().contains("streams too")),
            "{error}"
        );
        assert_eq!(scene.probe.runs(), 1, "it ran, and its reply could not be sent");
        let numbers = Streaming::new(stream::iter(0..3));
        let error = scene.remote.sum(numbers).await.unwrap_err();
        assert!(matches!(&error, CallError::Codec(text) if text.as_str().contains("streams too")), "{error}");
        assert!(!error.may_have_run());
        assert_eq!(scene.probe.runs(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_more_calls_than_a_mailbox_takes_each_ends_at_once_and_says_whether_it_ran() {
    everywhere(async |scene| {
        let held = tokio::spawn(scene.remote.hold().into_future());
        scene.probe.gate.reached(1).await;
        let calls: Vec<_> =
            (0..100).map(|n| tokio::spawn(scene.remote.note(n, Vec::new()).into_future())).collect();
        settle().await;
        // Nobody can tell such a peer to wait: what finds no room is refused.
        let refused = calls.iter().filter(|call| call.is_finished()).count();
        assert!((100 - MAILBOX - 1..=100 - MAILBOX).contains(&refused), "{refused}");
        scene.probe.gate.open();
        assert_eq!(held.await.unwrap(), Ok(7));
        let mut answered = Vec::new();
        for call in join_all(calls).await {
            match call.unwrap() {
                Ok(number) => answered.push(number),
                Err(error) => assert!(matches!(error, CallError::Overloaded(_)), "{error}"),
            }
        }
        assert_eq!(answered.len(), 100 - refused);
        assert_eq!(*scene.probe.notes.lock().unwrap(), answered, "what was refused did not run");
        // Who has as many under way as there is room for gets through.
        for _ in 0..100 {
            let calls = (0..MAILBOX as u64).map(|n| scene.remote.note(n, Vec::new()).into_future());
            assert!(join_all(calls).await.iter().all(Result::is_ok));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn callers_wait_for_room_on_the_connection_and_a_quick_service_answers_more_than_its_mailbox_holds() {
    everywhere(async |scene| {
        scene.cluster[scene.callee].service("quick", || Quick).start().await.unwrap();
        let quick = QuickHandle::lookup(&scene.cluster[scene.caller], "quick").await.unwrap();
        let first = quick.size(vec![7; 70 * 1024]).send().await;
        assert_eq!(first, Ok(()));
        assert!(quick.size(Vec::new()).try_send().is_err(), "the connection is full");
        let calls = (0..2000).map(|_| quick.size(vec![7; 1024]).into_future());
        assert!(join_all(calls).await.iter().all(|size| *size == Ok(1024)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn handles_travel_and_a_call_may_come_back_to_who_waits_for_it() {
    everywhere(async |scene| {
        let here = scene.cluster[scene.caller].spawn(Probe::default());
        assert_eq!(scene.remote.back(here.clone()).await, Ok(Ok(42)), "an anonymous instance is called back");
        assert_eq!(scene.remote.there_and_back(here).await, Ok(Ok(42)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn items_of_topics_arrive() {
    everywhere(async |scene| {
        let caller = Topic::<Vec<u8>>::open(&scene.cluster[scene.caller], "news").unwrap();
        let callee = Topic::<Vec<u8>>::open(&scene.cluster[scene.callee], "news").unwrap();
        let mut subscription = callee.subscribe().await.unwrap();
        settle().await;
        for size in [1, 100_000, 2] {
            assert_eq!(caller.publish(vec![7; size]).unwrap().nodes, 1);
            assert_eq!(subscription.next().await.unwrap().len(), size);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_comes_back_and_speaks_the_first_revision_again() {
    for (old, caller) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let scene = Scene::new(old, caller).await;
        scene.cluster.partition(&[0], &[1]).await;
        let mut events = scene.cluster[caller].events();
        while !matches!(events.next().await, Some(Event::PeerDown { .. })) {}
        scene.cluster.heal().await;
        scene.cluster.connected().await;
        assert_eq!(scene.remote.echo(vec![7; MEBIBYTE]).await, Ok(vec![7; MEBIBYTE]));
        Scene { events: scene.cluster[caller].events(), ..scene }.check_unhurt().await;
    }
}

/// FNV-1a of words, each with a zero byte behind it, as the protocol's document has it.
fn hash(words: &[&str]) -> u32 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[tokio::test]
async fn a_peer_without_streams_that_sends_the_number_of_one_hears_nothing_of_streams() {
    let node = Node::builder("a").insecure_without_secret().listen("127.0.0.1:0").start().await.unwrap();
    let probe = Probe::default();
    let template = probe.clone();
    node.service("probe", move || template.clone()).start().await.unwrap();
    let mut raw = Raw::join(&node, &Hello::default()).await;
    let names = raw.until(kind::NAMES).await;
    let mut fields = names.fields();
    assert_eq!(
        (fields.u8(), fields.u16(), fields.string(), fields.string(), fields.u16()),
        (1, 1, "probe".to_owned(), "probe".to_owned(), 1)
    );
    let instance = fields.u64();
    let name =
        "sum".bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let signature = hash(&["(", "Streaming", "<", "u64", ">", ",", ")", "->", "u64"]);
    let head = Fields::default().u64(1).u64(instance).u32(name).u32(signature).u32(0).u8(1);
    raw.write(&head.u8(5).frame(kind::REQUEST)).await;
    let failure = raw.expect(kind::FAILURE).await;
    let mut fields = failure.fields();
    assert_eq!((fields.u64(), fields.u8()), (1, 9), "it does not decode");
    assert!(fields.string().contains("streams too"));
    assert!(raw.is_served().await.is_empty());
    assert_eq!(probe.runs(), 0);
}
