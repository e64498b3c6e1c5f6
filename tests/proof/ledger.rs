//! What became of every call of a scenario, against what every service ran: the promises on delivery, read from the files at the end.
//!
//! It trusts what was written down, and nothing that the framework counts itself.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::board::Who;
use crate::clock::{Micros, between, micros};
use crate::records::{self, CallRecord, Kind, caller, path};
use crate::words::{NODES, name};

/// What is promised: a call ends by its deadline plus this.
const PROMISED: Duration = Duration::from_millis(100);

/// What a busy machine may add to it, besides the time in which the process got no processor, which is measured (`processor`): a few slices of the
/// scheduler.
const SLACK: Duration = Duration::from_millis(100);

/// What the runtime's queue may add at most: a task that only sleeps was woken late, since thousands of calls ended in one moment, as at a
/// break or at a heal, in a build without optimisation on two processors that five nodes share. A call that is forgotten until something else comes along
/// is later than that.
const QUEUE: Duration = Duration::from_millis(400);

/// All records of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) calls: Vec<CallRecord>,
    /// How often each number was run.
    ran: HashMap<u64, u32>,
    /// Of each life, when its process was woken late: from when it should have been until it was.
    late: Spans,
    /// The same, of each thread that waited for a processor, by the system's account.
    waited: Spans,
    /// The same of a task of its runtime.
    behind: Spans,
}

/// Times from one moment to another, in the lives of nodes.
type Spans = HashMap<Who, Vec<(Micros, Micros)>>;

/// What the calls came to.
#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) made: usize,
    pub(crate) by_kind: BTreeMap<Kind, usize>,
    /// How long after its deadline the latest call ended, and without the time in which its process got no processor.
    pub(crate) latest: Duration,
    pub(crate) latest_of_its_own: Duration,
    pub(crate) broken: Vec<String>,
}

impl Ledger {
    /// Reads what the lives of the nodes have written.
    pub(crate) fn read(folder: &Path, lives: impl IntoIterator<Item = Who>) -> io::Result<Self> {
        let mut ledger = Self::default();
        for who in lives {
            let file = |sort| path(folder, who.node, who.life, sort);
            ledger.calls.extend(records::read(&file("calls"))?.into_iter().map(CallRecord::read));
            for [number] in records::read(&file("ran"))? {
                *ledger.ran.entry(number).or_default() += 1;
            }
            let spans = |sort| {
                let spans = records::read(&file(sort))?;
                io::Result::Ok(spans.into_iter().map(|[from, to]| (from, to)).collect())
            };
            ledger.late.insert(who, spans("late")?);
            ledger.waited.insert(who, spans("waited")?);
            ledger.behind.insert(who, spans("behind")?);
        }
        Ok(ledger)
    }

    /// Holds the promises. `killed` are the lives that could not write down what became of their last calls.
    pub(crate) fn judge(&self, killed: &[Who]) -> Sum {
        let mut sum = Sum { made: self.calls.len(), ..Sum::default() };
        let mut wrong = Wrong::default();
        for call in &self.calls {
            *sum.by_kind.entry(call.kind).or_default() += 1;
            let ran = self.ran.get(&call.number).copied().unwrap_or(0);
            match (call.kind == Kind::OK, call.may_have_run, ran) {
                (_, _, 2..) => wrong.add("ran more than once (1)", call),
                (true, _, 0) => wrong.add("was answered and did not run (3)", call),
                (false, false, 1) => wrong.add("says that it did not run, and it did (5)", call),
                _ => {}
            }
            let over = call.took.saturating_sub(call.deadline);
            sum.latest = sum.latest.max(over);
            let late = overlaps(&self.late, call).sum::<Duration>();
            let waited = overlaps(&self.waited, call).max().unwrap_or_default();
            let over = over.saturating_sub(late.max(waited));
            sum.latest_of_its_own = sum.latest_of_its_own.max(over);
            let queue = overlaps(&self.behind, call).sum::<Duration>().min(QUEUE);
            if over > PROMISED + SLACK + queue {
                wrong.add("ended too late after its deadline (3)", call);
            }
        }
        let known: std::collections::HashSet<_> = self.calls.iter().map(|call| call.number).collect();
        for (number, ran) in &self.ran {
            let (node, life) = caller(*number);
            let who = Who { node, life };
            if *ran > 1 && !known.contains(number) {
                wrong.note("ran more than once (1)", format!("number {number:x}"));
            }
            if !known.contains(number) && !killed.contains(&who) {
                wrong.note("ran, and nobody knows of the call (3)", format!("number {number:x} of {who:?}"));
            }
        }
        sum.broken = wrong.lines();
        sum
    }

    /// How long a life was woken late at worst between two moments.
    pub(crate) fn lateness(&self, who: Who, from: Micros, to: Micros) -> Duration {
        let both = [self.late.get(&who), self.waited.get(&who)];
        let late = both.into_iter().flatten().flatten();
        let within = late.filter(|(begin, end)| *begin < to && *end > from);
        within.map(|(begin, end)| between(*begin, *end)).max().unwrap_or_default()
    }

    /// Of the calls that were begun between two moments and are `wanted`: how many there are, how many failed before the next fault, and one of
    /// those in words.
    pub(crate) fn failed(
        &self,
        (from, to): (Micros, Micros),
        next: Option<Micros>,
        wanted: impl Fn(&CallRecord) -> bool,
    ) -> (usize, usize, String) {
        let begun = self.calls.iter().filter(|call| (from..to).contains(&call.began) && wanted(call));
        let (mut all, mut failed, mut example) = (0, 0, String::new());
        for call in begun {
            all += 1;
            if call.kind != Kind::OK && next.is_none_or(|next| call.ended() < next) {
                failed += 1;
                if example.is_empty() {
                    example = in_words(call);
                }
            }
        }
        (all, failed, example)
    }
}

/// How much of each of these spans of its caller lies between a call's deadline and its end.
fn overlaps<'a>(spans: &'a Spans, call: &CallRecord) -> impl Iterator<Item = Duration> + use<'a> {
    let (node, life) = caller(call.number);
    let (deadline, ended) = (call.began + micros(call.deadline), call.ended());
    let is_late = ended > deadline;
    let spans = spans.get(&Who { node, life }).filter(|_| is_late).into_iter().flatten();
    spans.map(move |(from, to)| between((*from).max(deadline), (*to).min(ended)))
}

/// What is wrong, by what is broken, with the first example.
#[derive(Debug, Default)]
struct Wrong(BTreeMap<&'static str, (usize, String)>);

impl Wrong {
    fn add(&mut self, what: &'static str, call: &CallRecord) {
        self.note(what, in_words(call));
    }

    fn note(&mut self, what: &'static str, example: String) {
        self.0.entry(what).or_insert((0, example)).0 += 1;
    }

    fn lines(self) -> Vec<String> {
        let line = |(what, (count, example))| format!("{count} calls: {what}, such as: {example}");
        self.0.into_iter().map(line).collect()
    }
}

fn in_words(call: &CallRecord) -> String {
    let (node, life) = caller(call.number);
    let to = call.target.filter(|to| *to < NODES).map_or_else(|| "anybody".to_owned(), name);
    let (kind, began) = (call.kind.name(), call.began);
    format!("{:x} of n{node}.{life} to {to}, begun at {began}, {kind} after {:?}", call.number, call.took)
}
