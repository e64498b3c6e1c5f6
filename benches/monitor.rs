//! What monitoring costs: the same calls and sends on a node that measures nothing, and on one that measures, in turns in one run. The ratio
//! is that of the medians.
//!
//! Run it: `cargo bench --bench monitor`

mod counter;
mod floor;

use counter::{Counter, CounterHandle, calls, sends};
use floor::{Flavor, Table, Workload, run, timed};
use skyhold::Monitoring;
use skyhold::prelude::*;
use tokio::runtime::Runtime;

fn main() {
    let mut criterion = floor::criterion();
    for mode in [Monitoring::Sampled, Monitoring::Precise] {
        let mut table = Table::between("monitoring", ["off", mode.as_str()]);
        for flavor in Flavor::ALL {
            let runtime = flavor.runtime();
            let off = run(&runtime, Subject::start(Monitoring::Off));
            let on = run(&runtime, Subject::start(mode));
            for (name, workload) in WORKLOADS {
                let name = format!("{name}, {}", flavor.name());
                table.compare(&mut criterion, name, workload(&off, &runtime), workload(&on, &runtime));
            }
        }
        table.print();
    }
    criterion.final_summary();
}

/// A node with a counter, and a service that calls it.
struct Subject {
    _node: Node,
    counter: CounterHandle,
    relay: RelayHandle,
}

impl Subject {
    async fn start(monitoring: Monitoring) -> Self {
        let node = Node::builder("bench").monitoring(monitoring).start().await.expect("a local node starts");
        let counter = node.spawn(Counter::default());
        let relay = node.spawn(Relay(counter.clone()));
        Self { _node: node, counter, relay }
    }
}

/// Makes a call for each call.
struct Relay(CounterHandle);

#[service]
impl Relay {
    pub async fn add(&mut self, by: u64) -> u64 {
        self.0.add(by).await.expect("the counter answers")
    }
}

type Make = for<'a> fn(&'a Subject, &'a Runtime) -> Workload<'a>;

const WORKLOADS: [(&str, Make); 4] = [
    ("call, 1 caller", |subject, runtime| calls(&subject.counter, runtime, 1)),
    ("call, 64 callers", |subject, runtime| calls(&subject.counter, runtime, 64)),
    ("send", |subject, runtime| sends(&subject.counter, runtime)),
    ("call in a handler", |subject, runtime| relayed(&subject.relay, runtime)),
];

fn relayed<'a>(relay: &'a RelayHandle, runtime: &'a Runtime) -> Workload<'a> {
    Box::new(|operations| {
        let relay = relay.clone();
        run(runtime, async move {
            timed(async {
                for _ in 0..operations {
                    relay.add(1).await.expect("the relay answers");
                }
            })
            .await
        })
    })
}
