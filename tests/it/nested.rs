//! Handlers that call on: what travels with a call through several nodes.
#![allow(clippy::disallowed_methods, reason = "a test outside the runtime has its own clock")]

use std::sync::Arc;
use std::time::Duration;

use skyhold::prelude::*;
use skyhold::testing::Cluster;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Calls the next of a list of names, and so on.
#[derive(Clone, Default)]
struct Relay {
    begun: Arc<Notify>,
    cancelled: Arc<Notify>,
    gate: Arc<Notify>,
}

#[service]
impl Relay {
    /// How many milliseconds the last of the names has left for its answer.
    pub async fn time_left(&self, context: &Context, then: Vec<String>) -> Result<u64, String> {
        match next(context, then).await {
            Some((relay, then)) => relay.time_left(then).await.map_err(|error| error.to_string())?,
            None => {
                let deadline = context.deadline().ok_or("no deadline")?;
                let left = deadline.saturating_duration_since(Instant::now().into_std());
                Ok(u64::try_from(left.as_millis()).map_err(|error| error.to_string())?)
            }
        }
    }

    /// The last of the names never answers.
    pub async fn hang(&self, context: &Context, then: Vec<String>) -> Result<(), String> {
        match next(context, then).await {
            Some((relay, then)) => relay.hang(then).await.map_err(|error| error.to_string())?,
            None => {
                self.begun.notify_one();
                context.cancelled().await;
                self.cancelled.notify_one();
                std::future::pending().await
            }
        }
    }

    /// Visits all the names, exclusively.
    pub async fn alone(&mut self, context: &Context, then: Vec<String>) -> Result<u64, String> {
        match next(context, then).await {
            Some((relay, then)) => relay.alone(then).await.map_err(|error| error.to_string())?,
            None => Ok(1),
        }
    }

    /// Visits all the names, beside others.
    pub async fn beside(&self, context: &Context, then: Vec<String>) -> Result<u64, String> {
        match next(context, then).await {
            Some((relay, then)) => relay.beside(then).await.map_err(|error| error.to_string())?,
            None => Ok(1),
        }
    }

    /// As `beside`, but waits for the gate before it goes on.
    pub async fn gated(&self, context: &Context, then: Vec<String>) -> Result<u64, String> {
        self.begun.notify_one();
        self.gate.notified().await;
        self.beside(context, then).await
    }

    pub fn change(&mut self) -> u64 {
        2
    }
}

async fn next(context: &Context, mut then: Vec<String>) -> Option<(RelayHandle, Vec<String>)> {
    if then.is_empty() {
        return None;
    }
    let name = then.remove(0);
    Some((RelayHandle::lookup(&context.node(), &name).await.unwrap(), then))
}

/// Three nodes with a relay each, named after its node, and a handle on the first node to that on the second.
struct Scene {
    cluster: Cluster,
    relays: Vec<Relay>,
    b: RelayHandle,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start(3).await;
        let mut relays = Vec::new();
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let relay = Relay::default();
            relays.push(relay.clone());
            cluster[index].service(name, move || relay.clone()).start().await.unwrap();
        }
        for index in 0..3 {
            for name in ["a", "b", "c"] {
                RelayHandle::lookup(&cluster[index], name).await.unwrap();
            }
        }
        let b = RelayHandle::lookup(&cluster[0], "b").await.unwrap();
        Self { cluster, relays, b }
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_deadline_travels_through_nodes_as_the_time_that_is_left() {
    let Scene { cluster, b, .. } = Scene::new().await;
    cluster.delay(Duration::from_millis(100)).await;
    let left = b.time_left(vec![]).timeout(Duration::from_secs(2)).await.unwrap().unwrap();
    let further = b.time_left(names(&["c"])).timeout(Duration::from_secs(2)).await.unwrap().unwrap();
    // The clocks of two nodes are never compared, so what a request spends on the wire is not seen by its receiver.
    assert!((1900..=2000).contains(&left), "{left} ms at the first node");
    assert!((1800..=2000).contains(&further), "{further} ms at the second");
    let own = b.time_left(names(&["c"])).await.unwrap().unwrap();
    assert!((29_000..=30_000).contains(&own), "{own} ms of the default of 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_nested_call_ends_with_the_first_caller_s_deadline_on_every_node() {
    let Scene { cluster: _cluster, relays, b } = Scene::new().await;
    let begin = Instant::now();
    let answer = b.hang(names(&["c"])).timeout(Duration::from_millis(500)).await;
    let took = begin.elapsed();
    // Both callers' deadline is the same instant: the inner one's error may just get through.
    match answer {
        Err(error) => assert!(matches!(error, CallError::Timeout(_)), "{error:?}"),
        Ok(inner) => assert!(inner.unwrap_err().starts_with("timeout: "), "the inner call's error"),
    }
    assert!(took >= Duration::from_millis(500) && took <= Duration::from_millis(600), "{took:?}");
    relays[2].begun.notified().await;
    let cancelled = tokio::time::timeout(Duration::from_millis(100), relays[2].cancelled.notified());
    assert!(cancelled.await.is_ok(), "the last handler was not cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_exclusive_handlers_across_nodes_is_a_deadlock_with_the_whole_chain_at_once() {
    let Scene { cluster: _cluster, b, .. } = Scene::new().await;
    for (circle, expected) in [
        (&["c", "b"][..], "deadlock: relay.alone@n1#1 -> relay.alone@n2#1 -> relay.alone@n1#1"),
        (
            &["c", "a", "b"],
            "deadlock: relay.alone@n1#1 -> relay.alone@n2#1 -> relay.alone@n0#1 -> relay.alone@n1#1",
        ),
        (&["b"], "deadlock: relay.alone@n1#1 -> relay.alone@n1#1"),
    ] {
        let begin = Instant::now();
        let error = b.alone(names(circle)).await.unwrap().unwrap_err();
        assert_eq!(error, expected);
        assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    }
    assert_eq!(b.alone(names(&["c", "a"])).await, Ok(Ok(1)), "no circle");
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_shared_handlers_across_nodes_ends_well() {
    let Scene { cluster: _cluster, b, .. } = Scene::new().await;
    assert_eq!(b.beside(names(&["c", "b", "a", "b", "c"])).await, Ok(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_exclusive_message_does_not_stop_a_shared_circle_across_nodes() {
    let Scene { cluster, relays, b } = Scene::new().await;
    let circle = b.gated(names(&["c", "b"])).into_future();
    let here = RelayHandle::lookup(&cluster[1], "b").await.unwrap();
    let change = async {
        relays[1].begun.notified().await;
        let change = here.change().into_future();
        // By the time the gate opens the exclusive message waits in front of the circle's second visit.
        let open = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            relays[1].gate.notify_one();
        };
        tokio::join!(change, open).0
    };
    let begin = Instant::now();
    let (circle, change) = tokio::join!(circle, change);
    assert_eq!((circle, change), (Ok(Ok(1)), Ok(2)));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
