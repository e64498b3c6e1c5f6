//! Long messages between two processes over loopback TCP, beside the least that such an exchange can cost; and what they do
//! to the short calls beside them.
//!
//! Run it: `cargo bench --bench bulk`

#![expect(clippy::disallowed_methods, reason = "benches measure with the real clock")]
#![expect(clippy::print_stdout, reason = "this is a bench's output")]

#[path = "floor/echo.rs"]
mod echo;
mod floor;
#[path = "floor/server.rs"]
mod server;

use std::time::{Duration, Instant};

use bytes::Bytes;
use echo::RawEcho;
use floor::{Flavor, Table, Workload, run, timed, with_callers};
use server::Server;
use skyhold::prelude::*;
use tokio::runtime::Runtime;

struct Echo;

#[service]
impl Echo {
    pub fn echo(&self, message: Bytes) -> Bytes {
        message
    }

    pub fn short(&self, number: u64) -> u64 {
        number
    }
}

/// The sizes of message, with a name for each.
const SIZES: [(usize, &str); 3] = [(1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];

/// How many short calls are timed one after the other.
const CALLS: usize = 2000;

/// How often the short calls are timed with and without echoes beside them.
const ROUNDS: usize = 11;

/// How many echoes of 1 MiB are under way beside them.
const BESIDE: usize = 4;

fn main() {
    if let Some(flavor) = server::flavor_of_server() {
        return server::serve(flavor, serve());
    }
    let mut criterion = floor::criterion();
    let mut table = Table::new("echo");
    for (index, flavor) in Flavor::ALL.into_iter().enumerate() {
        let server = Server::start(index);
        let [node, raw_address] = &server.addresses;
        let runtime = flavor.runtime();
        let (_node, echo) = run(&runtime, find_echo(node.clone()));
        let raw = runtime.block_on(RawEcho::connect(raw_address));
        for (size, name) in SIZES {
            for in_flight in [1, 16] {
                let name = format!("{name}, {in_flight} in flight, {}", flavor.name());
                let message = Bytes::from(vec![7; size]);
                let floor = raw.echoes(&runtime, message.clone(), in_flight);
                table.compare(
                    &mut criterion,
                    name,
                    floor,
                    echoes(&echo, &runtime, message, in_flight as u64),
                );
            }
        }
        if !std::env::args().any(|argument| argument == "--test") {
            beside(&echo, &runtime, flavor);
        }
    }
    criterion.final_summary();
    table.print();
}

async fn serve() -> (Node, [String; 2]) {
    let node =
        Node::builder("server").listen("127.0.0.1:0").start().await.expect("loopback can be listened on");
    node.service("echo", || Echo).start().await.expect("the name is free");
    let address = node.address().expect("the node listens").to_string();
    (node, [address, echo::listen().await])
}

async fn find_echo(seed: String) -> (Node, EchoHandle) {
    let node = Node::builder("client").seed(seed).start().await.expect("a node that does not listen starts");
    let echo = EchoHandle::lookup(&node, "echo").await.expect("the server runs an echo");
    (node, echo)
}

fn echoes<'a>(echo: &'a EchoHandle, runtime: &'a Runtime, message: Bytes, in_flight: u64) -> Workload<'a> {
    Box::new(move |operations| {
        let (echo, message) = (echo.clone(), message.clone());
        let caller = move |calls| {
            let (echo, message) = (echo.clone(), message.clone());
            async move {
                for _ in 0..calls {
                    let back = echo.echo(message.clone()).await.expect("it comes back");
                    assert_eq!(back.len(), message.len());
                }
            }
        };
        run(runtime, async move {
            match in_flight {
                1 => timed(caller(operations)).await,
                _ => with_callers(in_flight, operations, caller).await,
            }
        })
    })
}

/// Times short calls one after the other, alone and beside echoes of 1 MiB, in turns.
fn beside(echo: &EchoHandle, runtime: &Runtime, flavor: Flavor) {
    let (mut alone, mut busy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(run(runtime, short_calls(echo.clone())));
        let message = Bytes::from(vec![7; 1 << 20]);
        let beside: Vec<_> = (0..BESIDE)
            .map(|_| {
                let (echo, message) = (echo.clone(), message.clone());
                runtime.spawn(async move {
                    loop {
                        echo.echo(message.clone()).await.expect("it comes back");
                    }
                })
            })
            .collect();
        busy.push(run(runtime, short_calls(echo.clone())));
        beside.iter().for_each(tokio::task::JoinHandle::abort);
    }
    println!(
        "\nshort calls beside {BESIDE} echoes of 1 MiB, {}, medians of {ROUNDS} rounds in turns:",
        flavor.name()
    );
    for (percent, at) in [(50, CALLS / 2), (99, CALLS - CALLS / 100)] {
        let [alone, busy] = [&alone, &busy].map(|rounds| {
            let mut of_rounds: Vec<Duration> = rounds.iter().map(|times: &Vec<Duration>| times[at]).collect();
            of_rounds.sort();
            of_rounds[of_rounds.len() / 2].as_secs_f64() * 1e6
        });
        println!("  p{percent}: alone {alone:.0} µs, beside {busy:.0} µs, {:.2} times", busy / alone);
    }
}

/// The times of short calls, the shortest first.
async fn short_calls(echo: EchoHandle) -> Vec<Duration> {
    let mut times = Vec::with_capacity(CALLS);
    for number in 0..CALLS as u64 {
        let began = Instant::now();
        assert_eq!(echo.short(number).await, Ok(number));
        times.push(began.elapsed());
    }
    times.sort();
    times
}
