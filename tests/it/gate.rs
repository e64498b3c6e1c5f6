//! What the tests hold handlers with, and how they wait: for events, never for time that passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use skyhold::Node;
use tokio::sync::watch;

/// A place in a handler where the test holds it until it opens the gate.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    arrived: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { arrived: watch::Sender::new(0), open: watch::Sender::new(false) }))
    }

    /// A gate that holds nobody.
    pub(crate) fn opened() -> Self {
        let gate = Self::new();
        gate.open();
        gate
    }

    /// Waits for the gate to open.
    pub(crate) async fn pass(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        let mut open = self.0.open.subscribe();
        open.wait_for(|open| *open).await.unwrap();
    }

    /// Lets everybody through, now and later.
    pub(crate) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// How many have come here.
    pub(crate) fn arrived(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Waits until `count` have come here.
    pub(crate) async fn reached(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= count).await.unwrap();
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The entries since the last time that they were taken.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The entries, parted by spaces.
    pub(crate) fn line(&self) -> String {
        self.entries().join(" ")
    }
}

/// A node that opens no socket.
pub(crate) async fn local_node() -> Node {
    Node::builder("a").start().await.unwrap()
}

/// Waits until nothing more happens by itself. Needs the paused clock, which moves only when every task waits.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Measures the paused clock.
#[derive(Debug)]
pub(crate) struct Watch(tokio::time::Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Asserts that no deadline was waited for.
    #[track_caller]
    pub(crate) fn assert_at_once(&self) {
        let elapsed = self.elapsed();
        assert!(elapsed < Duration::from_millis(100), "it took {elapsed:?}");
    }

    /// Asserts that `deadline` was kept, and that it was waited for.
    #[track_caller]
    pub(crate) fn assert_ended_at(&self, deadline: Duration) {
        let elapsed = self.elapsed();
        let limit = deadline + Duration::from_millis(100);
        assert!(
            deadline <= elapsed && elapsed <= limit,
            "it took {elapsed:?}, the deadline was {deadline:?}"
        );
    }
}
