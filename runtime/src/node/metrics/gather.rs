//! Reads the figures of a node, and gives them to a recorder.
//!
//! Invariant: how many series there are is bounded: so many services, and so many peers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Label, counter, gauge};

use crate::node::manager::{Latency, MethodReport, NodeReport, ServiceReport};
use crate::node::node::{Inner, Node};
use crate::port::Link;
use crate::time;

/// The most services that have series of their own, in the order of their names.
const MOST_SERVICES: usize = 256;

/// The most peers that have.
const MOST_PEERS: usize = 256;

impl Node {
    /// Gives the present figures of this node to the recorder of the [`metrics`](https://docs.rs/metrics) facade that is installed: to be called as often as they
    /// are wanted there. Needs the feature `metrics`. [`Prometheus`](crate::Prometheus) needs no call.
    ///
    /// Names begin with `skyhold_` and end with their unit; each has the label `node`, and `service`, `method` or `peer` where that says more. Counters are set to what was
    /// counted, and do not go back but with another life of the node. At most 256 services and 256 peers have series; how many more there are says
    /// `skyhold_left_out`.
    pub fn record_metrics(&self) {
        gather(self.inner());
    }
}

/// Gives everything to the recorder in force.
pub(super) fn gather(inner: &Inner) {
    let node = Label::new("node", inner.host.node.to_string());
    of_node(inner, &node);
    let names: BTreeSet<Arc<str>> =
        inner.host.all_residents().iter().map(|core| Arc::clone(core.service())).collect();
    for name in names.iter().take(MOST_SERVICES) {
        if let Some(report) = ServiceReport::of(&inner.host, name) {
            of_service(&report, &node);
        }
    }
    let mut nodes = inner.table.nodes();
    nodes.sort();
    let links = nodes.iter().take(MOST_PEERS).filter_map(|(peer, _)| inner.table.link(peer));
    links.for_each(|link| of_peer(&link, &node));
    let left_out = names.len().saturating_sub(MOST_SERVICES) + nodes.len().saturating_sub(MOST_PEERS);
    gauge!("skyhold_left_out", vec![node]).set(number(left_out as u64));
}

fn of_node(inner: &Inner, node: &Label) {
    let one = || vec![node.clone()];
    let with = |key: &'static str, value: &'static str| vec![node.clone(), Label::new(key, value)];
    let counters = inner.counters();
    for (name, count) in [
        ("skyhold_instances_started_total", counters.instances_started),
        ("skyhold_instances_ended_total", counters.instances_ended),
        ("skyhold_restarts_total", counters.restarts),
        ("skyhold_panics_total", counters.panics),
        ("skyhold_dead_letters_total", counters.dead_letters),
        ("skyhold_shed_total", counters.shed),
        ("skyhold_displaced_total", counters.displaced),
        ("skyhold_refused_connections_total", counters.refused_connections),
    ] {
        counter!(name, one()).absolute(count);
    }
    let expired = counters.expired;
    for (phase, count) in [
        ("send", expired.send),
        ("receive", expired.receive),
        ("dispatch", expired.dispatch),
        ("invoke", expired.invoke),
        ("reply", expired.reply),
    ] {
        counter!("skyhold_expired_total", with("phase", phase)).absolute(count);
    }
    let report = NodeReport::of(inner);
    gauge!("skyhold_peers", one()).set(number(report.peers.len() as u64));
    let members = inner.members.borrow();
    gauge!("skyhold_members", one()).set(number(members.members.len() as u64));
    gauge!("skyhold_has_quorum", one()).set(if members.has_quorum { 1.0 } else { 0.0 });
    drop(members);
    let process = report.process;
    if let Some(bytes) = process.resident {
        gauge!("skyhold_process_resident_bytes", one()).set(number(bytes));
    }
    if let Some(cpu) = process.cpu {
        gauge!("skyhold_process_cpu_seconds", one()).set(cpu.as_secs_f64());
    }
    if let Some(threads) = process.threads {
        gauge!("skyhold_process_threads", one()).set(number(threads));
    }
}

