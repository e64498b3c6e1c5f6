//! Reads what a node knows of itself, and makes samples of it.
//!
//! Invariant: no service is asked, and of the peers only how long they take to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::membership::MemberState;
use crate::event::{Counters, EndedConnections, Expired};
use crate::node::manager::{ConnectionReport, Latency, Outcomes, ServiceReport};
use crate::node::node::{Inner, Node};
use crate::service::core::Core;

use super::Books;
use super::names::{self, Metric};
use super::places::Places;
use super::traffic::Traffic;

/// One value of one metric.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) metric: &'static Metric,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Count(u64),
    Level(f64),
}

/// What a peer that does not answer in its second is told to take.
const NO_ANSWER: Duration = Duration::from_secs(1);

/// Everything there is to tell now, with what the connections have said. The books are held meanwhile and by whoever passes it on, so that what is
/// read later is told later.
pub(super) fn gather(inner: &Arc<Inner>, reports: &[ConnectionReport], books: &mut Books) -> Vec<Sample> {
    let node = Node::without_owner_of(Arc::clone(inner));
    let mut samples = Samples { node: inner.host.node.to_string(), all: Vec::new() };
    samples.node(inner);
    samples.counters(&node.counters());
    samples.services(inner, &mut books.services);
    samples.connections(reports, &mut books.traffic);
    samples.all
}

struct Samples {
    node: String,
    all: Vec<Sample>,
}

impl Samples {
    fn node(&mut self, inner: &Inner) {
        self.level(&names::START_TIME, &[], Duration::from_millis(inner.host.incarnation.0).as_secs_f64());
        let members = inner.members.borrow().clone();
        for (state, name) in [(MemberState::Alive, "alive"), (MemberState::Suspected, "suspected")] {
            let count = members.members.iter().filter(|member| member.state == state).count();
            self.level(&names::MEMBERS, &[("state", name)], float(count));
        }
        self.level(&names::QUORUM, &[], float(usize::from(members.has_quorum)));
    }

    fn counters(&mut self, counters: &Counters) {
        let Expired { send, receive, dispatch, invoke, reply } = counters.expired;
        let phases = [
            ("send", send),
            ("receive", receive),
            ("dispatch", dispatch),
            ("invoke", invoke),
            ("reply", reply),
        ];
        for (metric, value) in [
            (&names::DEAD_LETTERS, counters.dead_letters),
            (&names::DISPLACED, counters.displaced),
            (&names::SHED, counters.shed),
            (&names::PANICS, counters.panics),
            (&names::STARTED, counters.instances_started),
            (&names::ENDED, counters.instances_ended),
            (&names::RESTARTS, counters.restarts),
            (&names::GAVE_UP, counters.gave_up),
            (&names::SLOW, counters.slow_handlers),
            (&names::STUCK, counters.stuck_handlers),
            (&names::HIGH_WATERS, counters.high_waters),
            (&names::REFUSED, counters.refused_connections),
        ] {
            self.count(metric, &[], value);
        }
        for (phase, value) in phases {
            self.count(&names::EXPIRED, &[("phase", phase)], value);
        }
        let EndedConnections { goodbye, refused, insecure, late, silent, protocol, broken, crowded } =
            counters.ended_connections;
        for (reason, value) in [
            ("goodbye", goodbye),
            ("refused", refused),
            ("insecure", insecure),
            ("late", late),
            ("silent", silent),
            ("protocol", protocol),
            ("broken", broken),
            ("crowded", crowded),
        ] {
            self.count(&names::ENDED_CONNECTIONS, &[("reason", reason)], value);
        }
    }

    fn services(&mut self, inner: &Inner, places: &mut Places<()>) {
        let residents = inner.host.all_residents();
        let there: BTreeSet<&str> = residents.iter().map(|core| &**core.service()).collect();
        places.seat(&there);
        let mut services: BTreeMap<&str, OfService> = BTreeMap::new();
        for core in &residents {
            let of = services.entry(places.label(core.service())).or_default();
            of.instances += 1;
            of.busy += usize::from(core.turns().current().is_running());
            of.waiting += core.mailbox().map_or(0, |mailbox| mailbox.waiting());
            of.capacity += core.settings().capacity();
            of.sojourn = of.sojourn.max(core.gauge().sojourn());
            of.restarts += u64::from(core.life_number());
        }
        for (name, of) in services {
            let labels = [("service", name)];
            self.level(&names::INSTANCES, &labels, float(of.instances));
            self.level(&names::BUSY, &labels, float(of.busy));
            self.level(&names::WAITING, &labels, float(of.waiting));
            self.level(&names::CAPACITY, &labels, float(of.capacity));
            self.level(&names::SOJOURN, &labels, of.sojourn.as_secs_f64());
            self.level(&names::LIVES, &labels, exact(of.restarts));
        }
        // Of those that are summed up nothing more is told.
        let mut named: BTreeMap<&str, Vec<Arc<Core>>> = BTreeMap::new();
        for core in residents.iter().filter(|core| places.label(core.service()) == &**core.service()) {
            named.entry(core.service()).or_default().push(Arc::clone(core));
        }
        for (name, cores) in named {
            if let Some(report) = ServiceReport::of_instances(&inner.host, name.to_owned(), cores) {
                self.figures(&report);
            }
        }
    }

