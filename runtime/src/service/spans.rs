//! The spans of calls and of their handlers, by `tracing`, and what a message brings of the trace that it is part of.
//!
//! A call's span begins with the call and ends with its result. The handler's span is its child, begins when the message
//! has left the mailbox, and says how long it was in there. On a node with a [`Propagator`] the parent travels by it, inside
//! the process too: so a message holds no span of its sender open.
//!
//! Invariant: while nobody wants the spans a call costs one look at the level that `tracing` lets through.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::span::EnteredSpan;
use tracing::{Span, dispatcher, field};

use crate::error::CallError;
use crate::service::chain::Chain;
use crate::service::context::Caller;
use crate::service::core::Core;
use crate::service::deadlines::Tick;
use crate::service::host::Host;
use crate::service::message::{Meta, Method};
use crate::service::outbound::Mode;
use crate::trace::{Propagator, TraceParent};

/// The target of all spans. The crate's documentation names it.
const TARGET: &str = "skyhold::calls";

/// Whether spans are wanted: of level info on a node with a propagator, and else, where they only stand around what is
/// logged, of level debug.
#[inline]
pub(crate) fn are_wanted(host: &Host) -> bool {
    tracing::span_enabled!(target: TARGET, tracing::Level::INFO) && are_wanted_at(host)
}

#[cold]
fn are_wanted_at(host: &Host) -> bool {
    host.propagator().is_some() || tracing::span_enabled!(target: TARGET, tracing::Level::DEBUG)
}

/// A span of the node's level. The fields that begin with `otel` are for OpenTelemetry, and are there if it may be.
macro_rules! span {
    ($host:expr, $method:expr, $interface:expr, $kind:expr, [$($parent:tt)*], $name:literal, $($fields:tt)*) => {{
        match $host.propagator() {
            None => tracing::debug_span!(target: TARGET, $($parent)* $name, $($fields)*, outcome = field::Empty),
            Some(_) => {
                let name = format!("{}.{}", $interface, $method.name());
                tracing::info_span!(
                    target: TARGET, $($parent)* $name, otel.name = name, otel.kind = $kind,
                    otel.status_code = field::Empty, $($fields)*, outcome = field::Empty
                )
            }
        }
    }};
}

/// What stands at the front of a [`Chain`] while spans are wanted.
#[derive(Debug)]
pub(crate) enum Trace {
    /// Of a message on its way: whose it is, and since when it waits.
    Message(Origin, Tick),
    /// Of a handler that runs.
    Handler(HandlerSpan),
}

/// The parent of a handler's span.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A span of this process.
    Span(Span),
    /// One that the propagator finds again. `None`: it is not collected, and nothing below it is to be.
    Context(Option<TraceParent>),
    /// Nobody has said.
    Unknown,
}

impl Origin {
    /// The present span, or what stands around it if that is not wanted.
    fn of(host: &Host, span: &Span) -> Self {
        let around = span.is_disabled().then(Span::current);
        match (host.propagator(), around.as_ref().unwrap_or(span)) {
            (_, nothing) if nothing.is_disabled() => Self::Unknown,
            (Some(propagator), span) => Self::Context(sampled(&**propagator, span)),
            (None, span) => Self::Span(span.clone()),
        }
    }

    /// Of a message that came from a peer; `is_told` if the peer says it of those that are sampled.
    pub(crate) fn of_peer(trace: Option<TraceParent>, is_told: bool) -> Self {
        if is_told { Self::Context(trace) } else { Self::Unknown }
    }

    /// What travels.
    pub(crate) fn parent(&self) -> Option<TraceParent> {
        match self {
            Self::Context(parent) => *parent,
            Self::Span(_) | Self::Unknown => None,
        }
    }
}

/// The span of a call or of a send, until its end.
#[derive(Debug)]
pub(crate) struct CallSpan {
    span: Span,
    origin: Origin,
    is_ended: bool,
}

impl CallSpan {
    /// Begins one inside of the present span, if spans are wanted.
    #[inline]
    pub(crate) fn begin(host: &Host, interface: &str, method: &Method, mode: Mode) -> Option<Box<Self>> {
        are_wanted(host).then(|| Box::new(Self::new(host, interface, method, mode)))
    }

    #[cold]
    fn new(host: &Host, interface: &str, method: &Method, mode: Mode) -> Self {
        let fields = (interface, method.name());
        let span = match mode {
            Mode::Call => {
                span!(host, method, interface, "client", [], "call", interface = fields.0, method = fields.1)
            }
            Mode::Send => {
                span!(
                    host,
                    method,
                    interface,
                    "producer",
                    [],
                    "send",
                    interface = fields.0,
                    method = fields.1
                )
            }
        };
        let origin = Origin::of(host, &span);
        Self { span, origin, is_ended: false }
    }

    /// The chain of callers with this at its front, for a message that begins to wait now.
    pub(crate) fn lead(&self, chain: &Chain, now: Tick) -> Chain {
        chain.traced(Trace::Message(self.origin.clone(), now))
    }

    /// The result is there.
    #[cold]
    pub(crate) fn end(mut self, error: Option<&CallError>) {
        self.is_ended = true;
        record(&self.span, error.map_or(OK, name_of));
    }
}

