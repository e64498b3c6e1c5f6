//! The stream of a node's events.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::event::Event;

/// A node's events, from the moment of `Node::events` on.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    missed: u64,
}

impl Events {
    pub(crate) fn new(receiver: Receiver<Event>) -> Self {
        Self { receiver, missed: 0 }
    }

    /// The next event; `None` when the node is gone. A reader that lags more than 1024 events behind misses the
    /// oldest: see [`Events::missed`].
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(missed)) => self.missed += missed,
            }
        }
    }

    /// How many events this reader was too slow for.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}
