//! How the work of a bench is run: as tasks of its runtime, alone or many at a time.

#![expect(clippy::disallowed_methods, reason = "benches measure with the real clock")]

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

/// Runs a task to its end. Callers are tasks, as in a program: the thread in `block_on` is no worker, and waking it
/// would cost more than the call that is measured.
pub(crate) fn run<F>(runtime: &Runtime, task: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime.block_on(runtime.spawn(task)).expect("a bench's task does not panic")
}

/// How long `operations` take, with as many callers as asked for, that begin together and share them.
pub(crate) async fn with_callers<F>(callers: u64, operations: u64, caller: impl Fn(u64) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let each = operations.div_ceil(callers);
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(caller(each))).collect();
    for task in tasks {
        task.await.expect("a caller does not panic");
    }
    // What was done beyond the operations asked for, by rounding up, does not count.
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are small")]
    started.elapsed().mul_f64(operations as f64 / (each * callers) as f64)
}
