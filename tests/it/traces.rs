//! Traces: the spans of calls and handlers, and how they go from node to node. What is exported is what is looked at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use opentelemetry::KeyValue;
use opentelemetry::trace::{
    Link, SpanId, SpanKind, Status, TraceContextExt, TraceId, TraceState, TracerProvider,
};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, Sampler, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample,
    SpanData,
};
use skyhold::prelude::*;
use skyhold::testing::{Cluster, first_revision};
use skyhold::{CallError, ManagerHandle, NodeBuilder, OpenTelemetry, Propagator, TraceParent};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Instrument, Span, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use crate::gate::Gate;

/// Does what its caller says, and may pass it on.
#[derive(Clone, Default)]
struct Desk {
    next: Option<DeskHandle>,
    gate: Gate,
}

#[service]
impl Desk {
    pub fn stamp(&self) -> u64 {
        let _span = info_span!("ink").entered();
        7
    }

    pub async fn pass_on(&self) -> Result<u64, CallError> {
        match &self.next {
            Some(next) => next.stamp().await,
            None => Ok(0),
        }
    }

    pub async fn leave_for_next(&self) {
        if let Some(next) = &self.next {
            next.stamp().send().await.unwrap();
        }
    }

    pub async fn hold(&mut self) {
        self.gate.pass().await;
    }

    pub fn hold_nobody(&mut self) {}

    pub fn refuse(&self) -> Result<(), String> {
        Err("not today".to_owned())
    }

    pub fn break_down(&mut self) {
        panic!("on purpose");
    }
}

/// What this thread exports, until it is dropped.
struct Exports {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
    _guard: DefaultGuard,
}

impl Exports {
    fn begin() -> Self {
        Self::begin_with(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)), LevelFilter::INFO)
    }

    fn begin_with(sampler: impl ShouldSample + 'static, level: LevelFilter) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider =
            SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer()
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(level));
        let _guard = tracing::subscriber::set_default(subscriber);
        Self { exporter, provider, _guard }
    }

    fn all(&self) -> Vec<SpanData> {
        self.provider.force_flush().unwrap();
        self.exporter.get_finished_spans().unwrap()
    }

    /// The spans of that name and kind, in the order of their ends.
    fn find(&self, name: &str, kind: &SpanKind) -> Vec<SpanData> {
        self.all().into_iter().filter(|span| span.name == name && span.span_kind == *kind).collect()
    }

    /// The one span of that name and kind.
    #[track_caller]
    fn one(&self, name: &str, kind: &SpanKind) -> SpanData {
        let mut found = self.find(name, kind);
        assert_eq!(found.len(), 1, "{name}, {kind:?}: {self:?}");
        found.remove(0)
    }
}

fn id(span: &SpanData) -> (TraceId, SpanId) {
    (span.span_context.trace_id(), span.span_context.span_id())
}

fn parent(span: &SpanData) -> (TraceId, SpanId) {
    (span.span_context.trace_id(), span.parent_span_id)
}

fn attribute(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|KeyValue { key: name, .. }| name.as_str() == key);
    found.map(|attribute| attribute.value.to_string()).unwrap_or_default()
}

/// Two nodes that take traces along, and a `Desk` named `desk` on the second.
async fn two_nodes(desk: Desk) -> (Cluster, DeskHandle) {
    let cluster = Cluster::start_with(2, |node| node.propagator(OpenTelemetry)).await;
    cluster[1].service("desk", move || desk.clone()).start().await.unwrap();
    let handle = DeskHandle::lookup(&cluster[0], "desk").await.unwrap();
    (cluster, handle)
}

