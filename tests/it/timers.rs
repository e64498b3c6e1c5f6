//! Timers: messages that an instance sends later, or again and again.

use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Event, Restart, StopReason, Timer};

use crate::gate::{Gate, Log, Watch, local_node, settle};

const SECOND: Duration = Duration::from_secs(1);

/// Notes when its messages come.
#[derive(Clone, Default)]
struct Clock {
    log: Log,
    timer: Option<std::sync::Arc<Timer>>,
    start: Option<std::sync::Arc<Watch>>,
}

#[service(local, mailbox = 1)]
impl Clock {
    #[on_start]
    fn begin(&mut self) {
        self.start = Some(std::sync::Arc::new(Watch::start()));
    }

    pub fn later(&mut self, context: &Context, delay: Duration, text: &'static str) {
        let me = context.handle::<ClockHandle>();
        self.timer = Some(std::sync::Arc::new(context.after(delay, me.note(text))));
    }

    pub fn tick_every(&mut self, context: &Context, period: Duration) {
        let me = context.handle::<ClockHandle>();
        self.timer = Some(std::sync::Arc::new(context.every(period, move || me.note("tick"))));
    }

    pub fn tick_then_panic(&mut self, context: &Context) {
        let me = context.handle::<ClockHandle>();
        let mut ticks = 0;
        context.every(SECOND, move || {
            ticks += 1;
            assert!(ticks < 3, "the timer's own");
            me.note("tick")
        });
    }

    pub fn every_nothing(&mut self, context: &Context) {
        let me = context.handle::<ClockHandle>();
        context.every(Duration::ZERO, move || me.note("never"));
    }

    pub fn note(&mut self, text: &'static str) {
        let elapsed = self.start.as_ref().unwrap().elapsed();
        self.log.add(format!("{text}@{}", elapsed.as_millis()));
    }

    pub async fn hold(&mut self, gate: Gate) {
        gate.pass().await;
    }

    pub fn cancel(&mut self) -> bool {
        let timer = self.timer.take().unwrap();
        timer.cancel();
        timer.is_finished()
    }

    pub fn explode(&mut self) {
        panic!("boom");
    }
}

async fn clock() -> (Node, ClockHandle, Log) {
    let node = local_node().await;
    let clock = Clock::default();
    let log = clock.log.clone();
    let handle = node.spawn(clock);
    (node, handle, log)
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_after_its_delay_and_takes_its_turn() {
    let (_node, clock, log) = clock().await;
    clock.later(SECOND, "late").await.unwrap();
    tokio::time::sleep(SECOND - Duration::from_millis(2)).await;
    assert_eq!(log.line(), "");
    let gate = Gate::new();
    clock.hold(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    clock.note("before").try_send().unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(log.line(), "", "it waits as any other message");
    gate.open();
    settle().await;
    settle().await;
    assert_eq!(log.line(), "before@1998 late@1998");
}

#[tokio::test(start_paused = true)]
async fn a_period_does_not_drift_however_long_the_handlers_take() {
    let (_node, clock, log) = clock().await;
    clock.tick_every(SECOND).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for _ in 0..3 {
        let gate = Gate::new();
        clock.hold(gate.clone()).send().await.unwrap();
        gate.reached(1).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        gate.open();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let times = log.entries();
    // Held from 1500 to 2200, 2500 to 3200, 3500 to 4200: those in between come when the handler has ended.
    assert_eq!(times, ["tick@1000", "tick@2200", "tick@3200", "tick@4200"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        log.entries().last().unwrap(),
        "tick@5000",
        "the times are multiples of the period all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn times_that_pass_while_a_tick_waits_for_room_are_skipped() {
    let (_node, clock, log) = clock().await;
    clock.tick_every(SECOND).await.unwrap();
    let gate = Gate::new();
    clock.hold(gate.clone()).send().await.unwrap();
    gate.reached(1).await;
    // One tick is in the mailbox of one, the next waits for room from 2000 on.
    tokio::time::sleep(Duration::from_millis(7500)).await;
    gate.open();
    tokio::time::sleep(SECOND).await;
    let entries = log.entries();
    assert_eq!(
        entries,
        ["tick@7500", "tick@7500", "tick@8000"],
        "two that had been made, none of the five missed ones"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_was_cancelled_sends_nothing_more() {
    let (_node, clock, log) = clock().await;
    clock.later(SECOND, "never").await.unwrap();
    clock.cancel().await.unwrap();
    clock.tick_every(SECOND).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    clock.cancel().await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(log.line(), "tick@1000 tick@2000");
}

#[tokio::test(start_paused = true)]
async fn timers_end_with_their_life() {
    let node = local_node().await;
    let service = Clock::default();
    let log = service.log.clone();
    let supervisor =
        skyhold::Supervisor::new("clocks", skyhold::Strategy::Dynamic).start(&node).await.unwrap();
    let clock = supervisor.spawn(Restart::on_failure(), move || service.clone()).await.unwrap();
    clock.tick_every(SECOND).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    clock.explode().await.unwrap_err();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(log.line(), "tick@1000", "the next life has no timers of the one before");
    clock.later(SECOND, "again").await.unwrap();
    node.stop(&clock).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(log.line(), "tick@1000");
    assert_eq!(node.counters().instances_ended, 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_timer_ends_the_life_as_a_handlers_does() {
    let (node, clock, log) = clock().await;
    let mut events = node.events();
    clock.tick_then_panic().await.unwrap();
    let reason = loop {
        if let Some(Event::InstanceEnded { reason, .. }) = events.next().await {
            break reason;
        }
    };
    assert_eq!(reason, StopReason::Panicked("the timer's own".into()));
    assert_eq!(log.line(), "tick@1000 tick@2000");
    assert_eq!(node.counters().panics, 1);
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_is_a_panic_that_says_what_is_needed() {
    let (_node, clock, _log) = clock().await;
    let error = clock.every_nothing().await.unwrap_err();
    assert!(matches!(error, CallError::Panicked(_)), "{error:?}");
    assert!(error.to_string().contains("a timer needs a period of more than zero"), "{error}");
}

/// Keeps pinging another service, wherever that is.
struct Pinger;

#[service]
impl Pinger {
    pub async fn ping_every_second(&mut self, context: &Context, name: String) {
        let to = TallyHandle::lookup(&context.node(), &name).await.unwrap();
        context.every(SECOND, move || to.count());
    }
}

#[derive(Default)]
struct Tally(u64);

#[service]
impl Tally {
    pub fn count(&mut self) {
        self.0 += 1;
    }

    pub fn counted(&self) -> u64 {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_reaches_a_service_on_another_node() {
    let cluster = Cluster::start(2).await;
    let tally = cluster[1].service("tally", Tally::default).start().await.unwrap();
    let pinger = cluster[0].spawn(Pinger);
    pinger.ping_every_second("tally".into()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(tally.counted().await, Ok(5));
}
