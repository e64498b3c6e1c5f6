//! The service that the benches call, and calls to it by so many callers at a time.

use skyhold::prelude::*;
use tokio::runtime::Runtime;

use crate::floor::{Workload, run, timed, with_callers};

#[derive(Default)]
pub(crate) struct Counter {
    total: u64,
}

// A call from a peer that finds the mailbox full is refused: there must be room for all that are in flight.
#[service(mailbox = 1024)]
impl Counter {
    /// Adds `by` and returns the new total.
    pub async fn add(&mut self, by: u64) -> u64 {
        self.total += by;
        self.total
    }
}

pub(crate) fn calls<'a>(counter: &'a CounterHandle, runtime: &'a Runtime, callers: u64) -> Workload<'a> {
    let call = |counter: CounterHandle| {
        move |calls| {
            let counter = counter.clone();
            async move {
                for _ in 0..calls {
                    counter.add(1).await.expect("the counter answers");
                }
            }
        }
    };
    Box::new(move |operations| {
        let caller = call(counter.clone());
        run(runtime, async move {
            match callers {
                1 => timed(caller(operations)).await,
                _ => with_callers(callers, operations, caller).await,
            }
        })
    })
}

/// Sends as fast as there is room in the mailbox, and waits until all is done.
#[allow(dead_code, reason = "not every bench sends")]
pub(crate) fn sends<'a>(counter: &'a CounterHandle, runtime: &'a Runtime) -> Workload<'a> {
    Box::new(|operations| {
        let counter = counter.clone();
        run(runtime, async move {
            timed(async {
                for _ in 1..operations {
                    counter.add(1).send().await.expect("the counter runs");
                }
                counter.add(1).await.expect("the counter answers");
            })
            .await
        })
    })
}
