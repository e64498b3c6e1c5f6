//! Calls through a handle to a name, inside a process: beside those through a handle to the instance, and least loaded
//! beside round robin.
//!
//! What stands as `raw` in the table is the first one of a row's name, what stands as `skyhold` the second one.
//!
//! Run it: `cargo bench --bench routed`

mod counter;
mod floor;

use counter::{Counter, CounterHandle, calls};
use floor::{Flavor, Table, run};
use skyhold::prelude::*;

fn main() {
    let mut criterion = floor::criterion();
    let mut table = Table::new("routed");
    for flavor in Flavor::ALL {
        let runtime = flavor.runtime();
        let Handles { _node, direct, one, four } = run(&runtime, Handles::new());
        let [turns, least] = [Balance::RoundRobin, Balance::LeastLoaded].map(|balance| four.balance(balance));
        for callers in [1, 64] {
            let mut compare = |name: &str, first: &CounterHandle, second: &CounterHandle| {
                let name = format!("{name}, {callers} callers, {}", flavor.name());
                let [first, second] = [first, second].map(|handle| calls(handle, &runtime, callers));
                table.compare(&mut criterion, name, first, second);
            };
            compare("direct, least loaded of 1", &direct, &one);
            compare("direct, round robin of 4", &direct, &turns);
            compare("round robin, least loaded of 4", &turns, &least);
        }
    }
    criterion.final_summary();
    table.print();
}

/// A node with an instance alone, a name with one, and a name with four.
struct Handles {
    _node: Node,
    direct: CounterHandle,
    one: CounterHandle,
    four: CounterHandle,
}

impl Handles {
    async fn new() -> Self {
        let node = Node::builder("bench").start().await.expect("a local node starts");
        let direct = node.spawn(Counter::default());
        let one = node.service("one", Counter::default).start().await.expect("it starts");
        let four = node.service("four", Counter::default).instances(4).start().await.expect("they start");
        Self { _node: node, direct, one, four }
    }
}
