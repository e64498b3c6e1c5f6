//! Every mailbox has a bound, which is exact and pushes back on its own callers alone.

mod full;
mod high_water;
mod shed;

use std::future::IntoFuture;

use futures_util::poll;
use skyhold::prelude::*;

use crate::gate::{Gate, Log, Watch, local_node, settle};

#[service(local)]
trait Queue {
    async fn hold(&mut self, gate: Gate);
    fn note(&mut self, id: u32);
    fn read(&self) -> u32;
}

macro_rules! mailbox {
    ($name:ident, $($settings:tt)*) => {
        #[derive(Default)]
        struct $name(Log);

        #[service($($settings)*)]
        impl Queue for $name {
            async fn hold(&mut self, gate: Gate) {
                gate.pass().await;
            }

            fn note(&mut self, id: u32) {
                self.0.add(id.to_string());
            }

            fn read(&self) -> u32 {
                0
            }
        }
    };
}

mailbox!(One, mailbox = 1);
mailbox!(Four, mailbox = 4);
mailbox!(Fifty, mailbox = 50);
mailbox!(ByDefault, name = "by-default");
mailbox!(FiveThousand, mailbox = 5000);

/// Blocks the service with a handler that runs.
async fn block(mailbox: &QueueHandle) -> Gate {
    let gate = Gate::new();
    mailbox.hold(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    gate
}

fn assert_overloaded(error: &CallError, bound: usize) {
    assert!(matches!(error, CallError::Overloaded(_)), "{error:?}");
    assert!(!error.may_have_run());
    let text = error.to_string();
    assert!(text.ends_with(&format!("is full ({bound} messages)")), "{text}");
}

fn queues(node: &Node) -> [(QueueHandle, usize); 5] {
    [
        (node.spawn(One::default()), 1),
        (node.spawn(Four::default()), 4),
        (node.spawn(Fifty::default()), 50),
        (node.spawn(ByDefault::default()), 1024),
        (node.spawn(FiveThousand::default()), 5000),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_takes_exactly_as_many_messages_as_it_says() {
    let node = local_node().await;
    for (queue, bound) in queues(&node) {
        let _gate = block(&queue).await;
        for id in 0..bound {
            let sent = queue.note(0).try_send();
            assert!(sent.is_ok(), "message {id} of {bound}: {sent:?}");
        }
        assert_overloaded(&queue.note(0).try_send().unwrap_err(), bound);
        let mut send = Box::pin(queue.note(0).send());
        assert!(poll!(&mut send).is_pending());
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_takes_out_at_most_a_sixteenth_ahead_of_what_it_begins() {
    let node = local_node().await;
    for (queue, bound) in queues(&node) {
        // Filled before the instance takes anything out, and again after it has and is blocked.
        let gate = Gate::new();
        queue.hold(gate.clone()).try_send().unwrap();
        let mut sent = 1;
        for (begun, ahead) in [(0, 0), (1, (bound / 16).clamp(1, 64))] {
            while queue.note(0).try_send().is_ok() {
                sent += 1;
            }
            assert!(sent - begun <= bound + ahead, "{sent} in {bound}");
            gate.reached(1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_message_that_waits_for_shared_handlers_has_left_the_mailbox() {
    let node = local_node().await;
    let reader = node.spawn(Reader);
    let gate = Gate::new();
    reader.hold_shared(gate.clone()).try_send().unwrap();
    gate.reached(1).await;
    let mut taken = 0;
    while reader.note().try_send().is_ok() {
        taken += 1;
        settle().await;
    }
    assert_eq!(taken, 1 + 4, "the next one, and a full mailbox");
}

struct Reader;

#[service(local, mailbox = 4)]
impl Reader {
    pub async fn hold_shared(&self, gate: Gate) {
        gate.pass().await;
    }

    pub fn note(&mut self) {}
}

#[tokio::test(start_paused = true)]
async fn a_send_waits_for_room_and_a_call_for_room_and_reply() {
    let node = local_node().await;
    let log = Log::default();
    let four = node.spawn(Four(log.clone()));
    let gate = block(&four).await;
    let mut waiting: Vec<_> = Vec::new();
    for id in 0..4 {
        four.note(id).send().await.unwrap();
    }
    for id in 4..8 {
        let mut send = Box::pin(four.note(id).send());
        assert!(poll!(&mut send).is_pending());
        waiting.push(send);
    }
    let mut call = Box::pin(four.note(8).into_future());
    assert!(poll!(&mut call).is_pending());
    settle().await;
    let watch = Watch::start();
    gate.open();
    for send in waiting {
        send.await.unwrap();
    }
    call.await.unwrap();
    watch.assert_at_once();
    assert_eq!(log.line(), "0 1 2 3 4 5 6 7 8", "they enter in the order in which they waited");
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_pushes_back_on_its_own_callers_alone() {
    let node = local_node().await;
    let (full, other) = (node.spawn(One::default()), node.spawn(One::default()));
    let _gate = block(&full).await;
    full.note(0).try_send().unwrap();
    let mut stuck: Vec<_> = (0..1000).map(|_| Box::pin(full.note(1).into_future())).collect();
    for call in &mut stuck {
        assert!(poll!(call).is_pending());
    }
    let watch = Watch::start();
    for id in 0..1000 {
        other.note(id).await.unwrap();
    }
    watch.assert_at_once();
}

#[tokio::test(start_paused = true)]
async fn many_callers_of_a_mailbox_of_one_are_all_answered() {
    let node = local_node().await;
    let log = Log::default();
    let one = node.spawn(One(log.clone()));
    let watch = Watch::start();
    let callers: Vec<_> = (0..500).map(|id| tokio::spawn(one.note(id).into_future())).collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    watch.assert_at_once();
    let mut seen: Vec<u32> = log.entries().iter().map(|entry| entry.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>(), "each ran once");
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_task_arrive_in_order_through_a_full_mailbox() {
    let node = local_node().await;
    let log = Log::default();
    let four = node.spawn(Four(log.clone()));
    for id in 0..300 {
        match id % 3 {
            0 => four.note(id).await.unwrap(),
            _ => four.note(id).send().await.unwrap(),
        }
    }
    settle().await;
    assert_eq!(log.entries(), (0..300).map(|id| id.to_string()).collect::<Vec<_>>());
}
