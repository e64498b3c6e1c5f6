//! Calls and sends between two processes over loopback TCP, beside the least that such an exchange can cost:
//! length-prefixed frames, batched by hand, with nothing around them. "In flight" compares with one loop that keeps so
//! many requests under way; "callers" with so many tasks that each wait for their own reply.
//!
//! The server is this program again, started as a child of the bench.
//!
//! Run it: `cargo bench --bench remote`

mod counter;
mod floor;
#[path = "floor/multiplexed.rs"]
mod multiplexed;
#[path = "floor/server.rs"]
mod server;
#[path = "floor/tcp.rs"]
mod tcp;

use counter::{Counter, CounterHandle, calls};
use floor::{Flavor, Table, Workload, run, timed};
use multiplexed::Multiplexed;
use server::Server;
use skyhold::prelude::*;
use tcp::RawClient;
use tokio::runtime::Runtime;

/// How many sends stand between two calls: less than a mailbox holds, since a full one drops what a peer sends.
const BURST: u64 = 256;

fn main() {
    if let Some(flavor) = server::flavor_of_server() {
        return server::serve(flavor, serve());
    }
    let mut criterion = floor::criterion();
    let mut table = Table::new("remote");
    for (index, flavor) in Flavor::ALL.into_iter().enumerate() {
        let server = Server::start(index);
        let [node, raw_address] = &server.addresses;
        let runtime = flavor.runtime();
        let (_node, counter) = run(&runtime, find_counter(node.clone()));
        let raw = runtime.block_on(RawClient::connect(raw_address));
        for in_flight in [1, 64, 1024] {
            let name = format!("remote call, {in_flight} in flight, {}", flavor.name());
            let floor = raw.calls(&runtime, in_flight);
            table.compare(&mut criterion, name, floor, calls(&counter, &runtime, in_flight));
        }
        let multiplexed = runtime.block_on(Multiplexed::connect(raw_address));
        for callers in [64, 1024] {
            let name = format!("remote call, {callers} callers, {}", flavor.name());
            let floor = multiplexed.calls(&runtime, callers);
            table.compare(&mut criterion, name, floor, calls(&counter, &runtime, callers));
        }
        let name = format!("remote send, {}", flavor.name());
        table.compare(&mut criterion, name, raw.sends(&runtime, BURST), skyhold_sends(&counter, &runtime));
    }
    criterion.final_summary();
    table.print();
}

async fn serve() -> (Node, [String; 2]) {
    let node = Node::builder("server")
        .insecure_without_secret()
        .listen("127.0.0.1:0")
        .start()
        .await
        .expect("loopback can be listened on");
    node.service("counter", Counter::default).start().await.expect("the name is free");
    let address = node.address().expect("the node listens").to_string();
    (node, [address, tcp::listen().await])
}

async fn find_counter(seed: String) -> (Node, CounterHandle) {
    let node = Node::builder("client")
        .insecure_without_secret()
        .seed(seed)
        .start()
        .await
        .expect("a node that does not listen starts");
    let counter = CounterHandle::lookup(&node, "counter").await.expect("the server runs a counter");
    (node, counter)
}

fn skyhold_sends<'a>(counter: &'a CounterHandle, runtime: &'a Runtime) -> Workload<'a> {
    Box::new(|operations| {
        let counter = counter.clone();
        run(runtime, async move {
            timed(async {
                for operation in 1..=operations {
                    if operation.is_multiple_of(BURST) || operation == operations {
                        counter.add(1).await.expect("the counter answers");
                    } else {
                        counter.add(1).send().await.expect("the connection takes it");
                    }
                }
            })
            .await
        })
    })
}