impl Drop for CallSpan {
    /// Nobody waits for the result.
    fn drop(&mut self) {
        if !self.is_ended {
            record(&self.span, CANCELLED);
        }
    }
}

/// Begins the span of a message's handler, which stands at the front of its chain from now on.
#[cold]
pub(crate) fn begin_handler(core: &Core, method: &'static Method, meta: &mut Meta) {
    if let Some(Trace::Message(origin, since)) = meta.chain.trace() {
        let span = HandlerSpan::begin(core, method, meta, origin, *since);
        meta.chain = meta.chain.traced(Trace::Handler(span));
    }
}

/// The span of a handler that runs.
#[derive(Debug)]
pub(crate) struct HandlerSpan {
    span: Span,
    is_ended: AtomicBool,
}

impl HandlerSpan {
    fn begin(core: &Core, method: &'static Method, meta: &Meta, origin: &Origin, since: Tick) -> Self {
        let host = core.host();
        let queued = since.until(host.deadlines.now());
        // A send has no deadline.
        let kind = if meta.deadline.is_some() { "server" } else { "consumer" };
        let facts = Facts { core, method, caller: &meta.caller, kind, queued };
        let span = match (origin, host.propagator()) {
            // Where the parent is collected the child is too, whichever that is on this thread.
            (Origin::Span(parent), _) => parent
                .with_subscriber(|(id, dispatch)| {
                    dispatcher::with_default(dispatch, || facts.span(host, Some(id.clone())))
                })
                .unwrap_or_else(|| facts.span(host, None)),
            (Origin::Context(parent), Some(propagator)) => {
                let span = facts.span(host, None);
                adopt(&**propagator, &span, parent.as_ref());
                span
            }
            _ => facts.span(host, None),
        };
        Self { span, is_ended: AtomicBool::new(false) }
    }

    /// Makes it the present span of this thread until that is dropped.
    #[cold]
    pub(crate) fn enter(&self) -> EnteredSpan {
        self.span.clone().entered()
    }

    /// The handler has ended, or was not begun.
    #[cold]
    pub(crate) fn end(&self, outcome: &'static str) {
        if !self.is_ended.swap(true, Ordering::Relaxed) {
            record(&self.span, outcome);
        }
    }
}

impl Drop for HandlerSpan {
    fn drop(&mut self) {
        self.end(CUT_OFF);
    }
}

/// What a handler's span says from its beginning.
struct Facts<'a> {
    core: &'a Core,
    method: &'static Method,
    caller: &'a Caller,
    kind: &'static str,
    queued: std::time::Duration,
}

impl Facts<'_> {
    fn span(&self, host: &Host, parent: Option<tracing::span::Id>) -> Span {
        let Self { core, method, caller, kind, queued } = self;
        let caller = match caller {
            Caller::Here => &host.node,
            Caller::Peer(link) => &link.peer().node,
        };
        let (service, name) = (&**core.service(), method.name());
        let queued_us = u64::try_from(queued.as_micros()).unwrap_or(u64::MAX);
        span!(
            host, method, core.interface(), *kind, [parent: parent,], "handle", service, method = name,
            instance = %core.address(), caller = %caller, queued_us
        )
    }
}

fn sampled(propagator: &dyn Propagator, span: &Span) -> Option<TraceParent> {
    guarded(|| propagator.sampled(span)).flatten()
}

/// A propagator is the user's, and may panic: that is no call's matter, and no handler's.
fn guarded<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

fn adopt(propagator: &dyn Propagator, span: &Span, parent: Option<&TraceParent>) {
    if !span.is_disabled() {
        guarded(|| propagator.adopt(span, parent));
    }
}

fn record(span: &Span, outcome: &'static str) {
    span.record("outcome", outcome);
    // Without a propagator there is no such field, and this does nothing.
    if ![OK, FAILED, CANCELLED].contains(&outcome) {
        span.record("otel.status_code", "ERROR");
    }
}

/// The outcomes of a handler, and with [`CANCELLED`] and the names of the errors those of a call.
pub(crate) const OK: &str = "ok";
/// With an `Err` of the service's own, which is an answer: what that means its caller knows.
pub(crate) const FAILED: &str = "failed";
pub(crate) const PANICKED: &str = "panicked";
pub(crate) const EXPIRED: &str = "expired";
pub(crate) const ABANDONED: &str = "abandoned";
const CUT_OFF: &str = "cut_off";
const CANCELLED: &str = "cancelled";

fn name_of(error: &CallError) -> &'static str {
    match error {
        CallError::NoRoute(_) => "no_route",
        CallError::Overloaded(_) => "overloaded",
        CallError::Stopped(_) => "stopped",
        CallError::Stale(_) => "stale",
        CallError::Denied(_) => "denied",
        CallError::Incompatible(_) => "incompatible",
        CallError::TooLarge(_) => "too_large",
        CallError::Expired(_) => EXPIRED,
        CallError::Codec(_) => "codec",
        CallError::Deadlock(_) => "deadlock",
        CallError::Timeout(_) => "timeout",
        CallError::Disconnected(_) => "disconnected",
        CallError::Panicked(_) => PANICKED,
        CallError::NoReply(_) => "no_reply",
        CallError::BadReply(_) => "bad_reply",
    }
}
