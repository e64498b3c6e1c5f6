//! One scenario while it runs: its nodes, what was seen in force, what was measured, and what is wrong. Nothing ends a scenario at its first
//! mistake but an error that leaves nothing to go on with.

use std::path::Path;
use std::time::Duration;

use crate::Fallible;
use crate::board::Told;
use crate::clock::{self, Micros, between};
use crate::cluster::{Cluster, pairs};
use crate::ledger::Ledger;
use crate::network::Network;
use crate::records::CallRecord;
use crate::table::Row;
use crate::words::{Calls, Mix, NODES, What, name};

/// What a busy machine may add to a time that is promised. The times that it would take if the promise did not hold are seconds longer.
pub(crate) const SLACK: Duration = Duration::from_millis(400);

/// Within what silence is known, and within what a cluster that was cut is whole again.
pub(crate) const SILENCE: Duration = Duration::from_secs(5);
pub(crate) const HEALED: Duration = Duration::from_secs(10);

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How often each node calls in a second.
    pub(crate) per_second: u32,
    pub(crate) is_full: bool,
}

/// A scenario.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: Cluster<'a>,
    pub(crate) plan: Plan,
    pub(crate) chance: fastrand::Rng,
    pub(crate) row: Row,
    /// When something was made to fail.
    faults: Vec<Micros>,
    /// Since when, until when, and for which calls none may fail.
    faultless: Vec<(Micros, Micros, Wanted)>,
}

type Wanted = Box<dyn Fn(&CallRecord) -> bool>;

