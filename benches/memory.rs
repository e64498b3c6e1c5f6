//! What an idle service costs in memory and in time to start, beside a bare tokio task with an `mpsc` of the same
//! message type: 100,000 of each.
//!
//! Every measurement is made by a process of its own, which is this program again, so that none inherits the heap of the
//! one before; the subjects take turns, and each goes first as often as the others. Memory is what was asked of the
//! allocator and not given back, the handles included. The counting makes an allocation dearer, so that the times err in
//! favour of whoever allocates less.
//!
//! Run it: `cargo bench --bench memory`

#![expect(clippy::disallowed_methods, reason = "the floor is a plain tokio program, and the clock is the real one")]

use std::alloc::System;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use skyhold::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How many of each.
const SERVICES: usize = 100_000;

/// How many messages a burst sends to each.
const BURST: usize = 100;

/// How often each subject is measured.
const TURNS: usize = 7;

/// How many tasks have been polled.
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
        [child, subject, flavor, services] if child == "--child" => {
            let (subject, flavor) = (Subject::named(subject), Flavor::named(flavor));
            measure(subject, flavor, services.parse().expect("a number of services"));
        }
        // `cargo test --benches` only wants to know whether it runs.
        arguments if !arguments.iter().any(|argument| argument == "--bench") => {
            for flavor in Flavor::ALL {
                let results = Subject::ALL.map(|subject| vec![in_child(subject, flavor, 100)]);
                drop(results);
            }
        }
        _ => compare(),
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Subject {
    Skyhold,
    /// A task with a queue of the service's own messages.
    Floor,
    /// A task with a queue of messages written by hand for this one purpose, which are smaller.
    ByHand,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Floor, Self::Skyhold, Self::ByHand];

    fn name(self) -> &'static str {
        match self {
            Self::Skyhold => "skyhold",
            Self::Floor => "floor",
            Self::ByHand => "by-hand",
        }
    }

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|subject| subject.name() == name).expect("a subject")
    }
}

#[derive(Clone, Copy)]
enum Flavor {
    MultiThread,
    CurrentThread,
}

impl Flavor {
    const ALL: [Self; 2] = [Self::MultiThread, Self::CurrentThread];

    fn name(self) -> &'static str {
        match self {
            Self::MultiThread => "2 workers",
            Self::CurrentThread => "current_thread",
        }
    }

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|flavor| flavor.name() == name).expect("a flavor")
    }

    fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::MultiThread => tokio::runtime::Builder::new_multi_thread(),
            Self::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        };
        builder.worker_threads(2).enable_all().build().expect("a runtime can be built")
    }
}

/// The figures of one measurement, each of one service: nanoseconds to start; bytes; allocations.
const FIGURES: [&str; 5] = ["start ns", "bytes idle", "bytes, 1 call", "bytes, burst", "allocations"];

type Figures = [f64; FIGURES.len()];

fn measure(subject: Subject, flavor: Flavor, services: usize) {
    let runtime = flavor.runtime();
    let task = async move {
        match subject {
            Subject::Skyhold => skyhold(services).await,
            Subject::Floor => floor(services).await,
            Subject::ByHand => by_hand(services).await,
        }
    };
    let figures = runtime.block_on(runtime.spawn(task)).expect("a bench's task does not panic");
    println!("{}", figures.map(|figure| figure.to_string()).join(" "));
    std::process::exit(0); // tearing down is not measured
}

async fn skyhold(services: usize) -> Figures {
    let node = Node::builder("bench").start().await.expect("a local node starts");
    let mut meter = Meter::new(services);
    let counters: Vec<_> = (0..services).map(|_| node.spawn(Counter::default())).collect();
    meter.started().await;
    for counter in &counters {
        counter.add(1).await.expect("the counter answers");
    }
    meter.handled(1).await;
    for counter in &counters {
        for _ in 0..BURST {
            counter.add(1).try_send().expect("there is room");
        }
        tokio::task::yield_now().await;
    }
    meter.handled(BURST).await;
    meter.figures
}

async fn floor(services: usize) -> Figures {
    let mut meter = Meter::new(services);
    let counters: Vec<_> = (0..services).map(|_| spawn_floor()).collect();
    meter.started().await;
    let message = || CounterMessage::Add { by: 1, reply: skyhold::Reply::none() };
    for counter in &counters {
        counter.send(message()).await.ok().expect("it runs");
        tokio::task::yield_now().await;
    }
    meter.handled(1).await;
    for counter in &counters {
        for _ in 0..BURST {
            counter.try_send(message()).ok().expect("there is room");
        }
        tokio::task::yield_now().await;
    }
    meter.handled(BURST).await;
    meter.figures
}

async fn by_hand(_services: usize) -> Figures { [0.0; 5] }

fn spawn_floor() -> mpsc::Sender<CounterMessage> {
    let (sender, mut messages) = mpsc::channel(1024);
    tokio::spawn(async move {
        let mut counter = Counter::default();
        counter.started().await;
        while let Some(CounterMessage::Add { by, reply }) = messages.recv().await {
            reply.send(counter.add(by).await);
        }
    });
    sender
}

struct Meter { services: usize, before: stats_alloc::Stats, started: Instant, figures: Figures }

impl Meter {
    fn new(services: usize) -> Self {
        Self { services, before: ALLOCATOR.stats(), started: Instant::now(), figures: [0.0; 5] }
    }
    fn per(&self, n: f64) -> f64 { n / self.services as f64 }
    fn bytes(&self) -> f64 {
        let c = ALLOCATOR.stats() - self.before;
        self.per(c.bytes_allocated as f64 - c.bytes_deallocated as f64)
    }
    async fn started(&mut self) {
        while STARTED.load(Ordering::Relaxed) < self.services { tokio::task::yield_now().await; }
        self.figures[0] = self.per(self.started.elapsed().as_nanos() as f64);
        self.figures[1] = self.bytes();
        let c = ALLOCATOR.stats() - self.before;
        self.figures[4] = self.per(c.allocations as f64 - c.deallocations as f64);
    }
    async fn handled(&mut self, n: usize) {
        let total = if n == 1 { 1 } else { n + 1 };
        while HANDLED.load(Ordering::Relaxed) < self.services * total { tokio::task::yield_now().await; }
        self.figures[if n == 1 { 2 } else { 3 }] = self.bytes();
    }
}

fn in_child(subject: Subject, flavor: Flavor, services: usize) -> Figures {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--child", subject.name(), flavor.name(), &services.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let v: Vec<f64> = text.split_whitespace().map(|x| x.parse().unwrap()).collect();
    v.try_into().unwrap()
}

fn compare() {
    println!("{FIGURES:?}");
    for flavor in Flavor::ALL {
        for turn in 0..TURNS {
            let _ = turn;
            for s in [Subject::Floor, Subject::Skyhold] {
                println!("{} {} {:?}", flavor.name(), s.name(), in_child(s, flavor, SERVICES));
            }
        }
    }
}
