//! What ten million sends to a service that is stuck do to both nodes' memory, and to the other services between them.
//!
//! The sends come from a thread of their own, as fast as it can make them. What that takes of the processor is not the
//! network's doing: while the others are timed without the flood, the same thread sends to a stuck service in its own process.
//! Beside it, as many sends as in [`WAITING`] wait for room all the time.
//!
//! Run it: `cargo bench --bench flood`

#![expect(clippy::print_stdout, reason = "this is a bench's output")]

/// The floor without its tables: a flood has no raw side.
mod floor {
    mod flavor;
    mod tasks;

    pub(crate) use flavor::Flavor;
    pub(crate) use tasks::{run, with_callers};
}
#[path = "floor/server.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use floor::{Flavor, run, with_callers};
use server::Server;
use skyhold::prelude::*;

/// Never comes back from its first message.
struct Stuck;

#[service(slow = "off", stuck = "off")]
impl Stuck {
    pub async fn take(&mut self, number: u64, text: String) {
        std::hint::black_box((number, text));
        std::future::pending().await
    }
}

struct Echo;

#[service]
impl Echo {
    pub fn echo(&self, number: u64) -> u64 {
        number
    }
}

/// How many sends there are at least.
const SENDS: u64 = 10_000_000;

/// How many sends wait for room, each in a task of its own.
const WAITING: u64 = 10_000;

/// How many calls are timed in each round, and by how many callers at a time.
const CALLS: u64 = 20_000;
const CALLERS: u64 = 64;

/// How many rounds there are at least, with and without the flood.
const ROUNDS: usize = 21;

/// Where the flooding thread sends.
const NOWHERE: u8 = 0;
const HERE: u8 = 1;
const THERE: u8 = 2;
const ENDS: u8 = 3;

fn main() {
    if let Some(flavor) = server::flavor_of_server() {
        return server::serve(flavor, serve());
    }
    if std::env::args().any(|argument| argument == "--test") {
        return; // it has no small form
    }
    let server = Server::<1>::start(0);
    let runtime = Flavor::ALL[0].runtime();
    let (node, echo, stuck) = run(&runtime, find(server.addresses[0].clone()));
    let own = run(&runtime, {
        let node = node.clone();
        async move { node.spawn(Stuck) }
    });
    let (flooded, sent) = (Arc::new(AtomicU8::new(NOWHERE)), Arc::new(AtomicU64::new(0)));

    // Both processes have been warm before their memory is looked at.
    for _ in 0..5 {
        timed_calls(&runtime, &echo);
    }
    let before = [std::process::id(), server.id()].map(resident);
    let waits: Vec<_> = (0..WAITING)
        .map(|number| {
            let stuck = stuck.clone();
            runtime.spawn(async move {
                let wait = Duration::from_secs(3600);
                let _ = stuck.take(number, "waits".to_owned()).timeout(wait).send().await; // at the end it is dropped
            })
        })
        .collect();
    let flood = std::thread::spawn({
        let (flooded, sent) = (Arc::clone(&flooded), Arc::clone(&sent));
        move || flood(&flooded, &sent, &own, &stuck)
    });
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    while sent.load(Ordering::Relaxed) < SENDS || beside.len() < ROUNDS {
        flooded.store(HERE, Ordering::Relaxed);
        alone.push(timed_calls(&runtime, &echo));
        flooded.store(THERE, Ordering::Relaxed);
        beside.push(timed_calls(&runtime, &echo));
    }
    let after = [std::process::id(), server.id()].map(resident);
    flooded.store(ENDS, Ordering::Relaxed);
    flood.join().expect("it does not panic");
    waits.iter().for_each(tokio::task::JoinHandle::abort);

    println!(
        "\n{} sends to a service that is stuck, {WAITING} of them wait for room ({} on each side)",
        sent.load(Ordering::Relaxed),
        Flavor::ALL[0].name()
    );
    for (side, (before, after)) in ["sender", "receiver"].into_iter().zip(before.into_iter().zip(after)) {
        println!("  {side}: {before:.1} MiB before, {after:.1} MiB after: {:+.1} MiB", after - before);
    }
    let (alone, beside) = (median(alone), median(beside));
    println!(
        "  calls to another service on that node, {CALLERS} callers: {alone:.0} /s without, {beside:.0} /s beside it, {:.0} %",
        100.0 * beside / alone
    );
}

async fn serve() -> (Node, [String; 1]) {
    let node = Node::builder("server")
        .insecure_without_secret()
        .listen("127.0.0.1:0")
        .start()
        .await
        .expect("loopback can be listened on");
    node.service("echo", || Echo).start().await.expect("the name is free");
    node.service("stuck", || Stuck).start().await.expect("the name is free");
    let address = node.address().expect("the node listens").to_string();
    (node, [address])
}

async fn find(seed: String) -> (Node, EchoHandle, StuckHandle) {
    let node = Node::builder("client")
        .insecure_without_secret()
        .seed(seed)
        .start()
        .await
        .expect("a node that does not listen starts");
    let echo = EchoHandle::lookup(&node, "echo").await.expect("the server runs an echo");
    let stuck = StuckHandle::lookup(&node, "stuck").await.expect("the server runs one that is stuck");
    (node, echo, stuck)
}

/// Sends as fast as it can, to where it is told.
fn flood(flooded: &AtomicU8, sent: &AtomicU64, here: &StuckHandle, there: &StuckHandle) {
    let mut number = 0;
    loop {
        let (stuck, counts) = match flooded.load(Ordering::Relaxed) {
            HERE => (here, false),
            THERE => (there, true),
            ENDS => return,
            _ => continue,
        };
        for _ in 0..100 {
            number += 1;
            let _ = stuck.take(number, "as fast as it can".to_owned()).try_send(); // most find no room
        }
        sent.fetch_add(if counts { 100 } else { 0 }, Ordering::Relaxed);
    }
}

/// Calls a second.
fn timed_calls(runtime: &tokio::runtime::Runtime, echo: &EchoHandle) -> f64 {
    let echo = echo.clone();
    let time = run(runtime, async move {
        with_callers(CALLERS, CALLS, move |calls| {
            let echo = echo.clone();
            async move {
                for number in 0..calls {
                    assert_eq!(echo.echo(number).await, Ok(number));
                }
            }
        })
        .await
    });
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are small")]
    let calls = CALLS as f64;
    calls / time.as_secs_f64()
}

/// What a process has in memory, in MiB.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("it is a number");
    kib / 1024.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
