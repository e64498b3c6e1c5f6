//! How a bench stands beside its raw floor: the same runtime for both, in turns, in one run; and the closing table.
//!
//! It measures and must never know what is measured.

#![expect(clippy::disallowed_methods, reason = "benches measure with the real clock")]

mod flavor;
mod tasks;

use std::time::{Duration, Instant};

use criterion::Criterion;
use criterion::measurement::WallTime;

pub(crate) use flavor::Flavor;
pub(crate) use tasks::{run, with_callers};

/// A workload: performs as many operations as it is told to and says how long they took.
pub(crate) type Workload<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// How long a future takes.
pub(crate) async fn timed(future: impl Future<Output = ()>) -> Duration {
    let started = Instant::now();
    future.await;
    started.elapsed()
}

/// Collects what the closing table tells.
pub(crate) struct Table {
    title: &'static str,
    /// What stands beside what.
    sides: [&'static str; 2],
    rows: Vec<Row>,
    /// Whether a profile is taken, in which the floor would only be in the way.
    profiling: bool,
}

struct Row {
    name: String,
    /// Seconds per operation of each turn: raw, Skyhold.
    turns: Vec<(f64, f64)>,
}

/// How often the two change places within one of criterion's samples.
const TURNS: u64 = 4;

/// A turn shorter than this tells nothing.
const SHORTEST: Duration = Duration::from_millis(1);

impl Table {
    #[allow(dead_code, reason = "one bench has other sides")]
    pub(crate) fn new(title: &'static str) -> Self {
        Self::between(title, ["raw", "skyhold"])
    }

    /// A table of two sides with these names.
    pub(crate) fn between(title: &'static str, sides: [&'static str; 2]) -> Self {
        Self {
            title,
            sides,
            rows: Vec::new(),
            profiling: std::env::args().any(|argument| argument == "--profile-time"),
        }
    }

    /// Measures a workload beside its raw floor. While Skyhold is measured the two take turns, so that the ratio does
    /// not depend on how busy the machine happened to be.
    pub(crate) fn compare(
        &mut self,
        criterion: &mut Criterion<WallTime>,
        name: String,
        mut raw: Workload<'_>,
        mut skyhold: Workload<'_>,
    ) {
        let mut turns = Vec::new();
        let profiling = self.profiling;
        let mut group = criterion.benchmark_group(&name);
        group.bench_function(self.sides[0], |bencher| bencher.iter_custom(&mut raw));
        group.bench_function(self.sides[1], |bencher| {
            bencher.iter_custom(|operations| {
                if profiling {
                    return skyhold(operations);
                }
                let turn = operations.div_ceil(TURNS);
                let mut total = Duration::ZERO;
                let mut done = 0;
                while done < operations {
                    // Each goes first as often as the other: the scheduler favours who comes after a rest.
                    let (floor, own) = if turns.len().is_multiple_of(2) {
                        (raw(turn), skyhold(turn))
                    } else {
                        let own = skyhold(turn);
                        (raw(turn), own)
                    };
                    if own >= SHORTEST {
                        turns.push((per_operation(floor, turn), per_operation(own, turn)));
                    }
                    total += own;
                    done += turn;
                }
                #[expect(clippy::cast_precision_loss, reason = "counts of operations are small")]
                total.mul_f64(operations as f64 / done as f64)
            });
        });
        group.finish();
        self.rows.push(Row { name, turns });
    }

    /// Prints medians and ratios.
    #[expect(clippy::print_stdout, reason = "this is a bench's output")]
    pub(crate) fn print(self) {
        if self.rows.iter().all(|row| row.turns.is_empty()) {
            return; // criterion only tried whether the benches run
        }
        let [one, other] = self.sides;
        let columns = [one, other].map(|side| format!("{side} µs")).into_iter();
        let columns: Vec<_> = columns.chain([one, other].map(|side| format!("{side} /s"))).collect();
        print!("\n{:<44}", self.title);
        columns.iter().for_each(|column| print!(" {column:>12}"));
        println!(" {:>7}", "ratio");
        for Row { name, turns } in self.rows.iter().filter(|row| !row.turns.is_empty()) {
            let raw = median(turns.iter().map(|turn| turn.0));
            let own = median(turns.iter().map(|turn| turn.1));
            let ratio = own / raw;
            println!(
                "{name:<44} {:>12.3} {:>12.3} {:>12.0} {:>12.0} {ratio:>7.3}",
                raw * 1e6,
                own * 1e6,
                1.0 / raw,
                1.0 / own,
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of operations are small")]
fn per_operation(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() / operations as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Criterion, set so that a whole bench stays under a minute.
pub(crate) fn criterion() -> Criterion<WallTime> {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args()
}