impl<'a> Scene<'a> {
    pub(crate) fn begin(
        name: &'static str,
        plan: Plan,
        network: &'a Network,
        folder: &Path,
    ) -> Fallible<Self> {
        let cluster = Cluster::start(network, folder)?;
        // Each scenario's choices are its own, so that one that is run alone makes the same ones.
        let mix =
            name.bytes().fold(plan.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let chance = fastrand::Rng::with_seed(mix);
        Ok(Self { cluster, plan, chance, row: Row::new(name), faults: Vec::new(), faultless: Vec::new() })
    }

    /// All nodes call from now on. Returns when calls have gone well for a moment.
    pub(crate) fn load(&mut self, calls: Calls) -> Fallible<()> {
        let all: Vec<_> = (0..NODES).collect();
        self.cluster.load(&all, calls)?;
        let begin = clock::now();
        pause(500);
        self.none_may_fail(begin, clock::now(), |_| true);
        Ok(())
    }

    /// Calls to anybody and to each, half as many as in [`Scene::routed`]: when a cut heals, what was held up comes on top of them. Their
    /// deadline is short, so that many pass it.
    pub(crate) fn mixed(&self) -> Calls {
        let deadline = Duration::from_secs(1);
        Calls { per_second: self.plan.per_second / 2, mix: Mix::RoutedAndEach, deadline }
    }

    /// Calls to anybody, half as many as the nodes can do at most. Their deadline is long: it is not the machine that is to fail one.
    pub(crate) fn routed(&self) -> Calls {
        Calls { per_second: self.plan.per_second, mix: Mix::Routed, deadline: Duration::from_secs(5) }
    }

    /// Some nodes in an order by chance.
    pub(crate) fn shuffled(&mut self) -> [usize; NODES] {
        let mut nodes = std::array::from_fn(|node| node);
        self.chance.shuffle(&mut nodes);
        nodes
    }

    /// Something is made to fail from now on.
    pub(crate) fn fault(&mut self) -> Micros {
        let now = clock::now();
        self.faults.push(now);
        now
    }

    /// A fact about the fault that was seen.
    pub(crate) fn seen(&mut self, fact: impl Into<String>) {
        self.row.in_force.push(fact.into());
    }

    pub(crate) fn check(&mut self, holds: bool, else_: impl FnOnce() -> String) {
        if !holds {
            self.row.wrong.push(else_());
        }
    }

    /// Shows by datagrams that exactly these ways are open: `is_open(from, to)`.
    pub(crate) fn ways(&mut self, fault: &str, is_open: impl Fn(usize, usize) -> bool) -> Fallible<()> {
        let heard = self.cluster.reach(&is_open)?;
        let wrong = pairs().filter(|(from, to)| heard[*from][*to] != is_open(*from, *to));
        let wrong: Vec<_> = wrong.map(|(from, to)| format!("{}->{}", name(from), name(to))).collect();
        let closed = pairs().filter(|(from, to)| !heard[*from][*to]).count();
        self.check(wrong.is_empty(), || format!("{fault}: not in force for {}", wrong.join(" ")));
        if closed > 0 {
            self.seen(format!("{fault}: of 20 ways {closed} carry no datagram"));
        }
        Ok(())
    }

    /// Calls that are begun between these moments may not fail, but by the next fault.
    pub(crate) fn none_may_fail(
        &mut self,
        from: Micros,
        to: Micros,
        wanted: impl Fn(&CallRecord) -> bool + 'static,
    ) {
        self.faultless.push((from, to, Box::new(wanted)));
    }

    /// Waits until all is whole again, and then for calls that go well.
    pub(crate) fn heals(&mut self, since: Micros, what: &str) -> Fallible<()> {
        let limit = HEALED + SLACK;
        let whole = self.cluster.all_see_all(limit + HEALED);
        let took = whole.map(|at| between(since, at));
        self.time(what, took, limit);
        whole.ok_or("the cluster does not become whole")?;
        self.all_goes_well(1000);
        Ok(())
    }

    /// From now on for a while no call may fail.
    pub(crate) fn all_goes_well(&mut self, millis: u64) {
        let begin = clock::now();
        pause(millis);
        self.none_may_fail(begin, clock::now(), |_| true);
    }

    /// When each of these nodes has first told this of that node since then; none that has not.
    pub(crate) fn told(&self, what: What, of: usize, since: Micros) -> Vec<Told> {
        let mut told = self.cluster.board.told(what, since);
        told.retain(|told| told.of == name(of));
        told.sort_by_key(|told| (told.by.node, told.at));
        told.dedup_by_key(|told| told.by.node);
        told
    }

    /// Waits until each of these observers has told this of that node. Gives how long the last took, and checks it. The time that an observer's
    /// process got no processor is added to what is allowed.
    pub(crate) fn all_tell(
        &mut self,
        observers: &[usize],
        (what, of): (What, usize),
        since: Micros,
        limit: Duration,
    ) -> Vec<Told> {
        let begin = std::time::Instant::now();
        let (label, patience) = (format!("{what:?} {}", name(of)), limit + Duration::from_secs(10));
        loop {
            let mut told = self.told(what, of, since);
            told.retain(|told| observers.contains(&told.by.node));
            if told.len() == observers.len() || begin.elapsed() > patience {
                for told in &told {
                    self.row.measure(&label, between(since, told.at));
                    self.row.limits.push((told.by, since, told.at, limit, label.clone()));
                }
                let silent = observers.iter().filter(|node| told.iter().all(|told| told.by.node != **node));
                let silent: Vec<_> = silent.map(|node| name(*node)).collect();
                self.check(silent.is_empty(), || format!("{label} was never told by {}", silent.join(" ")));
                return told;
            }
            pause(5);
        }
    }

    /// Nobody has told this since then.
    pub(crate) fn nobody_tells(&mut self, what: What, since: Micros) {
        let told = self.cluster.board.told(what, since);
        let told: Vec<_> =
            told.iter().map(|told| format!("n{} {what:?} {} {}", told.by.node, told.of, told.why)).collect();
        self.check(told.is_empty(), || format!("told though nothing of it is so: {}", told.join(", ")));
    }

    /// A measured time, which is to be within its limit.
    pub(crate) fn time(&mut self, what: &str, took: Option<Duration>, limit: Duration) {
        if let Some(took) = took {
            self.row.measure(what, took);
        }
        let holds = took.is_some_and(|took| took <= limit);
        self.check(holds, || format!("{what}: {took:?}, and it should be within {limit:?}"));
    }

    /// Ends all calls, and holds what was written down against the promises.
    pub(crate) fn end(mut self) -> Row {
        let running = self.cluster.running();
        if let Err(error) = self.cluster.rest(&running) {
            self.row.wrong.push(error.to_string());
        }
        let lives = self.cluster.all_lives();
        match Ledger::read(&self.cluster.folder, lives) {
            Ok(ledger) => self.judge(&ledger),
            Err(error) => self.row.wrong.push(format!("the records cannot be read: {error}")),
        }
        self.row
    }

    fn judge(&mut self, ledger: &Ledger) {
        let mut sum = ledger.judge(&self.cluster.killed);
        self.row.wrong.append(&mut sum.broken);
        for (who, since, at, limit, label) in std::mem::take(&mut self.row.limits) {
            let (took, stood) = (between(since, at), ledger.lateness(who, since, at));
            let holds = took <= limit + stood;
            self.check(holds, || {
                format!("{label} took {took:?} at n{}, and it should be within {limit:?}", who.node)
            });
        }
        for (from, to, wanted) in std::mem::take(&mut self.faultless) {
            let next = self.faults.iter().copied().filter(|fault| *fault >= to).min();
            let (all, failed, example) = ledger.failed((from, to), next, wanted);
            let time = between(from, to);
            self.check(failed == 0, || {
                format!("{failed} of {all} calls failed where none may, such as {example}")
            });
            self.check(all > 0, || format!("no call was made in {time:?} in which some should"));
        }
        self.row.sum = sum;
    }
}

/// Lets time pass.
pub(crate) fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
