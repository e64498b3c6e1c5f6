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

use std::time::Instant;

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
}

/// What is said through one handle keeps its order, whatever its length: the short calls go elsewhere.
struct Short;

#[service]
impl Short {
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
        let (_node, echo, short) = run(&runtime, find(node.clone()));
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
            beside(&echo, &short, raw_address, &runtime, flavor);
        }
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
    node.service("echo", || Echo).start().await.expect("the name is free");
    node.service("short", || Short).start().await.expect("the name is free");
    let address = node.address().expect("the node listens").to_string();
    (node, [address, echo::listen().await])
}

async fn find(seed: String) -> (Node, EchoHandle, ShortHandle) {
    let node = Node::builder("client")
        .insecure_without_secret()
        .seed(seed)
        .start()
        .await
        .expect("a node that does not listen starts");
    let echo = EchoHandle::lookup(&node, "echo").await.expect("the server runs an echo");
    let short = ShortHandle::lookup(&node, "short").await.expect("the server answers short calls");
    (node, echo, short)
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

/// Something that is asked and answers.
trait Asks: Clone + Send + 'static {
    fn ask(&self) -> impl Future<Output = ()> + Send;
}

impl Asks for ShortHandle {
    async fn ask(&self) {
        assert_eq!(self.short(7).await, Ok(7));
    }
}

/// Echoes of 1 MiB.
#[derive(Clone)]
struct Long<T>(T, Bytes);

impl Asks for Long<EchoHandle> {
    async fn ask(&self) {
        self.0.echo(self.1.clone()).await.expect("it comes back");
    }
}

impl Asks for Long<RawEcho> {
    async fn ask(&self) {
        self.0.clone().echo(self.1.clone(), 1, 1).await;
    }
}

/// The times of short calls in microseconds, half of them and 99 in 100 of them, in each round.
#[derive(Default)]
struct Times(Vec<[f64; 2]>);

impl Times {
    /// Times short calls one after the other.
    fn round(&mut self, runtime: &Runtime, short: impl Asks) {
        let mut times = run(runtime, async move {
            let mut times = Vec::with_capacity(CALLS);
            for _ in 0..CALLS {
                let began = Instant::now();
                short.ask().await;
                times.push(began.elapsed());
            }
            times
        });
        times.sort();
        self.0.push([CALLS / 2, CALLS - CALLS / 100].map(|at| times[at].as_secs_f64() * 1e6));
    }

    fn medians(&self) -> [f64; 2] {
        [0, 1].map(|of| {
            let mut rounds: Vec<f64> = self.0.iter().map(|round| round[of]).collect();
            rounds.sort_by(f64::total_cmp);
            rounds[rounds.len() / 2]
        })
    }
}

/// Runs `beside` while some asks go on all the time, each in a task of its own.
fn busy(runtime: &Runtime, long: Vec<impl Asks>, beside: impl FnOnce()) {
    let tasks: Vec<_> = long
        .into_iter()
        .map(|long| {
            runtime.spawn(async move {
                loop {
                    long.ask().await;
                }
            })
        })
        .collect();
    beside();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Times short calls, alone and beside echoes of 1 MiB, in turns: over one connection, and raw with a connection for each.
fn beside(echo: &EchoHandle, short: &ShortHandle, raw_address: &str, runtime: &Runtime, flavor: Flavor) {
    let message = Bytes::from(vec![7; 1 << 20]);
    let connect = || runtime.block_on(RawEcho::connect(raw_address));
    let raw_short = Long(connect(), Bytes::from_static(&[7; 8]));
    let [mut alone, mut busied, mut raw_alone, mut raw_busied] = [(); 4].map(|()| Times::default());
    for _ in 0..ROUNDS {
        alone.round(runtime, short.clone());
        raw_alone.round(runtime, raw_short.clone());
        let long = vec![Long(echo.clone(), message.clone()); BESIDE];
        busy(runtime, long, || busied.round(runtime, short.clone()));
        let long = (0..BESIDE).map(|_| Long(connect(), message.clone())).collect();
        busy(runtime, long, || raw_busied.round(runtime, raw_short.clone()));
    }
    println!(
        "\nshort calls beside {BESIDE} echoes of 1 MiB, {}, medians of {ROUNDS} rounds in turns:",
        flavor.name()
    );
    for (name, alone, busied) in [("skyhold", alone, busied), ("raw, own connections", raw_alone, raw_busied)]
    {
        let (alone, busied) = (alone.medians(), busied.medians());
        for (of, percent) in [50, 99].into_iter().enumerate() {
            let (alone, busied) = (alone[of], busied[of]);
            println!(
                "  {name}, p{percent}: alone {alone:.0} µs, beside {busied:.0} µs, {:.2} times",
                busied / alone
            );
        }
    }
}
