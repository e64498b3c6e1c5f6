//! What a manager tells of the work of instances and services: what `service::monitor` knows.
//!
//! Invariant: it reads shared numbers and asks no service.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Address;
use crate::service::core::Core;
use crate::service::host::Host;
use crate::service::monitor::{self, Ended, OfMethod, Summary, Tally, WaitingCall};
use crate::service::turns::{Turn, name_of};

/// What was counted and measured of an instance since it was made, through all its lives, or of all instances of a service.
///
/// Counts are exact. Times are of samples as [`Monitoring`](crate::Monitoring) says, by the clock of the node.
///
/// Only what the instance's own task and the child tasks of [`Context::spawn`](crate::Context::spawn) run is counted as its work: not what it
/// spawns in another way, nor blocking work on other threads. What goes on now is counted when it ends: see [`InstanceReport::handlers`].
///
/// [`InstanceReport::handlers`]: crate::InstanceReport::handlers
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Figures {
    /// How many calls began to run.
    pub calls: u64,
    /// How many sends began to run.
    pub sends: u64,
    /// How many handlers of messages run now, those that wait included.
    pub in_flight: u64,
    /// How messages ended.
    pub outcomes: Outcomes,
    /// How often a task of it was polled.
    pub polls: u64,
    /// How long its polls took by the clock. While a thread is kept waiting, by the system or in a handler that blocks it, this goes on.
    pub busy: Duration,
    /// The longest of the polls that were measured.
    pub longest_poll: Duration,
    /// How long its polls ran on a processor; `None` where the system does not tell.
    ///
    /// It is `busy` without the time in which the thread did not run. That is measured about once for each 250 µs of work, as reading the processor's time
    /// takes long itself, and stands for the polls between; so a poll of more than that is measured each time, as long as such ones follow one another. In a poll of
    /// less than a microsecond or two nothing of it is seen. It never goes down.
    pub cpu: Option<Duration>,
    /// The most messages that ever waited in the mailbox; of a service in one of its mailboxes.
    pub most_waiting: usize,
}

/// How messages ended. Those that begin to run are the sum of the first four and what is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcomes {
    /// The handler ended with a value.
    pub done: u64,
    /// The handler ended with an `Err` of the service's own.
    pub failed: u64,
    /// The handler panicked.
    pub panicked: u64,
    /// The handler was dropped before its end: the life was killed, or ended by another handler's panic.
    pub cut_off: u64,
    /// It did not begin, as its deadline had passed.
    pub expired: u64,
    /// It did not begin, as its caller had given up.
    pub abandoned: u64,
    /// It did not begin, as the instance ended.
    pub stopped: u64,
    /// It did not begin, as the mailbox had no room, or its deadline would have passed there. One that goes on waiting for room is not counted.
    pub overloaded: u64,
}

/// What durations come to. A quantile is right within a 32nd of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many there were, as far as samples say.
    pub count: u64,
    /// The half were not longer.
    pub p50: Duration,
    /// 99 of 100 were not longer.
    pub p99: Duration,
    /// 999 of 1000 were not longer.
    pub p999: Duration,
    /// The longest of those that were measured.
    pub max: Duration,
    /// Their mean.
    pub mean: Duration,
}

/// A handler that runs, or a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HandlerReport {
    /// Its method.
    pub method: String,
    /// How long it has run. One that keeps its thread is only seen after up to 250 ms, and runs that much longer; `None` before that, and where nothing
    /// is measured.
    pub age: Option<Duration>,
    /// The handlers that wait for it, the first caller first, as `Interface.method@node#instance`. Shown once it has to wait itself. Empty for a message
    /// from outside of handlers.
    pub callers: Vec<String>,
}

/// A call of a handler that waits for its reply, or for room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitReport {
    /// The method whose handler waits.
    pub method: String,
    /// The instance that it waits for; `None` while a call to a name has not gone to one.
    pub address: Option<Address>,
    /// The name of the service that it waits for, where that is known: it called a name, or an instance of its own node that has one.
    pub service: Option<String>,
    /// What it has called, as `Interface.method`.
    pub called: String,
    /// How long it has waited.
    pub age: Duration,
}

