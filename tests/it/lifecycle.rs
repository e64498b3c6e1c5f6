//! How instances and groups begin and end, and what their callers and watchers see of it.

use std::error::Error;
use std::future::IntoFuture;
use std::time::Duration;

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::{Event, StartError, StopError};

use crate::gate::{Gate, Log, Watch, local_node, settle};

/// Notes its life. What it does wrong is told to it beforehand.
#[derive(Clone, Default)]
struct Life {
    log: Log,
    fault: Option<Fault>,
    starts: Option<Gate>,
    gate: Gate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    StartFails,
    StartPanics,
    StopPanics,
}

#[service]
impl Life {
    #[on_start]
    async fn begin(&mut self, context: &Context) -> Result<(), std::io::Error> {
        assert!(context.deadline().is_none());
        if let Some(gate) = &self.starts {
            gate.pass().await;
        }
        self.log.add("start");
        match self.fault {
            Some(Fault::StartFails) => Err(std::io::Error::other("no disk")),
            Some(Fault::StartPanics) => panic!("start boom"),
            _ => Ok(()),
        }
    }

    #[on_stop]
    async fn end(&mut self, reason: StopReason) {
        self.log.add(format!("stop:{}", reason.to_string().replace(' ', "_")));
        assert!(self.fault != Some(Fault::StopPanics), "stop boom");
    }

    pub fn note(&mut self, text: String) {
        self.log.add(text);
    }

    pub async fn hold(&mut self) -> u32 {
        self.gate.pass().await;
        self.log.add("held");
        7
    }

    pub async fn hold_shared(&self) -> u32 {
        self.gate.pass().await;
        self.log.add("held");
        7
    }

    pub fn stop(&self, context: &Context) -> u32 {
        context.stop();
        8
    }

    pub fn boom(&mut self) {
        panic!("boom");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.log.add("drop");
    }
}

fn life(fault: Option<Fault>) -> (Life, Log, Gate) {
    let (log, gate) = (Log::default(), Gate::new());
    (Life { log: log.clone(), fault, starts: None, gate: gate.clone() }, log, gate)
}

fn assert_stopped(error: &CallError) {
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    assert!(!error.may_have_run());
}

