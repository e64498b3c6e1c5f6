//! What happens to a message for which there is no room, where nobody is to wait.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{Balance, DeadLetterReason, Event, Events, Restart, StopReason};

use crate::gate::{Gate, Log, Watch, local_node, settle};

#[service]
trait Clerk {
    async fn hold(&mut self);
    fn note(&mut self, id: u32);
    fn fail(&mut self);
    async fn flood_itself(&self, context: &Context) -> String;
}

#[derive(Clone, Default)]
struct Desk {
    gate: Gate,
    log: Log,
}

macro_rules! clerk {
    ($name:ident, $($settings:tt)*) => {
        #[derive(Clone, Default)]
        struct $name(Desk);

        #[service($($settings)*)]
        impl Clerk for $name {
            async fn hold(&mut self) {
                self.0.gate.pass().await;
            }

            fn note(&mut self, id: u32) {
                self.0.log.add(id.to_string());
            }

            fn fail(&mut self) {
                panic!("told to");
            }

            /// Fills its own mailbox, and says why no more gets in.
            async fn flood_itself(&self, context: &Context) -> String {
                let own = context.handle::<ClerkHandle>();
                loop {
                    if let Err(error) = own.note(0).send().await {
                        return error.to_string();
                    }
                }
            }
        }
    };
}

clerk!(Rejecting, mailbox = 2, overflow = "reject");
clerk!(Dropping, mailbox = 3, overflow = "drop_oldest");

type Pending = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// A call that was handed over.
async fn queued(clerk: &ClerkHandle, id: u32) -> Pending {
    let mut call: Pending = Box::pin(clerk.note(id).into_future());
    assert!(poll!(&mut call).is_pending());
    settle().await;
    call
}

async fn remote<S>(service: S) -> (Cluster, ClerkHandle)
where
    S: Clone + Send + 'static,
    S: skyhold::__private::Service<Message = ClerkMessage>,
{
    let cluster = Cluster::start(2).await;
    cluster[1].service("clerk", move || service.clone()).start().await.unwrap();
    let handle = ClerkHandle::lookup(&cluster[0], "clerk").await.unwrap();
    (cluster, handle)
}

fn assert_overloaded(error: &CallError, end: &str) {
    assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
    assert!(error.to_string().ends_with(end), "{error}");
    assert!(!error.may_have_run());
}

/// The next dead letter: its reason, whether it was a call, how many.
async fn dead_letter(events: &mut Events) -> (DeadLetterReason, bool, u64) {
    loop {
        if let Event::DeadLetter(letter) = events.next().await.unwrap() {
            assert_eq!(letter.handler, "clerk.note");
            return (letter.reason, letter.call, letter.count);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_that_rejects_refuses_calls_and_sends_at_once() {
    let (node, desk) = (local_node().await, Desk::default());
    let clerk = node.spawn(Rejecting(desk.clone()));
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    let call = queued(&clerk, 1).await;
    clerk.note(2).send().await.unwrap();
    let watch = Watch::start();
    for error in [
        clerk.note(3).await.unwrap_err(),
        clerk.note(3).send().await.unwrap_err(),
        clerk.note(3).try_send().unwrap_err(),
    ] {
        assert_overloaded(&error, "is full (2 messages)");
    }
    watch.assert_at_once();
    desk.gate.open();
    call.await.unwrap();
    clerk.note(4).await.unwrap();
    assert_eq!(desk.log.line(), "1 2 4");
}

#[tokio::test(start_paused = true)]
async fn over_the_network_a_mailbox_that_rejects_refuses_calls_at_once_and_drops_sends() {
    let desk = Desk::default();
    let (cluster, clerk) = remote(Rejecting(desk.clone())).await;
    let mut events = cluster[1].events();
    clerk.hold().send().await.unwrap();
    desk.gate.reached(1).await;
    for id in [1, 2] {
        clerk.note(id).send().await.unwrap();
    }
    let watch = Watch::start();
    assert_overloaded(&clerk.note(3).await.unwrap_err(), "is full (2 messages)");
    watch.assert_at_once();
    assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Overloaded, true, 1));
    clerk.note(4).send().await.unwrap();
    assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Overloaded, false, 1));
    desk.gate.open();
    clerk.note(5).await.unwrap();
    assert_eq!(desk.log.line(), "1 2 5");
}