/// A method of a service at one moment: what all instances of the node did, also those that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodReport {
    /// Its name.
    pub method: String,
    /// How many calls began to run.
    pub calls: u64,
    /// How many sends began to run.
    pub sends: u64,
    /// How many of its handlers run now.
    pub in_flight: u64,
    /// How its messages ended.
    pub outcomes: Outcomes,
    /// How long its handlers took, from the beginning to the end, what they waited for included. `None` if none was measured.
    pub handler: Option<Latency>,
    /// How long its messages waited in the mailbox. A message that was the only one there counts as one that did not wait, as nobody reads a clock for
    /// it. `None` if none is known to have waited.
    pub sojourn: Option<Latency>,
}

/// A service on one node at one moment. Got from [`ManagerHandle::stats`](crate::ManagerHandle::stats).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceReport {
    /// Its name; for instances without a name that of their type.
    pub service: String,
    /// The interface.
    pub interface: String,
    /// How many instances run.
    pub instances: usize,
    /// How many messages wait in their mailboxes.
    pub waiting: usize,
    /// How many lives they have had before their present ones.
    pub restarts: u64,
    /// How many bytes of memory it holds, of all instances, ended ones included: what its tasks have allocated and nobody has given back, exactly. What it was sent
    /// was allocated by the sender, and counts there. `None` unless the feature `memory` is on and the program has its allocator: see `skyhold_memory`.
    pub memory: Option<u64>,
    /// What was counted and measured of these instances; `None` if nothing is. What ended ones did is in `methods` alone.
    pub figures: Option<Figures>,
    /// Its methods, also of instances that have ended. Empty if nothing is measured. The times of at most 1,024 methods are kept on a node.
    pub methods: Vec<MethodReport>,
}

impl ServiceReport {
    /// The service of that name, if there is one or was. Of several interfaces under one name that of which most instances run.
    pub(super) fn of(host: &Host, service: String) -> Option<Self> {
        let mut cores = host.all_residents();
        cores.retain(|core| **core.service() == *service);
        Self::of_instances(host, service, cores)
    }

    /// As [`ServiceReport::of`], where all instances of that name are known.
    pub(in crate::node) fn of_instances(
        host: &Host,
        service: String,
        mut cores: Vec<Arc<Core>>,
    ) -> Option<Self> {
        let known = host.monitor.known(&service);
        let interfaces = cores.iter().map(|core| core.interface()).chain(known.iter().map(|(name, _)| *name));
        let count = |interface: &&str| cores.iter().filter(|core| core.interface() == *interface).count();
        let interface = interfaces.max_by_key(count)?;
        cores.retain(|core| core.interface() == interface);
        let known = known.into_iter().find(|(name, _)| *name == interface).map(|(_, known)| known);
        let methods = match (cores.first(), &known) {
            (_, Some(known)) => known.methods(),
            (Some(core), None) if core.is_monitored() => core.methods(),
            _ => &[],
        };
        let of_method = |index| known.as_ref().and_then(|known| known.method(index));
        let methods = methods.iter().enumerate();
        let methods = methods.map(|(index, method)| {
            MethodReport::of(method.name(), method.id().name, index, &cores, of_method(index))
        });
        Some(Self {
            service,
            interface: interface.to_owned(),
            instances: cores.len(),
            waiting: cores.iter().map(|core| waiting(core)).sum(),
            restarts: cores.iter().map(|core| u64::from(core.life_number())).sum(),
            methods: methods.collect(),
            memory: known.as_ref().and_then(|known| known.memory()),
            figures: cores.iter().filter_map(|core| Figures::of(core)).reduce(Figures::and),
        })
    }
}

impl MethodReport {
    fn of(method: &str, number: u32, index: usize, cores: &[Arc<Core>], known: Option<&OfMethod>) -> Self {
        // Whose numbers are with the service already would be counted twice.
        let figures = cores.iter().filter_map(|core| core.figures()).filter(|figures| !figures.is_gone());
        let ended = known.map_or_else(Tally::default, OfMethod::tally);
        let tally = figures.map(|figures| figures.tally(index)).fold(ended, Tally::and);
        let running = cores.iter().map(|core| turns_of(core).filter(|turn| turn.method() == number).count());
        let count = |ended| known.map_or(0, |known| known.ended(ended));
        Self {
            method: method.to_owned(),
            calls: tally.calls,
            sends: tally.sends,
            in_flight: running.sum::<usize>() as u64,
            outcomes: Outcomes::of(tally.done, count),
            handler: known.and_then(OfMethod::took).map(Latency::of),
            sojourn: known.and_then(|known| known.waited(tally.calls + tally.sends)).map(Latency::of),
        }
    }
}