#[tokio::test(start_paused = true)]
async fn a_handler_on_another_node_is_a_child_of_its_callers_span() {
    let exports = Exports::begin();
    let (cluster, desk) = two_nodes(Desk::default()).await;
    assert_eq!(desk.stamp().instrument_in(info_span!("errand")).await.unwrap(), 7);
    cluster[1].drain_service("desk").await; // a handler's span may end after its reply has gone

    let errand = exports.one("errand", &SpanKind::Internal);
    let call = exports.one("desk.stamp", &SpanKind::Client);
    let handler = exports.one("desk.stamp", &SpanKind::Server);
    let ink = exports.one("ink", &SpanKind::Internal);
    assert_eq!(parent(&errand).1, SpanId::INVALID);
    assert_eq!(parent(&call), id(&errand));
    assert_eq!(parent(&handler), id(&call));
    assert!(handler.parent_span_is_remote);
    assert_eq!(parent(&ink), id(&handler));

    assert_eq!(attribute(&call, "interface"), "desk");
    assert_eq!(attribute(&call, "outcome"), "ok");
    for (key, value) in
        [("service", "desk"), ("method", "stamp"), ("caller", "n0"), ("queued_us", "0"), ("outcome", "ok")]
    {
        assert_eq!(attribute(&handler, key), value, "{key}");
    }
    assert!(attribute(&handler, "instance").starts_with("n1#"), "{handler:?}");
}