async fn end_of(events: &mut skyhold::Events) -> StopReason {
    loop {
        match events.next().await {
            Some(Event::InstanceEnded { reason, .. }) => return reason,
            Some(_) => {}
            None => panic!("the node has gone"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_frame_the_messages_and_drop_comes_last() {
    let node = local_node().await;
    let (life, log, _) = life(None);
    let handle = node.spawn(life);
    handle.note("a".into()).await.unwrap();
    handle.note("b".into()).await.unwrap();
    node.stop(&handle).await.unwrap();
    assert_eq!(log.line(), "start a b stop:stopped drop");
}

#[tokio::test(start_paused = true)]
async fn messages_wait_for_the_start_hook() {
    let node = local_node().await;
    let (mut life, log, _) = life(None);
    let starts = Gate::new();
    life.starts = Some(starts.clone());
    let handle = node.spawn(life);
    let mut call = Box::pin(handle.note("a".into()).into_future());
    assert!(poll!(&mut call).is_pending());
    starts.reached(1).await;
    settle().await;
    assert_eq!(log.line(), "");
    starts.open();
    call.await.unwrap();
    assert_eq!(log.line(), "start a");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_found_only_when_its_start_hooks_have_ended() {
    let node = local_node().await;
    let (mut life, ..) = life(None);
    let starts = Gate::new();
    life.starts = Some(starts.clone());
    let builder = node.service("life", move || life.clone());
    let start = tokio::spawn(builder.start());
    starts.reached(1).await;
    settle().await;
    assert!(!start.is_finished());
    assert!(LifeHandle::try_lookup(&node, "life").is_err());
    starts.open();
    start.await.unwrap().unwrap();
    LifeHandle::try_lookup(&node, "life").unwrap().note("a".into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_hook_that_fails_refuses_the_start_with_its_error() {
    let node = local_node().await;
    let mut events = node.events();
    let (refuses, log, _) = life(Some(Fault::StartFails));
    let mut refuses = Some(refuses);
    let error = node.service("life", move || refuses.take().unwrap()).start().await.unwrap_err();
    assert_eq!(error.to_string(), "`life` refused to start");
    assert_eq!(error.source().unwrap().to_string(), "no disk");
    assert!(matches!(error, StartError::Refused { .. }));
    assert_eq!(end_of(&mut events).await, StopReason::Error("no disk".into()));
    assert_eq!(log.line(), "start drop");
    // The name is free again.
    let (works, ..) = life(None);
    node.service("life", move || works.clone()).start().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_hook_that_panics_refuses_the_start_with_its_message() {
    let node = local_node().await;
    let mut events = node.events();
    let (refuses, log, _) = life(Some(Fault::StartPanics));
    let mut refuses = Some(refuses);
    let error = node.service("life", move || refuses.take().unwrap()).start().await.unwrap_err();
    assert_eq!(error.to_string(), "`life` panicked in its start hook: start boom");
    assert_eq!(end_of(&mut events).await, StopReason::Panicked("start boom".into()));
    assert_eq!(log.line(), "start drop");
    assert_eq!(node.counters().panics, 1);
}

#[tokio::test(start_paused = true)]
async fn one_instance_that_refuses_to_start_ends_them_all_before_the_error_comes() {
    let node = local_node().await;
    let (works, log, _) = life(None);
    let mut made = 0;
    let factory = move || {
        made += 1;
        let mut life = works.clone();
        life.fault = (made == 3).then_some(Fault::StartFails);
        life
    };
    node.service("life", factory).instances(3).start().await.unwrap_err();
    let counters = node.counters();
    assert_eq!((counters.instances_started, counters.instances_ended), (3, 3), "{}", log.line());
    assert_eq!(log.entries().iter().filter(|entry| *entry == "stop:shut_down").count(), 2, "{}", log.line());
}

#[tokio::test(start_paused = true)]
async fn callers_of_an_anonymous_instance_that_refuses_to_start_are_answered_at_once() {
    let node = local_node().await;
    let watch = Watch::start();
    for fault in [Fault::StartFails, Fault::StartPanics] {
        let (refuses, log, _) = life(Some(fault));
        let handle = node.spawn(refuses);
        assert_stopped(&handle.note("a".into()).await.unwrap_err());
        assert_stopped(&handle.note("b".into()).await.unwrap_err());
        assert_eq!(log.line(), "start drop");
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn the_stop_hook_and_the_event_get_the_reason() {
    for (how, expected, line) in [
        ("node", StopReason::Normal, "start stop:stopped drop"),
        ("itself", StopReason::Normal, "start stop:stopped drop"),
        ("shutdown", StopReason::Shutdown, "start stop:shut_down drop"),
        // The state may be broken: the hook does not run.
        ("panic", StopReason::Panicked("boom".into()), "start drop"),
    ] {
        let node = local_node().await;
        let mut events = node.events();
        let (life, log, _) = life(None);
        let handle = node.spawn(life);
        match how {
            "node" => node.stop(&handle).await.unwrap(),
            "itself" => assert_eq!(handle.stop().await.unwrap(), 8),
            "shutdown" => node.shutdown().await.unwrap(),
            _ => drop(handle.boom().await.unwrap_err()),
        }
        assert_eq!(end_of(&mut events).await, expected, "{how}");
        assert_eq!(log.line(), line, "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_stop_hook_changes_the_reason_and_nothing_else() {
    let node = local_node().await;
    let mut events = node.events();
    let (life, log, gate) = life(Some(Fault::StopPanics));
    let handle = node.spawn(life);
    let running = tokio::spawn(handle.hold().into_future());
    gate.reached(1).await;
    let queued = tokio::spawn(handle.note("a".into()).into_future());
    settle().await;
    gate.open();
    node.stop(&handle).await.unwrap();
    assert_eq!(running.await.unwrap().unwrap(), 7);
    assert_stopped(&queued.await.unwrap().unwrap_err());
    assert_eq!(end_of(&mut events).await, StopReason::Panicked("stop boom".into()));
    assert_eq!(log.line(), "start held stop:stopped drop");
    assert_eq!(node.counters().panics, 1);
}

type Hold = fn(&LifeHandle) -> Call<u32, LifeMessage>;

#[tokio::test(start_paused = true)]
async fn a_stop_lets_the_running_handler_answer() {
    for hold in [LifeHandle::hold as Hold, LifeHandle::hold_shared] {
        let node = local_node().await;
        let (life, log, gate) = life(None);
        let handle = node.spawn(life);
        let running = tokio::spawn(hold(&handle).into_future());
        gate.reached(1).await;
        let mut stop = Box::pin(node.stop(&handle));
        assert!(poll!(&mut stop).is_pending());
        settle().await;
        assert!(poll!(&mut stop).is_pending(), "it waits for the handler");
        gate.open();
        stop.await.unwrap();
        assert_eq!(running.await.unwrap().unwrap(), 7);
        assert_eq!(log.line(), "start held stop:stopped drop");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_is_queued_at_once() {
    for hold in [LifeHandle::hold as Hold, LifeHandle::hold_shared] {
        let node = local_node().await;
        let (life, log, gate) = life(None);
        let handle = node.spawn(life);
        hold(&handle).try_send().unwrap();
        gate.reached(1).await;
        let queued = [(); 3].map(|()| tokio::spawn(handle.note("a".into()).into_future()));
        settle().await;
        let watch = Watch::start();
        let mut stop = Box::pin(node.stop(&handle));
        assert!(poll!(&mut stop).is_pending());
        for call in queued {
            assert_stopped(&call.await.unwrap().unwrap_err());
        }
        watch.assert_at_once();
        gate.open();
        stop.await.unwrap();
        assert_eq!(log.line(), "start held stop:stopped drop");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_an_instance_that_stops_is_refused_at_once() {
    let node = local_node().await;
    let (life, log, gate) = life(None);
    let handle = node.spawn(life);
    handle.hold().try_send().unwrap();
    gate.reached(1).await;
    let mut stop = Box::pin(node.stop(&handle));
    assert!(poll!(&mut stop).is_pending());
    let watch = Watch::start();
    assert_stopped(&handle.note("a".into()).await.unwrap_err());
    assert_stopped(&handle.note("a".into()).send().await.unwrap_err());
    assert_stopped(&handle.note("a".into()).try_send().unwrap_err());
    watch.assert_at_once();
    gate.open();
    stop.await.unwrap();
    assert_eq!(log.line(), "start held stop:stopped drop");
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_message_that_waits_for_shared_handlers_does_not_run_after_a_stop() {
    let node = local_node().await;
    let (life, log, gate) = life(None);
    let handle = node.spawn(life);
    handle.hold_shared().try_send().unwrap();
    gate.reached(1).await;
    let waiting = tokio::spawn(handle.note("a".into()).into_future());
    settle().await;
    let mut stop = Box::pin(node.stop(&handle));
    assert!(poll!(&mut stop).is_pending());
    gate.open();
    stop.await.unwrap();
    assert_stopped(&waiting.await.unwrap().unwrap_err());
    assert_eq!(log.line(), "start held stop:stopped drop");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_its_instance_still_answers() {
    let node = local_node().await;
    let (life, log, _) = life(None);
    let handle = node.spawn(life);
    let mut stop = Box::pin(handle.stop().into_future());
    let mut behind = Box::pin(handle.note("a".into()).into_future());
    assert!(poll!(&mut stop).is_pending() && poll!(&mut behind).is_pending());
    assert_eq!(stop.await.unwrap(), 8);
    assert_stopped(&behind.await.unwrap_err());
    assert_stopped(&handle.note("b".into()).await.unwrap_err());
    assert_eq!(log.line(), "start stop:stopped drop");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_may_be_stopped_again_but_not_by_another_node() {
    let (node, other) = (local_node().await, Node::builder("b").start().await.unwrap());
    let (life, ..) = life(None);
    let named = life.clone();
    let handle = node.spawn(life);
    let group = node.service("life", move || named.clone()).start().await.unwrap();
    assert!(matches!(other.stop(&handle).await, Err(StopError::Elsewhere { .. })));
    assert!(matches!(other.stop(&group).await, Err(StopError::Elsewhere { .. })));
    assert_eq!(node.counters().instances_ended, 0);
    for _ in 0..2 {
        node.stop(&handle).await.unwrap();
        node.stop(&group).await.unwrap();
    }
    assert_eq!(node.counters().instances_ended, 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_lives_on_without_a_handle() {
    let node = local_node().await;
    let (life, log, gate) = life(None);
    let handle = node.spawn(life);
    handle.hold().try_send().unwrap();
    drop(handle);
    gate.reached(1).await;
    gate.open();
    settle().await;
    assert_eq!(log.line(), "start held");
    assert_eq!(node.counters().instances_ended, 0);
}

/// Ends within the message that follows the first one, with no await between.
struct Hasty {
    gate: Gate,
}

#[service(local, mailbox = 1)]
impl Hasty {
    pub async fn hold(&mut self) {
        self.gate.pass().await;
    }

    pub fn stop(&mut self, context: &Context) {
        context.stop();
    }

    pub fn boom(&mut self) {
        panic!("boom");
    }
}

/// On a thread of its own, so that an instance that never ends is a failure and no standstill of the tests.
#[test]
fn an_instance_that_ends_while_a_caller_waits_for_room_answers_it() {
    for end in [HastyHandle::stop as fn(&HastyHandle) -> Call<(), HastyMessage>, HastyHandle::boom] {
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async move {
                let node = local_node().await;
                let gate = Gate::new();
                let hasty = node.spawn(Hasty { gate: gate.clone() });
                let held = tokio::spawn(hasty.hold().into_future());
                gate.reached(1).await;
                let ends = tokio::spawn(end(&hasty).into_future());
                settle().await;
                let waits = [(); 3].map(|()| tokio::spawn(hasty.hold().into_future()));
                settle().await;
                gate.open();
                held.await.unwrap().unwrap();
                drop(ends.await.unwrap());
                for waiting in waits {
                    assert_stopped(&waiting.await.unwrap().unwrap_err());
                }
                done.send(()).unwrap();
            });
        });
        is_done.recv_timeout(Duration::from_secs(20)).expect("the instance ends");
    }
}
