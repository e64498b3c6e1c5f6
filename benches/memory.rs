//! What an idle service costs in memory and in time to start, beside a bare tokio task with an `mpsc` of the same
//! message type: 100,000 of each.
//!
//! Every measurement is made by a process of its own, which is this program again, so that none inherits the heap of the
//! one before; the subjects take turns, and each goes first as often as the others. `bytes` is what was asked of the
//! allocator and not given back, the handles included; `resident` is what the process grew by. Counting makes an
//! allocation dearer, so that the times err in favour of whoever allocates less.
//!
//! Run it: `cargo bench --bench memory`

#![expect(
    clippy::disallowed_methods,
    reason = "the floor is a plain tokio program, measured with the real clock"
)]
#![expect(clippy::print_stdout, reason = "this is a bench's output")]

#[path = "floor/flavor.rs"]
mod flavor;

use std::alloc::System;
use std::array;
use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flavor::Flavor;
use skyhold::Reply;
use skyhold::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::{mpsc, oneshot};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many of each.
const SERVICES: usize = 100_000;

/// How many messages a burst sends to each.
const BURST: usize = 100;

/// How often each is measured.
const TURNS: usize = 6;

/// How many of them have run.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// How many messages have been handled.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    #[on_start]
    async fn started(&mut self) {
        STARTED.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `by` and returns the new total.
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        HANDLED.fetch_add(1, Ordering::Relaxed);
        self.total
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [child, kind, flavor, services] if child == "--child" => {
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).expect("a kind");
            let flavor = Flavor::ALL.into_iter().find(|known| known.name() == flavor).expect("a flavor");
            measure_here(kind, flavor, services.parse().expect("a number of services"));
        }
        arguments if arguments.iter().any(|argument| argument == "--bench") => compare(TURNS, SERVICES),
        _ => compare(1, 100), // somebody only tries whether the benches run
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Kind {
    /// A task with a queue of the service's own messages.
    Floor,
    Skyhold,
    /// A task with a queue of messages that are written for it by hand, and are smaller: they can be answered by nobody
    /// but a caller in the same process.
    ByHand,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Floor, Self::Skyhold, Self::ByHand];

    fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Skyhold => "skyhold",
            Self::ByHand => "by hand",
        }
    }
}

