//! A trace that crosses two processes: a customer's purchase in one, the shelf that it is taken from in the other. Each
//! exports its spans by OpenTelemetry, here into memory, and at the end the two are put together.
//!
//! Run it: `cargo run --example tracing`

#![allow(clippy::disallowed_methods, reason = "tasks and the clock are the program's own")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::process::Stdio;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use skyhold::OpenTelemetry;
use skyhold::prelude::*;
use tokio::process::{Child, Command};
use tracing::{Instrument, info, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How the second process is told where the first one is.
const SHOP: &str = "SKYHOLD_EXAMPLE_SHOP";

/// Runs in the second process.
struct Shelf {
    apples: u32,
}

#[service]
impl Shelf {
    pub async fn take(&mut self, apples: u32) -> Result<u32, String> {
        let left = self.apples.checked_sub(apples).ok_or("there are not so many")?;
        // A span of the program's own, inside of the handler's.
        async { info!(left, "taken") }.instrument(info_span!("reach into the shelf")).await;
        self.apples = left;
        Ok(left)
    }
}

/// Runs in the first process, and calls the shelf.
struct Till {
    shelf: ShelfHandle,
}

#[service]
impl Till {
    pub async fn sell(&self, apples: u32) -> Result<u32, String> {
        self.shelf.take(apples).await.map_err(|error| error.to_string())?
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exporter = export();
    match std::env::var(SHOP) {
        Ok(shop) => stock_room(&shop, &exporter).await,
        Err(_) => shop(&exporter).await,
    }
}

/// Collects the spans of this process. A program of yours gives them to its collector by another exporter, from a batch.
fn export() -> InMemorySpanExporter {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    tracing_subscriber::registry().with(layer.with_filter(LevelFilter::INFO)).init();
    exporter
}

/// The first process. It starts the second one.
async fn shop(exporter: &InMemorySpanExporter) -> Result<(), Box<dyn Error>> {
    let node = Node::builder("shop")
        .listen("127.0.0.1:0")
        .insecure_without_secret()
        .propagator(OpenTelemetry)
        .start()
        .await?;
    let address = node.address().ok_or("the shop does not listen")?.to_string();
    let stock_room = start_stock_room(&address)?;
    let shelf = ShelfHandle::lookup(&node, "shelf").await?;
    let till = node.spawn(Till { shelf });

    // Whoever begins a trace decides whether it is sampled: as nobody has said otherwise, it is.
    let purchase = async { till.sell(3).await }.instrument(info_span!("purchase"));
    println!("{} apples are left\n", purchase.await??);

    let mut spans = lines("shop", exporter)?;
    spans.extend(end(stock_room).await?);
    show(&spans);
    node.shutdown().await?;
    Ok(())
}

/// The second process: runs the shelf until its input ends, then says what it has exported.
async fn stock_room(shop: &str, exporter: &InMemorySpanExporter) -> Result<(), Box<dyn Error>> {
    let node = Node::builder("stock-room")
        .seed(shop)
        .insecure_without_secret()
        .propagator(OpenTelemetry)
        .start()
        .await?;
    node.service("shelf", || Shelf { apples: 10 }).start().await?;
    tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    node.shutdown().await?;
    lines("stock-room", exporter)?.iter().for_each(|line| println!("{}", line.join("\t")));
    Ok(())
}

fn start_stock_room(shop: &str) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(SHOP, shop).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Ends the second process; gives what it has said.
async fn end(mut stock_room: Child) -> Result<Vec<Line>, Box<dyn Error>> {
    drop(stock_room.stdin.take());
    let output = String::from_utf8(stock_room.wait_with_output().await?.stdout)?;
    let read = |line: &str| {
        let mut words = line.split('\t').map(str::to_owned);
        std::array::from_fn(|_| words.next().unwrap_or_default())
    };
    Ok(output.lines().map(read).collect())
}

/// A span as it goes from process to process: the trace, the span, its parent, the process, what it is.
type Line = [String; 5];

/// The spans that this process has exported.
fn lines(process: &str, exporter: &InMemorySpanExporter) -> Result<Vec<Line>, Box<dyn Error>> {
    let line = |span: &SpanData| {
        let ids = &span.span_context;
        let what = format!("{} ({:?})", span.name, span.span_kind);
        let (trace, span) = (ids.trace_id().to_string(), (ids.span_id(), span.parent_span_id));
        [trace, span.0.to_string(), span.1.to_string(), process.to_owned(), what]
    };
    Ok(exporter.get_finished_spans()?.iter().map(line).collect())
}

/// Shows each trace as a tree.
fn show(spans: &[Line]) {
    let mut traces = BTreeMap::<_, Vec<_>>::new();
    for span in spans {
        traces.entry(&span[0]).or_default().push(span);
    }
    for (trace, spans) in traces {
        println!("trace {trace}");
        let is_root = |span: &&&Line| !spans.iter().any(|other| other[1] == span[2]);
        spans.iter().filter(is_root).for_each(|root| show_below(&spans, root, 1));
    }
}

fn show_below(spans: &[&Line], span: &Line, depth: usize) {
    println!("{:indent$}{}: {}", "", span[3], span[4], indent = 2 * depth);
    for child in spans.iter().filter(|child| child[2] == span[1]) {
        show_below(spans, child, depth + 1);
    }
}
