//! Which handlers of an instance run when: `&mut self` alone, `&self` beside one another, started in order of arrival.

use std::future::{IntoFuture, poll_fn};
use std::task::Poll;

use skyhold::prelude::*;

use crate::gate::{Gate, Log, local_node, settle};

/// Notes when its handlers begin (`+`) and end (`-`).
#[derive(Default)]
struct Desk {
    log: Log,
}

#[service(local)]
impl Desk {
    pub async fn write(&mut self, id: u32, gate: Gate) {
        self.log.add(format!("+{id}"));
        gate.pass().await;
        self.log.add(format!("-{id}"));
    }

    pub async fn read(&self, id: u32, gate: Gate) {
        self.log.add(format!("+{id}"));
        gate.pass().await;
        self.log.add(format!("-{id}"));
    }

    /// Wakes itself `times` times, as a future does that only wants to let others run.
    pub async fn yielding(&self, id: u32, times: u32) {
        self.log.add(format!("+{id}"));
        let mut left = times;
        poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub fn note(&self, id: u32) -> u32 {
        self.log.add(format!("+{id}"));
        id
    }

    pub fn note_alone(&mut self, id: u32) -> u32 {
        self.log.add(format!("+{id}"));
        id
    }

    pub async fn note_with_context(&self, context: &Context, id: u32) -> NodeId {
        self.log.add(format!("+{id}"));
        context.address().node.clone()
    }

    pub fn note_now_with_context(&mut self, context: &Context, id: u32) -> bool {
        self.log.add(format!("+{id}"));
        context.deadline().is_some()
    }
}

async fn desk() -> (Node, DeskHandle, Log) {
    let node = local_node().await;
    let log = Log::default();
    let desk = node.spawn(Desk { log: log.clone() });
    (node, desk, log)
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_handler_runs_alone() {
    let (_node, desk, log) = desk().await;
    let gate = Gate::new();
    desk.write(1, gate.clone()).try_send().unwrap();
    desk.write(2, Gate::opened()).try_send().unwrap();
    desk.read(3, Gate::opened()).try_send().unwrap();
    settle().await;
    assert_eq!(log.line(), "+1");
    gate.open();
    settle().await;
    assert_eq!(log.line(), "+1 -1 +2 -2 +3 -3");
}

#[tokio::test(start_paused = true)]
async fn shared_handlers_run_beside_one_another() {
    let (_node, desk, log) = desk().await;
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    for (id, gate) in (1..).zip(&gates) {
        desk.read(id, gate.clone()).try_send().unwrap();
    }
    settle().await;
    assert_eq!(log.line(), "+1 +2 +3");
    for gate in gates.iter().rev() {
        gate.open();
        settle().await;
    }
    assert_eq!(log.line(), "+1 +2 +3 -3 -2 -1");
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_message_waits_for_the_running_shared_ones_and_is_not_overtaken() {
    let (_node, desk, log) = desk().await;
    let (first, second) = (Gate::new(), Gate::new());
    desk.read(1, first.clone()).try_send().unwrap();
    desk.read(2, second.clone()).try_send().unwrap();
    desk.write(3, Gate::opened()).try_send().unwrap();
    desk.read(4, Gate::opened()).try_send().unwrap();
    desk.note(5).try_send().unwrap();
    settle().await;
    assert_eq!(log.line(), "+1 +2");
    second.open();
    settle().await;
    assert_eq!(log.line(), "+1 +2 -2");
    first.open();
    settle().await;
    assert_eq!(log.line(), "+1 +2 -2 -1 +3 -3 +4 -4 +5");
}

#[tokio::test(start_paused = true)]
async fn a_shared_message_goes_on_while_another_one_waits() {
    let (_node, desk, _log) = desk().await;
    let gate = Gate::new();
    let held = tokio::spawn(desk.read(1, gate.clone()).into_future());
    gate.reached(1).await;
    assert_eq!(desk.note(2).await.unwrap(), 2);
    gate.open();
    held.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_form_of_method_is_called_and_gives_its_value() {
    let (node, desk, log) = desk().await;
    assert_eq!(desk.note(1).await.unwrap(), 1);
    assert_eq!(desk.note_alone(2).await.unwrap(), 2);
    assert_eq!(desk.note_with_context(3).await.unwrap(), *node.id());
    assert!(desk.note_now_with_context(4).await.unwrap());
    desk.write(5, Gate::opened()).await.unwrap();
    desk.read(6, Gate::opened()).await.unwrap();
    assert_eq!(log.line(), "+1 +2 +3 +4 +5 -5 +6 -6");
}

#[tokio::test(start_paused = true)]
async fn messages_start_in_order_of_arrival_whatever_their_form() {
    let (_node, desk, log) = desk().await;
    let mut calls = Vec::new();
    for id in 0..400 {
        // A pattern that is not in step with any batch.
        match id * 7 % 11 {
            0 | 5 => desk.note_alone(id).try_send().unwrap(),
            1 | 6 => desk.yielding(id, id % 5).try_send().unwrap(),
            2 => desk.note_with_context(id).send().await.unwrap(),
            3 => desk.note_now_with_context(id).send().await.unwrap(),
            4 => {
                let mut call = Box::pin(desk.note(id).into_future());
                assert!(futures_util::poll!(&mut call).is_pending());
                calls.push(call);
            }
            _ => desk.note(id).try_send().unwrap(),
        }
        if id % 97 == 0 {
            tokio::task::yield_now().await;
        }
    }
    settle().await;
    let expected: Vec<_> = (0..400).map(|id| format!("+{id}")).collect();
    assert_eq!(log.entries(), expected);
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_that_wake_themselves_let_no_later_one_overtake_an_earlier_one() {
    let (_node, desk, log) = desk().await;
    let gate = Gate::new();
    desk.read(0, gate.clone()).try_send().unwrap();
    desk.yielding(1, 1000).try_send().unwrap();
    desk.yielding(2, 1000).try_send().unwrap();
    gate.reached(1).await;
    gate.open();
    for id in 3..60 {
        desk.yielding(id, id % 4).try_send().unwrap();
    }
    settle().await;
    let started: Vec<_> = log.entries().into_iter().filter(|entry| entry.starts_with('+')).collect();
    let expected: Vec<_> = (0..60).map(|id| format!("+{id}")).collect();
    assert_eq!(started, expected);
}

#[service(local)]
trait Room {
    async fn stay(&self, gate: Gate);
    fn ping(&self);
}

/// One implementation of `Room` for each bound.
macro_rules! room {
    ($name:ident, $($settings:tt)*) => {
        struct $name;

        #[service($($settings)*)]
        impl Room for $name {
            async fn stay(&self, gate: Gate) {
                gate.pass().await;
            }

            fn ping(&self) {}
        }
    };
}

room!(RoomForOne, concurrency = 1);
room!(RoomForThree, concurrency = 3);
room!(RoomForHundred, concurrency = 100);
room!(RoomByDefault, name = "room");

#[tokio::test(start_paused = true)]
async fn shared_handlers_run_concurrently_up_to_exactly_the_bound() {
    let node = local_node().await;
    for (room, bound) in [
        (node.spawn(RoomForOne), 1),
        (node.spawn(RoomForThree), 3),
        (node.spawn(RoomForHundred), 100),
        (node.spawn(RoomByDefault), 64),
    ] {
        let (leaves, gate) = (Gate::new(), Gate::new());
        room.stay(leaves.clone()).try_send().unwrap();
        for _ in 0..bound + 1 {
            room.stay(gate.clone()).try_send().unwrap();
        }
        settle().await;
        assert_eq!(leaves.arrived() + gate.arrived(), bound, "with a bound of {bound}");

        let ping = tokio::spawn(room.ping().into_future());
        leaves.open();
        settle().await;
        assert_eq!(gate.arrived(), bound, "one went, one came");
        assert!(!ping.is_finished(), "the bound of {bound} was exceeded");
        gate.open();
        ping.await.unwrap().unwrap();
    }
}