    fn figures(&mut self, report: &ServiceReport) {
        let service = report.service.as_str();
        if let Some(figures) = &report.figures {
            self.level(&names::POLLED, &[("service", service)], figures.busy.as_secs_f64());
            if let Some(cpu) = figures.cpu {
                self.level(&names::CPU, &[("service", service)], cpu.as_secs_f64());
            }
        }
        for method in &report.methods {
            let labels = [("service", service), ("method", method.method.as_str())];
            self.count(&names::METHOD_CALLS, &labels, method.calls);
            self.count(&names::METHOD_SENDS, &labels, method.sends);
            self.level(&names::METHOD_RUNNING, &labels, exact(method.in_flight));
            let [service, name] = labels;
            for (outcome, count) in outcomes(&method.outcomes) {
                self.count(&names::METHOD_ENDED, &[service, name, ("outcome", outcome)], count);
            }
            let times = [(&names::METHOD_TIME, &method.handler), (&names::METHOD_SOJOURN, &method.sojourn)];
            for (metric, latency) in times {
                for (quantile, time) in latency.iter().flat_map(quantiles) {
                    self.level(metric, &[service, name, ("quantile", quantile)], time.as_secs_f64());
                }
            }
        }
    }

    fn connections(&mut self, reports: &[ConnectionReport], traffic: &mut Traffic) {
        traffic.look(reports);
        for (peer, sums) in traffic.sums() {
            let labels = [("peer", peer)];
            self.count(&names::RECEIVED, &labels, sums.bytes_received);
            self.count(&names::SENT, &labels, sums.bytes_sent);
            self.count(&names::FRAMES_RECEIVED, &labels, sums.frames_received);
            self.count(&names::FRAMES_SENT, &labels, sums.frames_sent);
        }
        let mut peers: BTreeMap<&str, OfPeer> = BTreeMap::new();
        for report in reports {
            peers.entry(traffic.label(report.peer.as_str())).or_default().add(report);
        }
        for (peer, of) in peers {
            let labels = [("peer", peer)];
            self.level(&names::CONNECTIONS, &labels, float(of.connections));
            self.level(&names::STARVED, &labels, float(of.without_credit));
            self.level(&names::CALLERS, &labels, float(of.callers));
            self.level(&names::RECONNECTS, &labels, exact(of.reconnects));
            self.level(&names::ROUND_TRIP, &labels, of.round_trip.as_secs_f64());
            for (lane, bytes) in of.queue {
                self.level(&names::QUEUE, &[("peer", peer), ("lane", lane)], float(bytes));
            }
            for (direction, calls) in [("sent", of.calls), ("received", of.served)] {
                self.level(&names::CALLS, &[("peer", peer), ("direction", direction)], float(calls));
            }
        }
    }

    fn count(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)], value: u64) {
        self.add(metric, labels, Value::Count(value));
    }

    fn level(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)], value: f64) {
        self.add(metric, labels, Value::Level(value));
    }

    fn add(&mut self, metric: &'static Metric, labels: &[(&'static str, &str)], value: Value) {
        let node = ("node", self.node.clone());
        let others = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.all.push(Sample { metric, labels: std::iter::once(node).chain(others).collect(), value });
    }
}

fn outcomes(outcomes: &Outcomes) -> [(&'static str, u64); 8] {
    let Outcomes { done, failed, panicked, cut_off, expired, abandoned, stopped, overloaded } = *outcomes;
    [
        ("done", done),
        ("failed", failed),
        ("panicked", panicked),
        ("cut_off", cut_off),
        ("expired", expired),
        ("abandoned", abandoned),
        ("stopped", stopped),
        ("overloaded", overloaded),
    ]
}

fn quantiles(latency: &Latency) -> [(&'static str, Duration); 4] {
    [("0.5", latency.p50), ("0.99", latency.p99), ("0.999", latency.p999), ("1", latency.max)]
}

/// The figures of one service, or of the rest.
#[derive(Default)]
struct OfService {
    instances: usize,
    busy: usize,
    waiting: usize,
    capacity: usize,
    sojourn: Duration,
    restarts: u64,
}

/// The figures of one peer, or of the rest.
#[derive(Default)]
struct OfPeer {
    connections: usize,
    without_credit: usize,
    callers: usize,
    reconnects: u64,
    round_trip: Duration,
    calls: usize,
    served: usize,
    queue: BTreeMap<&'static str, usize>,
}

impl OfPeer {
    fn add(&mut self, report: &ConnectionReport) {
        self.connections += 1;
        self.without_credit += report.without_credit;
        self.callers += report.waiting.iter().map(|(_, callers)| callers).sum::<usize>();
        self.reconnects += u64::from(report.reconnects);
        self.round_trip = self.round_trip.max(report.round_trip.unwrap_or(NO_ANSWER));
        self.calls += report.calls;
        self.served += report.served;
        let queue = report.queue;
        for (lane, bytes) in [
            ("control", queue.control),
            ("replies", queue.replies),
            ("calls", queue.calls),
            ("bulk", queue.bulk),
        ] {
            *self.queue.entry(lane).or_default() += bytes;
        }
    }
}

fn float(number: usize) -> f64 {
    exact(u64::try_from(number).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and nobody counts that far here")]
fn exact(number: u64) -> f64 {
    number as f64
}
