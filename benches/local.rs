//! Calls and sends inside a process, beside what a tokio program does by hand: a bounded `mpsc` of an enum with a
//! oneshot for the reply.
//!
//! Run it: `cargo bench --bench local`

#![expect(clippy::disallowed_methods, reason = "the floor is a plain tokio program")]

mod counter;
mod floor;

use counter::{Counter, CounterHandle, calls, sends};
use floor::{Flavor, Table, Workload, run, timed, with_callers};
use skyhold::prelude::*;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

fn main() {
    let mut criterion = floor::criterion();
    let mut table = Table::new("local");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let raw = run(&runtime, async { RawCounter::spawn() });
        let (_node, skyhold) = run(&runtime, spawn_counter());
        let mut compare = |name: &str, raw: Workload<'_>, skyhold: Workload<'_>| {
            table.compare(&mut criterion, format!("local {name}, {}", flavor.name()), raw, skyhold);
        };
        compare("call, 1 caller", raw.calls(&runtime, 1), calls(&skyhold, &runtime, 1));
        compare("call, 64 callers", raw.calls(&runtime, 64), calls(&skyhold, &runtime, 64));
        compare("send", raw.sends(&runtime), sends(&skyhold, &runtime));
    }
    criterion.final_summary();
    table.print();
}

async fn spawn_counter() -> (Node, CounterHandle) {
    let node = Node::builder("bench").start().await.expect("a local node starts");
    let handle = node.spawn(Counter::default());
    (node, handle)
}

/// The raw counter's messages: its methods, written by hand.
enum Message {
    Add { by: u64, reply: oneshot::Sender<u64> },
    AddQuietly { by: u64 },
}

/// The same counter without a framework.
#[derive(Clone)]
struct RawCounter(mpsc::Sender<Message>);

impl RawCounter {
    fn spawn() -> Self {
        let (sender, mut messages) = mpsc::channel(1024);
        tokio::spawn(async move {
            let mut total = 0;
            while let Some(message) = messages.recv().await {
                match message {
                    Message::Add { by, reply } => {
                        total += by;
                        let _ = reply.send(total); // the caller gave up
                    }
                    Message::AddQuietly { by } => total += by,
                }
            }
        });
        Self(sender)
    }

    async fn add(&self, by: u64) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.0.send(Message::Add { by, reply }).await.expect("the counter runs");
        answer.await.expect("the counter answers")
    }

    fn calls<'a>(&'a self, runtime: &'a Runtime, callers: u64) -> Workload<'a> {
        let call = |counter: Self| {
            move |calls| {
                let counter = counter.clone();
                async move {
                    for _ in 0..calls {
                        counter.add(1).await;
                    }
                }
            }
        };
        Box::new(move |operations| {
            let caller = call(self.clone());
            run(runtime, async move {
                match callers {
                    1 => timed(caller(operations)).await,
                    _ => with_callers(callers, operations, caller).await,
                }
            })
        })
    }

    fn sends<'a>(&'a self, runtime: &'a Runtime) -> Workload<'a> {
        Box::new(|operations| {
            let counter = self.clone();
            run(runtime, async move {
                timed(async {
                    for _ in 1..operations {
                        counter.0.send(Message::AddQuietly { by: 1 }).await.expect("the counter runs");
                    }
                    counter.add(1).await;
                })
                .await
            })
        })
    }
}