/// Measures every kind in its own processes, in turns, and prints the medians.
fn compare(turns: usize, services: usize) {
    println!("\n{:<36} {:>10} {:>10} {:>10} {:>7}", "one of 100,000", "floor", "by hand", "skyhold", "ratio");
    for flavor in Flavor::ALL {
        let mut results = Kind::ALL.map(|_| Vec::new());
        for turn in 0..turns {
            for place in 0..Kind::ALL.len() {
                let kind = Kind::ALL[(turn + place) % Kind::ALL.len()];
                results[kind as usize].push(measure_in_child(kind, flavor, services));
            }
        }
        for (index, figure) in FIGURES.into_iter().enumerate() {
            let [floor, skyhold, by_hand] =
                array::from_fn(|kind| median(results[kind].iter().map(|figures| figures[index])));
            let name = format!("{figure}, {}", flavor.name());
            let ratio = skyhold / floor;
            println!("{name:<36} {floor:>10.0} {by_hand:>10.0} {skyhold:>10.0} {ratio:>7.2}");
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one process measures, for one service each.
type Figures = [f64; FIGURES.len()];

const FIGURES: [&str; 6] = [
    "start ns",
    "idle: bytes",
    "idle: allocations",
    "idle: resident bytes",
    "after 1 call: bytes",
    "after 100 sends: bytes",
];

fn measure_in_child(kind: Kind, flavor: Flavor, services: usize) -> Figures {
    let program = std::env::current_exe().expect("this program has a path");
    let arguments = ["--child", kind.name(), flavor.name(), &services.to_string()];
    let output = Command::new(program).args(arguments).output().expect("this program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("figures are text");
    let mut figures = text.split_whitespace().map(|figure| figure.parse().expect("a figure is a number"));
    array::from_fn(|_| figures.next().expect("a child prints every figure"))
}

fn measure_here(kind: Kind, flavor: Flavor, services: usize) {
    let runtime = flavor.runtime();
    let measured = runtime.spawn(async move {
        match kind {
            Kind::Floor => measure(services, Floor::spawn).await,
            Kind::ByHand => measure(services, ByHand::spawn).await,
            Kind::Skyhold => {
                let node = Node::builder("bench").start().await.expect("a local node starts");
                measure(services, || node.spawn(Counter::default())).await
            }
        }
    });
    let figures = runtime.block_on(measured).expect("a bench's task does not panic");
    let mut line = String::new();
    for figure in figures {
        write!(line, "{figure} ").expect("a string takes it");
    }
    println!("{line}");
    std::process::exit(0); // the end is not measured, and takes its time
}

/// One of the hundred thousand, as its callers hold it.
trait Subject: Send + Sync + 'static {
    /// Calls, and waits until it is done.
    fn call(&self) -> impl Future<Output = ()> + Send;
    /// Sends.
    fn send(&self);
}

async fn measure<S: Subject>(services: usize, mut spawn: impl FnMut() -> S + Send) -> Figures {
    let (before, resident_before) = (Heap::now(), resident());
    let begun = Instant::now();
    let subjects: Vec<_> = (0..services).map(|_| spawn()).collect();
    until(&STARTED, services).await;
    let elapsed = begun.elapsed();
    let (idle, resident_idle) = (Heap::now(), resident());

    for subject in &subjects {
        subject.call().await;
    }
    until(&HANDLED, services).await;
    let called = Heap::now();

    for subject in &subjects {
        (0..BURST).for_each(|_| subject.send());
        tokio::task::yield_now().await;
    }
    until(&HANDLED, services * (1 + BURST)).await;
    let burst = Heap::now();

    #[expect(clippy::cast_precision_loss, reason = "no figure is that large")]
    let each = |total: i64| total as f64 / services as f64;
    [
        elapsed.as_secs_f64() * 1e9 * each(1),
        each(idle.bytes - before.bytes),
        each(idle.allocations - before.allocations),
        each(resident_idle - resident_before),
        each(called.bytes - before.bytes),
        each(burst.bytes - before.bytes),
    ]
}

async fn until(count: &AtomicUsize, total: usize) {
    while count.load(Ordering::Relaxed) < total {
        tokio::task::yield_now().await;
    }
}

/// What was asked of the allocator and not given back.
struct Heap {
    bytes: i64,
    allocations: i64,
}

impl Heap {
    fn now() -> Self {
        let stats = ALLOCATOR.stats();
        let difference = |more: usize, less: usize| more.wrapping_sub(less).cast_signed() as i64;
        Self {
            // A reallocation is counted among the bytes too.
            bytes: difference(stats.bytes_allocated, stats.bytes_deallocated),
            allocations: difference(stats.allocations, stats.deallocations),
        }
    }
}

/// The memory that this process occupies, in bytes, where the system tells; else 0.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or_default() * 1024
}

impl Subject for CounterHandle {
    async fn call(&self) {
        self.add(1).await.expect("the counter answers");
    }

    fn send(&self) {
        self.add(1).try_send().expect("there is room");
    }
}

struct Floor(mpsc::Sender<CounterMessage>);

impl Floor {
    fn spawn() -> Self {
        let (sender, mut messages) = mpsc::channel(1024);
        tokio::spawn(async move {
            let mut counter = Counter::default();
            counter.started().await;
            while let Some(CounterMessage::Add { by, reply }) = messages.recv().await {
                reply.send(counter.add(by).await);
            }
        });
        Self(sender)
    }
}

impl Subject for Floor {
    /// The reply's other end is Skyhold's own: who waits here is told by the counter.
    async fn call(&self) {
        let handled = HANDLED.load(Ordering::Relaxed);
        self.send();
        until(&HANDLED, handled + 1).await;
    }

    fn send(&self) {
        let message = CounterMessage::Add { by: 1, reply: Reply::none() };
        self.0.try_send(message).expect("there is room");
    }
}

/// A message written by hand for one purpose.
struct Add {
    by: u64,
    reply: Option<oneshot::Sender<u64>>,
}

struct ByHand(mpsc::Sender<Add>);

impl ByHand {
    fn spawn() -> Self {
        let (sender, mut messages) = mpsc::channel::<Add>(1024);
        tokio::spawn(async move {
            let mut counter = Counter::default();
            counter.started().await;
            while let Some(Add { by, reply }) = messages.recv().await {
                let total = counter.add(by).await;
                if let Some(reply) = reply {
                    let _ = reply.send(total); // the caller gave up
                }
            }
        });
        Self(sender)
    }
}

impl Subject for ByHand {
    async fn call(&self) {
        let (reply, answer) = oneshot::channel();
        self.0.send(Add { by: 1, reply: Some(reply) }).await.expect("the counter runs");
        answer.await.expect("the counter answers");
    }

    fn send(&self) {
        self.0.try_send(Add { by: 1, reply: None }).expect("there is room");
    }
}
