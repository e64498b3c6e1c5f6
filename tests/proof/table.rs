//! What a run has shown, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::board::Who;
use crate::clock::Micros;
use crate::ledger::Sum;

/// What one scenario has shown.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What was seen of the fault.
    pub(crate) in_force: Vec<String>,
    pub(crate) sum: Sum,
    times: BTreeMap<String, Vec<Duration>>,
    /// Who has told what when, and within what it should: judged when it is known what processor time its process got.
    pub(crate) limits: Vec<(Who, Micros, Micros, Duration, String)>,
    pub(crate) wrong: Vec<String>,
    pub(crate) took: Duration,
    /// Why it was not run.
    pub(crate) passed_over: Option<String>,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            in_force: Vec::new(),
            sum: Sum::default(),
            times: BTreeMap::new(),
            limits: Vec::new(),
            wrong: Vec::new(),
            took: Duration::ZERO,
            passed_over: None,
        }
    }

    pub(crate) fn measure(&mut self, what: &str, took: Duration) {
        self.times.entry(what.to_owned()).or_default().push(took);
    }

    /// Prints it, with what is wrong.
    pub(crate) fn print(&self) {
        if let Some(why) = &self.passed_over {
            println!("{:<28} NOT RUN: {why}", self.name);
            return;
        }
        let is_good = if self.wrong.is_empty() { "ok" } else { "FAILED" };
        println!("{:<28} {is_good} in {:.1} s", self.name, self.took.as_secs_f64());
        for fact in &self.in_force {
            println!("    in force  {fact}");
        }
        let kinds = self.sum.by_kind.iter().map(|(kind, count)| format!("{} {count}", kind.name()));
        let kinds: Vec<_> = kinds.collect();
        let (latest, of_its_own) = (millis(self.sum.latest), millis(self.sum.latest_of_its_own));
        println!(
            "    calls     {} made: {}; at most {latest} after the deadline, {of_its_own} without what the machine took",
            self.sum.made,
            kinds.join(", ")
        );
        for (what, took) in &self.times {
            let (least, most) = (took.iter().min().copied(), took.iter().max().copied());
            let (least, most) = (millis(least.unwrap_or_default()), millis(most.unwrap_or_default()));
            match took.len() {
                1 => println!("    measured  {what}: {most}"),
                count => println!("    measured  {what}: {least} to {most} ({count} times)"),
            }
        }
        for wrong in &self.wrong {
            println!("    WRONG     {wrong}");
        }
    }
}

/// Milliseconds in words.
fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
