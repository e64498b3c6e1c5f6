//! What travels of a trace, and the trait by which a node learns it of its spans.
//!
//! Invariant: the runtime knows spans of `tracing` and these ids, and nothing of whoever collects either.

use std::fmt;

use tracing::Span;

/// A span as another process names it: the `traceparent` of the [W3C trace context](https://www.w3.org/TR/trace-context/).
/// It is shown as that is written in text: `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace. Not all zeroes.
    pub trace_id: [u8; 16],
    /// The span. Not all zeroes.
    pub span_id: [u8; 8],
    /// The trace's flags. Bit 0 says that it is sampled.
    pub flags: u8,
}

impl TraceParent {
    /// How many bytes it has on the wire.
    pub(crate) const LEN: usize = 25;

    /// Whether somebody keeps the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 != 0
    }

    /// As it stands on the wire: the trace, the span, the flags.
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }

    /// What stood on the wire.
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        trace_id.copy_from_slice(&bytes[..16]);
        span_id.copy_from_slice(&bytes[16..24]);
        Self { trace_id, span_id, flags: bytes[24] }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, flags } = self;
        write!(f, "00-{:032x}-", u128::from_be_bytes(*trace_id))?;
        write!(f, "{:016x}-{flags:02x}", u64::from_be_bytes(*span_id))
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceParent({self})")
    }
}

/// Takes traces from node to node: it knows under which ids a span of `tracing` is collected. Given to a node by
/// `NodeBuilder::propagator`. With the feature `otel` there is `OpenTelemetry`.
///
/// Both are called in the middle of a call, on the caller's thread or the instance's: they must be quick, and not wait.
pub trait Propagator: fmt::Debug + Send + Sync + 'static {
    /// Under which ids the span is collected. `None` if it is not: then nothing of it travels.
    fn sampled(&self, span: &Span) -> Option<TraceParent>;

    /// Makes a new span, which has not been entered, the child of the caller's. `None` says that the caller's trace is not
    /// collected, and so this span is not to be.
    fn adopt(&self, span: &Span, parent: Option<&TraceParent>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_shown_as_the_header_is_written_and_keeps_its_ids_on_the_wire() {
        let mut bytes = [0; TraceParent::LEN];
        for (place, byte) in (1..).zip(&mut bytes) {
            *byte = place;
        }
        let parent = TraceParent::from_bytes(&bytes);
        assert_eq!(parent.to_string(), "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-19");
        assert_eq!(parent.to_bytes(), bytes);
        assert!(parent.is_sampled());
        assert!(!TraceParent { flags: 0xFE, ..parent }.is_sampled());
    }
}
