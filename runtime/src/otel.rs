//! Traces of OpenTelemetry from node to node: the one place that knows it.
//!
//! Invariant: it asks of spans what `tracing-opentelemetry` knows, and keeps nothing.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::random;
use crate::trace::{Propagator, TraceParent};

/// Takes traces of OpenTelemetry from node to node, where spans are collected by the layer of
/// [`tracing-opentelemetry`](https://docs.rs/tracing-opentelemetry/0.34) 0.34. Given to a node by
/// [`NodeBuilder::propagator`](crate::NodeBuilder::propagator). With the feature `otel`.
///
/// Whether a trace is sampled is decided where it begins, by the sampler there; the others follow if their samplers are parent
/// based, as the default one is. What `tracestate` and baggage say does not travel.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenTelemetry;

impl Propagator for OpenTelemetry {
    fn sampled(&self, span: &Span) -> Option<TraceParent> {
        let context = span.context();
        let span = context.span();
        let ids = span.span_context();
        (ids.is_valid() && ids.is_sampled()).then(|| TraceParent {
            trace_id: ids.trace_id().to_bytes(),
            span_id: ids.span_id().to_bytes(),
            flags: ids.trace_flags().to_u8(),
        })
    }

    fn adopt(&self, span: &Span, parent: Option<&TraceParent>) {
        let Some(parent) = parent.copied().or_else(nobodys) else { return };
        let parent = SpanContext::new(
            TraceId::from_bytes(parent.trace_id),
            SpanId::from_bytes(parent.span_id),
            TraceFlags::new(parent.flags),
            true,
            TraceState::default(),
        );
        // Without the layer nothing is collected, and there is no parent to set.
        drop(span.set_parent(Context::new().with_remote_span_context(parent)));
    }
}

/// A parent that is not sampled. Samplers want one that there might be.
fn nobodys() -> Option<TraceParent> {
    let chance = random::nonce().ok()?;
    let (trace_id, rest) = chance.split_first_chunk()?;
    Some(TraceParent { trace_id: *trace_id, span_id: *rest.first_chunk()?, flags: 0 })
}