fn of_service(report: &ServiceReport, node: &Label) {
    let labels = || vec![node.clone(), Label::new("service", report.service.clone())];
    gauge!("skyhold_instances", labels()).set(number(report.instances as u64));
    gauge!("skyhold_mailbox_waiting", labels()).set(number(report.waiting as u64));
    if let Some(figures) = &report.figures {
        gauge!("skyhold_mailbox_most_waiting", labels()).set(number(figures.most_waiting as u64));
        gauge!("skyhold_busy_seconds", labels()).set(figures.busy.as_secs_f64());
        gauge!("skyhold_longest_poll_seconds", labels()).set(figures.longest_poll.as_secs_f64());
        if let Some(cpu) = figures.cpu {
            gauge!("skyhold_cpu_seconds", labels()).set(cpu.as_secs_f64());
        }
    }
    for method in &report.methods {
        of_method(method, &labels);
    }
}

fn of_method(report: &MethodReport, labels: &impl Fn() -> Vec<Label>) {
    let with = |more: Option<(&'static str, &'static str)>| {
        let mut labels = labels();
        labels.push(Label::new("method", report.method.clone()));
        labels.extend(more.map(|(key, value)| Label::new(key, value)));
        labels
    };
    counter!("skyhold_calls_total", with(None)).absolute(report.calls);
    counter!("skyhold_sends_total", with(None)).absolute(report.sends);
    gauge!("skyhold_in_flight", with(None)).set(number(report.in_flight));
    let outcomes = report.outcomes;
    for (outcome, count) in [
        ("done", outcomes.done),
        ("panicked", outcomes.panicked),
        ("cut_off", outcomes.cut_off),
        ("expired", outcomes.expired),
        ("abandoned", outcomes.abandoned),
        ("stopped", outcomes.stopped),
        ("overloaded", outcomes.overloaded),
    ] {
        counter!("skyhold_messages_ended_total", with(Some(("outcome", outcome)))).absolute(count);
    }
    for (name, latency) in
        [("skyhold_handler_seconds", &report.handler), ("skyhold_sojourn_seconds", &report.sojourn)]
    {
        for (quantile, time) in latency.iter().flat_map(quantiles) {
            gauge!(name, with(Some(("quantile", quantile)))).set(time.as_secs_f64());
        }
    }
}

/// As Prometheus names them; 1 is the longest.
fn quantiles(latency: &Latency) -> [(&'static str, Duration); 4] {
    [("0.5", latency.p50), ("0.99", latency.p99), ("0.999", latency.p999), ("1", latency.max)]
}

fn of_peer(first: &Arc<Link>, node: &Label) {
    for (index, link) in first.family().iter().enumerate() {
        let seen = link.seen(time::now());
        let with = |more: Option<(&'static str, &'static str)>| {
            let mut labels = vec![
                node.clone(),
                Label::new("peer", link.peer().node.to_string()),
                Label::new("connection", index.to_string()),
            ];
            labels.extend(more.map(|(key, value)| Label::new(key, value)));
            labels
        };
        counter!("skyhold_received_bytes_total", with(None)).absolute(seen.bytes_read);
        counter!("skyhold_sent_bytes_total", with(None)).absolute(seen.bytes_written);
        counter!("skyhold_received_frames_total", with(None)).absolute(seen.frames_read);
        counter!("skyhold_sent_frames_total", with(None)).absolute(seen.frames_written);
        counter!("skyhold_reconnects_total", with(None)).absolute(u64::from(seen.before));
        for (lane, bytes) in [
            ("control", seen.waiting.control),
            ("replies", seen.waiting.replies),
            ("calls", seen.waiting.calls),
            ("bulk", seen.waiting.bulk),
        ] {
            gauge!("skyhold_queued_bytes", with(Some(("lane", lane)))).set(number(bytes as u64));
        }
        let (calls, served) = seen.requests;
        gauge!("skyhold_remote_calls", with(None)).set(number(calls as u64));
        gauge!("skyhold_served_calls", with(None)).set(number(served as u64));
    }
}

/// As a gauge has it: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
fn number(number: u64) -> f64 {
    number as f64
}
