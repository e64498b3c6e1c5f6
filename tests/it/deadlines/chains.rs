//! A deadline, and a caller that gives up, reach through services and nodes.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::poll;
use skyhold::prelude::*;
use skyhold::testing::Cluster;

use crate::gate::{Gate, Watch, settle};

const SECOND: Duration = Duration::from_secs(1);

/// One of a row of services, each on a node of its own. The last one never answers.
#[derive(Clone)]
struct Hop {
    next: Option<HopHandle>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    arrived: Gate,
    /// How long after its beginning the handler ended.
    ended: Mutex<Option<Duration>>,
    /// How much time the handler had at its beginning.
    left: Mutex<Option<Duration>>,
}

#[service]
impl Hop {
    pub async fn relay(&self, context: &Context) -> Result<(), String> {
        let watch = Watch::start();
        let now = tokio::time::Instant::now().into_std();
        *self.seen.left.lock().unwrap() = context.deadline().map(|deadline| deadline - now);
        self.seen.arrived.open();
        let result = tokio::select! {
            result = self.next() => result,
            () = context.cancelled() => Ok(()),
        };
        *self.seen.ended.lock().unwrap() = Some(watch.elapsed());
        result
    }
}

impl Hop {
    /// What the next one says.
    async fn next(&self) -> Result<(), String> {
        match &self.next {
            Some(next) => next.relay().await.map_err(|error| error.to_string())?,
            None => std::future::pending().await,
        }
    }
}

/// Three nodes with a service each, the first of which calls the second and that one the third.
async fn row() -> (Cluster, HopHandle, Vec<Arc<Seen>>) {
    let cluster = Cluster::start(4).await;
    let (mut next, mut row) = (None, Vec::new());
    for (node, name) in [(3, "third"), (2, "second"), (1, "first")] {
        let hop = Hop { next: next.take(), seen: Arc::default() };
        row.insert(0, Arc::clone(&hop.seen));
        cluster[node].service(name, move || hop.clone()).start().await.unwrap();
        next = Some(HopHandle::lookup(&cluster[node - 1], name).await.unwrap());
    }
    (cluster, next.unwrap(), row)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_reaches_over_three_nodes_and_stops_every_hop_in_time() {
    let (cluster, first, row) = row().await;
    cluster.delay(Duration::from_millis(10)).await;
    let watch = Watch::start();
    let error = first.relay().timeout(2 * SECOND).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout(_)), "{error:?}");
    watch.assert_ended_at(2 * SECOND);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for seen in row {
        let left = seen.left.lock().unwrap().expect("it was inherited");
        assert!(left <= 2 * SECOND, "{left:?}");
        let ended = seen.ended.lock().unwrap().expect("it stopped");
        assert!(ended <= 2 * SECOND + Duration::from_millis(100), "{ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_cancels_the_handler_two_hops_away() {
    let (_cluster, first, row) = row().await;
    let mut call = Box::pin(first.relay().into_future());
    assert!(poll!(&mut call).is_pending());
    row[2].arrived.pass().await;
    settle().await;
    assert!(row.iter().all(|seen| seen.ended.lock().unwrap().is_none()), "all of them run");
    let watch = Watch::start();
    drop(call);
    settle().await;
    for seen in row {
        assert!(seen.ended.lock().unwrap().is_some());
    }
    watch.assert_at_once();
}