impl Figures {
    /// What is known of an instance; `None` if nothing is measured.
    pub(super) fn of(core: &Core) -> Option<Self> {
        let now = core.now()?;
        let figures = core.figures();
        let tally = figures.map_or_else(Tally::default, monitor::Figures::total);
        let count = |ended| figures.map_or(0, |figures| figures.ended(ended));
        let is_message = |turn: &Turn| core.methods().iter().any(|method| method.id().name == turn.method());
        Some(Self {
            calls: tally.calls,
            sends: tally.sends,
            in_flight: turns_of(core).filter(is_message).count() as u64,
            outcomes: Outcomes::of(tally.done, count),
            polls: now.spent.polls,
            busy: now.spent.wall,
            longest_poll: now.spent.longest,
            cpu: now.spent.cpu,
            most_waiting: now.most_waiting.max(waiting(core)),
        })
    }

    fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            sends: self.sends + other.sends,
            in_flight: self.in_flight + other.in_flight,
            outcomes: self.outcomes.and(other.outcomes),
            polls: self.polls + other.polls,
            busy: self.busy + other.busy,
            longest_poll: self.longest_poll.max(other.longest_poll),
            cpu: self.cpu.zip(other.cpu).map(|(one, other)| one + other),
            most_waiting: self.most_waiting.max(other.most_waiting),
        }
    }
}

impl Outcomes {
    fn of(done: u64, count: impl Fn(Ended) -> u64) -> Self {
        Self {
            done,
            failed: count(Ended::Failed),
            panicked: count(Ended::Panicked),
            cut_off: count(Ended::CutOff),
            expired: count(Ended::Expired),
            abandoned: count(Ended::Abandoned),
            stopped: count(Ended::Stopped),
            overloaded: count(Ended::Overloaded),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            failed: self.failed + other.failed,
            panicked: self.panicked + other.panicked,
            cut_off: self.cut_off + other.cut_off,
            expired: self.expired + other.expired,
            abandoned: self.abandoned + other.abandoned,
            stopped: self.stopped + other.stopped,
            overloaded: self.overloaded + other.overloaded,
        }
    }
}

impl Latency {
    fn of(summary: Summary) -> Self {
        let Summary { count, p50, p99, p999, max, mean } = summary;
        Self { count, p50, p99, p999, max, mean }
    }
}

impl HandlerReport {
    /// What runs in an instance, the oldest first.
    pub(super) fn all(core: &Core) -> Vec<Self> {
        let now = core.host().deadlines.now();
        let name = |turn| name_of(core.methods(), turn).to_owned();
        let current = core.turns().current();
        let mut all = Vec::new();
        if current.is_running() {
            let age = core.since(current).map(|since| since.until(now));
            let callers = core.callers_of(current).names();
            all.push(Self { method: name(current), age, callers });
        }
        core.turns().look_at_all_beside(|beside| {
            let age = beside.run.since.map(|since| since.until(now));
            let callers = beside.callers.names();
            all.push(Self { method: name(beside.run.turn), age, callers });
        });
        all.sort_by_key(|handler| std::cmp::Reverse(handler.age));
        all
    }
}

impl WaitReport {
    /// The calls of an instance that wait, the oldest first.
    pub(super) fn all(core: &Core) -> Vec<Self> {
        let now = core.host().deadlines.now();
        let report = |call: WaitingCall| Self {
            method: call.by.to_owned(),
            address: call.address,
            service: call.name.map(String::from),
            called: format!("{}.{}", call.interface, call.method),
            age: call.since.until(now),
        };
        let mut all: Vec<_> = core.waiting_calls().into_iter().map(report).collect();
        all.sort_by_key(|wait| std::cmp::Reverse(wait.age));
        all
    }
}

/// The turns of an instance that run.
fn turns_of(core: &Core) -> impl Iterator<Item = Turn> {
    let mut turns = vec![core.turns().current()];
    core.turns().look_at_all_beside(|beside| turns.push(beside.run.turn));
    turns.into_iter().filter(|turn| turn.is_running())
}

/// How many messages wait in an instance's mailbox.
fn waiting(core: &Core) -> usize {
    core.mailbox().map_or(0, |mailbox| mailbox.waiting())
}