#[tokio::test(start_paused = true)]
async fn a_call_through_a_name_that_a_full_mailbox_rejects_goes_to_another_instance() {
    let (node, held) = (local_node().await, Desk::default());
    let first = Arc::new(AtomicBool::new(true));
    let log = Log::default();
    let (desk, others) = (held.clone(), log.clone());
    let clerk = node
        .service("clerk", move || {
            let is_first = first.swap(false, Ordering::SeqCst);
            let gate = if is_first { desk.gate.clone() } else { Gate::opened() };
            let log = if is_first { desk.log.clone() } else { others.clone() };
            Rejecting(Desk { gate, log })
        })
        .instances(2)
        .start()
        .await
        .unwrap();
    let clerk = clerk.balance(Balance::RoundRobin);
    // In turns: the first one holds two of these, is held itself, and has no more room.
    for _ in 0..6 {
        clerk.hold().try_send().unwrap();
        settle().await;
    }
    let watch = Watch::start();
    for id in 0..10 {
        clerk.note(id).await.unwrap();
    }
    watch.assert_at_once();
    assert_eq!(held.log.line(), "", "it has no room");
    assert_eq!(log.entries().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_send_makes_room_and_the_newcomer_gets_in() {
    let (node, desk) = (local_node().await, Desk::default());
    let mut events = node.events();
    let clerk = node.spawn(Dropping(desk.clone()));
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    clerk.note(1).try_send().unwrap();
    let call = queued(&clerk, 2).await;
    clerk.note(3).try_send().unwrap();
    // Full: of the two sends the older goes first.
    let late_call = queued(&clerk, 4).await;
    assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Displaced, false, 1));
    clerk.note(5).send().await.unwrap();
    assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Displaced, false, 1));
    desk.gate.open();
    call.await.unwrap();
    late_call.await.unwrap();
    clerk.note(6).await.unwrap();
    assert_eq!(desk.log.line(), "2 4 5 6", "in their order");
    let counters = node.counters();
    assert_eq!((counters.displaced, counters.dead_letters, counters.expired.total()), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_are_never_dropped_and_when_only_they_wait_the_newcomer_is_refused() {
    let (node, desk) = (local_node().await, Desk::default());
    let clerk = node.spawn(Dropping(desk.clone()));
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    let calls = [queued(&clerk, 1).await, queued(&clerk, 2).await, queued(&clerk, 3).await];
    let watch = Watch::start();
    for error in [
        clerk.note(4).await.unwrap_err(),
        clerk.note(4).send().await.unwrap_err(),
        clerk.note(4).try_send().unwrap_err(),
    ] {
        assert_overloaded(&error, "is full (3 messages, all of them calls)");
    }
    watch.assert_at_once();
    desk.gate.open();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(desk.log.line(), "1 2 3");
    assert_eq!(node.counters().displaced, 0);
}

#[tokio::test(start_paused = true)]
async fn over_the_network_the_oldest_send_makes_room_too() {
    let desk = Desk::default();
    let (cluster, clerk) = remote(Dropping(desk.clone())).await;
    let mut events = cluster[1].events();
    clerk.hold().send().await.unwrap();
    desk.gate.reached(1).await;
    for id in [1, 2, 3] {
        clerk.note(id).send().await.unwrap();
    }
    let calls = [queued(&clerk, 4).await, queued(&clerk, 5).await, queued(&clerk, 6).await];
    for _ in 0..3 {
        assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Displaced, false, 1));
    }
    let error = clerk.note(7).await.unwrap_err();
    assert_overloaded(&error, "is full (3 messages, all of them calls)");
    desk.gate.open();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(desk.log.line(), "4 5 6");
}

#[tokio::test(start_paused = true)]
async fn a_send_of_a_handler_to_its_own_full_mailbox_is_never_a_deadlock_where_nobody_waits() {
    let node = local_node().await;
    let rejecting = node.spawn(Rejecting::default());
    let error = rejecting.flood_itself().await.unwrap();
    assert!(error.starts_with("overloaded: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_mailbox_that_drops_survives_a_restart_in_its_order() {
    let (node, desk) = (local_node().await, Desk::default());
    let factory = desk.clone();
    let service = node.service("clerk", move || Dropping(factory.clone()));
    let clerk = service.restart(Restart::always()).start().await.unwrap();
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    clerk.fail().try_send().unwrap();
    let call = queued(&clerk, 1).await;
    clerk.note(2).try_send().unwrap();
    desk.gate.open();
    call.await.unwrap();
    clerk.note(3).await.unwrap();
    assert_eq!(desk.log.line(), "1 2 3");
    assert_eq!(node.counters().restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_waits_in_a_mailbox_that_drops() {
    let (node, desk) = (local_node().await, Desk::default());
    let mut events = node.events();
    let clerk = node.spawn(Dropping(desk.clone()));
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    let call = queued(&clerk, 1).await;
    clerk.note(2).try_send().unwrap();
    let stop = tokio::spawn({
        let (node, clerk) = (node.clone(), clerk.clone());
        async move { node.stop(&clerk).await }
    });
    let error = call.await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    assert_eq!(dead_letter(&mut events).await, (DeadLetterReason::Stopped, false, 1));
    let error = clerk.note(3).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
    desk.gate.open();
    stop.await.unwrap().unwrap();
    assert_eq!(desk.log.line(), "");
    loop {
        if let Event::InstanceEnded { reason, .. } = events.next().await.unwrap() {
            assert_eq!(reason, StopReason::Normal);
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_runs_what_waits_in_a_mailbox_that_drops_and_takes_no_more() {
    let (node, desk) = (local_node().await, Desk::default());
    let clerk = node.spawn(Dropping(desk.clone()));
    clerk.hold().try_send().unwrap();
    desk.gate.reached(1).await;
    let call = queued(&clerk, 1).await;
    clerk.note(2).try_send().unwrap();
    let drain = tokio::spawn({
        let (node, clerk) = (node.clone(), clerk.clone());
        async move { node.drain(&clerk).await }
    });
    settle().await;
    desk.gate.open();
    call.await.unwrap();
    drain.await.unwrap().unwrap();
    assert_eq!(desk.log.line(), "1 2");
    let error = clerk.note(3).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped(_)), "{error:?}");
}