#[tokio::test(start_paused = true)]
async fn a_trace_goes_on_through_a_handler_and_back_to_the_first_node() {
    let exports = Exports::begin();
    let cluster = Cluster::start_with(2, |node| node.propagator(OpenTelemetry)).await;
    cluster[0].service("last", Desk::default).start().await.unwrap();
    let next = Some(DeskHandle::lookup(&cluster[1], "last").await.unwrap());
    let desk = Desk { next, ..Desk::default() };
    cluster[1].service("first", move || desk.clone()).start().await.unwrap();
    let first = DeskHandle::lookup(&cluster[0], "first").await.unwrap();
    assert_eq!(first.pass_on().await.unwrap().unwrap(), 7);
    cluster[1].drain_service("first").await;

    let way = [
        exports.one("desk.pass_on", &SpanKind::Client),
        exports.one("desk.pass_on", &SpanKind::Server),
        exports.one("desk.stamp", &SpanKind::Client),
        exports.one("desk.stamp", &SpanKind::Server),
    ];
    assert_eq!(parent(&way[0]).1, SpanId::INVALID);
    for pair in way.windows(2) {
        assert_eq!(parent(&pair[1]), id(&pair[0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_inside_of_a_node_is_traced_and_its_handler_says_how_long_it_waited() {
    let exports = Exports::begin();
    let node = Node::builder("a").propagator(OpenTelemetry).start().await.unwrap();
    let gate = Gate::default();
    let desk = node.spawn(Desk { gate: gate.clone(), ..Desk::default() });
    let (held, _) =
        tokio::join!(async { tokio::join!(desk.hold().into_future(), desk.stamp().into_future()) }, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            gate.open();
        },);
    held.0.unwrap();
    assert_eq!(held.1.unwrap(), 7);

    let handler = exports.one("desk.stamp", &SpanKind::Server);
    assert_eq!(parent(&handler), id(&exports.one("desk.stamp", &SpanKind::Client)));
    let queued: u64 = attribute(&handler, "queued_us").parse().unwrap();
    assert!((50_000..60_000).contains(&queued), "{queued}");
    assert_eq!(attribute(&exports.one("desk.hold", &SpanKind::Server), "queued_us"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_send_is_traced_to_its_handler_here_and_on_another_node() {
    let exports = Exports::begin();
    let (cluster, desk) = two_nodes(Desk::default()).await;
    let here = cluster[0].spawn(Desk { next: Some(desk.clone()), ..Desk::default() });
    here.leave_for_next().send().await.unwrap();
    cluster[0].drain(&here).await.unwrap();
    desk.hold_nobody().await.unwrap(); // behind the send
    cluster[1].drain_service("desk").await;

    let way = [
        exports.one("desk.leave_for_next", &SpanKind::Producer),
        exports.one("desk.leave_for_next", &SpanKind::Consumer),
        exports.one("desk.stamp", &SpanKind::Producer),
        exports.one("desk.stamp", &SpanKind::Consumer),
    ];
    for pair in way.windows(2) {
        assert_eq!(parent(&pair[1]), id(&pair[0]));
    }
    assert!(way[0].end_time <= way[1].end_time, "the send's span does not wait for its handler");

    let node = Node::builder("alone").propagator(OpenTelemetry).start().await.unwrap();
    let desk = node.spawn(Desk::default());
    exports.exporter.reset();
    desk.stamp().try_send().unwrap();
    node.drain(&desk).await.unwrap();
    let handler = exports.one("desk.stamp", &SpanKind::Consumer);
    assert_eq!(parent(&handler), id(&exports.one("desk.stamp", &SpanKind::Producer)));
}

#[tokio::test(start_paused = true)]
async fn a_span_says_how_its_call_and_its_handler_ended() {
    let exports = Exports::begin();
    let (cluster, desk) = two_nodes(Desk::default()).await;
    let node = &cluster[0];

    let here = node.spawn(Desk::default());
    here.break_down().await.unwrap_err();
    here.stamp().await.unwrap_err();
    let busy = node.spawn(Desk::default());
    busy.hold().timeout(Duration::from_secs(1)).await.unwrap_err();
    busy.stamp().timeout(Duration::from_millis(10)).await.unwrap_err();
    assert!(busy.pass_on().into_future().now_or_never().is_none());
    node.abort(&busy).unwrap();
    desk.break_down().await.unwrap_err();
    desk.refuse().await.unwrap().unwrap_err();
    tokio::time::sleep(Duration::from_millis(1)).await;

    let outcomes = |name: &str, kind| -> Vec<_> {
        exports
            .find(name, &kind)
            .iter()
            .map(|span| (attribute(span, "outcome"), span.status.clone()))
            .collect()
    };
    let failed = |outcome: &str| (outcome.to_owned(), Status::error(""));
    assert_eq!(outcomes("desk.break_down", SpanKind::Client), [failed("panicked"), failed("panicked")]);
    assert_eq!(outcomes("desk.break_down", SpanKind::Server), [failed("panicked"), failed("panicked")]);
    assert_eq!(outcomes("desk.hold", SpanKind::Client), [failed("timeout")]);
    assert_eq!(outcomes("desk.hold", SpanKind::Server), [failed("cut_off")]);
    assert_eq!(outcomes("desk.stamp", SpanKind::Client), [failed("stopped"), failed("timeout")]);
    assert_eq!(outcomes("desk.pass_on", SpanKind::Client), [("cancelled".to_owned(), Status::Unset)]);
    // What a service answers is no failure of the call, nor of the handler.
    assert_eq!(outcomes("desk.refuse", SpanKind::Client), [("ok".to_owned(), Status::Unset)]);
    assert_eq!(outcomes("desk.refuse", SpanKind::Server), [("failed".to_owned(), Status::Unset)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_by_name_is_traced_from_the_manager_to_the_handler() {
    let exports = Exports::begin();
    let (cluster, _) = two_nodes(Desk::default()).await;
    let manager = ManagerHandle::on(&cluster[0], "n1").await.unwrap();
    let called = manager.call_json("desk".into(), "stamp".into(), String::new(), None);
    assert_eq!(called.await.unwrap().unwrap(), "7");
    manager.send_json("desk".into(), "stamp".into(), String::new()).await.unwrap().unwrap();
    cluster[1].drain_service("desk").await;

    let asked = exports.find("manager.call_json", &SpanKind::Server);
    let call = exports.one("desk.stamp", &SpanKind::Client);
    assert!(asked.iter().any(|asked| parent(&call).0 == id(asked).0), "{exports:?}");
    assert_eq!(parent(&exports.one("desk.stamp", &SpanKind::Server)), id(&call));
    let send = exports.one("desk.stamp", &SpanKind::Producer);
    assert_eq!(parent(&exports.one("desk.stamp", &SpanKind::Consumer)), id(&send));
}

/// Drops the traces that begin with a span named `quiet`.
#[derive(Debug, Clone)]
struct NotQuiet;

impl ShouldSample for NotQuiet {
    fn should_sample(
        &self,
        parent: Option<&opentelemetry::Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        let parent = parent.filter(|parent| parent.has_active_span());
        let is_kept = parent.map_or(name != "quiet", |parent| parent.span().span_context().is_sampled());
        let decision = if is_kept { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_sampled_where_it_begins_is_sampled_nowhere() {
    let exports = Exports::begin_with(NotQuiet, LevelFilter::INFO);
    let (cluster, desk) = two_nodes(Desk::default()).await;
    let here = cluster[0].spawn(Desk { next: Some(desk.clone()), ..Desk::default() });
    for handle in [&here, &desk] {
        handle.stamp().instrument_in(info_span!("quiet")).await.unwrap();
        handle.stamp().send().instrument(info_span!("quiet")).await.unwrap();
        handle.pass_on().instrument_in(info_span!("quiet")).await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(exports.all().len(), 0, "{exports:?}");

    // The others are.
    desk.stamp().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(exports.all().len(), 3, "{exports:?}");
}

/// Says of each span that it is sampled, under the same ids, and counts who is made a child.
#[derive(Debug, Clone, Default)]
struct Counting {
    adopted: Arc<AtomicUsize>,
}

const PARENT: TraceParent = TraceParent { trace_id: [1; 16], span_id: [2; 8], flags: 1 };

impl Propagator for Counting {
    fn sampled(&self, _: &Span) -> Option<TraceParent> {
        Some(PARENT)
    }

    fn adopt(&self, _: &Span, parent: Option<&TraceParent>) {
        assert_eq!(parent, Some(&PARENT));
        self.adopted.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many handlers of `calls` calls are children of their callers, between two such nodes.
async fn adopted<F>(calls: usize, configure: F) -> usize
where
    F: Fn(NodeBuilder, Counting) -> NodeBuilder + Send + Sync + 'static,
{
    let counting = Counting::default();
    let given = counting.clone();
    let cluster = Cluster::start_with(2, move |node| configure(node, given.clone())).await;
    cluster[1].service("desk", Desk::default).start().await.unwrap();
    let desk = DeskHandle::lookup(&cluster[0], "desk").await.unwrap();
    for _ in 0..calls {
        assert_eq!(desk.stamp().await.unwrap(), 7);
    }
    counting.adopted.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn a_trace_goes_to_nodes_that_take_it_along_and_to_no_others() {
    let exports = Exports::begin();
    assert_eq!(adopted(3, |node, counting| node.propagator(counting)).await, 3);
    // A node that has none, or speaks an older revision, understands the calls all the same; and is understood.
    for with in ["n0", "n1"] {
        let one = move |node: NodeBuilder, counting| {
            if is_named(&node, with) { node.propagator(counting) } else { node }
        };
        assert_eq!(adopted(3, one).await, 0, "{with} alone");
        let old = move |node: NodeBuilder, counting| {
            let node = node.propagator(counting);
            if is_named(&node, with) { node } else { first_revision(node) }
        };
        assert_eq!(adopted(3, old).await, 0, "{with} alone is new");
    }
    // There the handler's span begins a trace, if its node exports any.
    let roots = exports.find("desk.stamp", &SpanKind::Server);
    assert!(roots.iter().filter(|span| span.parent_span_id == SpanId::INVALID).count() >= 6);
}

fn is_named(node: &NodeBuilder, name: &str) -> bool {
    format!("{node:?}").contains(&format!("{name:?}"))
}

#[tokio::test(start_paused = true)]
async fn without_a_propagator_spans_are_of_level_debug_and_children_inside_of_the_process() {
    for (level, count) in [(LevelFilter::INFO, 1), (LevelFilter::DEBUG, 3)] {
        let exports = Exports::begin_with(Sampler::AlwaysOn, level);
        let node = Node::builder("a").start().await.unwrap();
        let desk = node.spawn(Desk::default());
        desk.stamp().await.unwrap();
        assert_eq!(exports.all().len(), count, "{exports:?}");
        if level == LevelFilter::DEBUG {
            let handler = exports.one("handle", &SpanKind::Internal);
            assert_eq!(parent(&handler), id(&exports.one("call", &SpanKind::Internal)));
            assert_eq!(parent(&exports.one("ink", &SpanKind::Internal)), id(&handler));
        }
    }
}

/// Awaits a call inside of a span.
trait InstrumentIn: IntoFuture {
    fn instrument_in(self, span: Span) -> impl Future<Output = Self::Output>;
}

impl<T: IntoFuture> InstrumentIn for T {
    fn instrument_in(self, span: Span) -> impl Future<Output = T::Output> {
        self.into_future().instrument(span)
    }
}

/// A line a span.
impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for span in self.all() {
            let (ids, parent) = (id(&span), span.parent_span_id);
            write!(f, "\n{} {:?} {ids:?} in {parent}:", span.name, span.span_kind)?;
            for KeyValue { key, value, .. } in &span.attributes {
                write!(f, " {key}={value}")?;
            }
        }
        Ok(())
    }
}
