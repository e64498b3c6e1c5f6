//! Timers of an instance: messages that are sent later, or again and again.
//!
//! Invariant: a timer is a child task of a life, and ends with it.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use crate::error::CallError;
use crate::event::DeadLetterReason;
use crate::service::call::Call;
use crate::service::context::Context;
use crate::service::core::Core;
use crate::service::message::Message;
use crate::time;

impl Context {
    /// Sends a message after `delay`: `context.after(Duration::from_secs(5), context.handle::<RoomHandle>().close())`. It is
    /// an ordinary send, to this instance or to any other, and takes its turn in the mailbox.
    ///
    /// The timer ends with this life of the instance: what has not been sent by then is not. It is as exact as tokio's
    /// timers, to about a millisecond, and never early. A message that finds no room within its `timeout` (the node's
    /// `call_timeout` if it has none) is a dead letter.
    pub fn after<R, M>(&self, delay: Duration, call: Call<R, M>) -> Timer
    where
        R: Send + 'static,
        M: Message,
    {
        let (core, at) = (Arc::clone(self.core()), time::now().checked_add(delay));
        Timer(self.spawn(async move {
            until(at).await;
            deliver(&core, call).await;
        }))
    }

    /// Sends a message every `period`, for the first time after one period: `context.every(Duration::from_secs(1), move ||
    /// room.tick())`. Each is an ordinary send, as in [`Context::after`].
    ///
    /// The times are multiples of the period from now on, however long anything takes: nothing drifts. **Missed times are
    /// skipped**: while a message of this timer waits for room in the mailbox no other is made, and the next one is sent at the
    /// next multiple. The rule is that of tokio's `MissedTickBehavior::Skip`.
    ///
    /// The timer ends with this life of the instance, or when `call` panics, which ends the life.
    ///
    /// # Panics
    /// If `period` is zero.
    pub fn every<R, M, F>(&self, period: Duration, mut call: F) -> Timer
    where
        R: Send + 'static,
        M: Message,
        F: FnMut() -> Call<R, M> + Send + 'static,
    {
        assert!(!period.is_zero(), "a timer needs a period of more than zero");
        let (core, start) = (Arc::clone(self.core()), time::now());
        Timer(self.spawn(async move {
            loop {
                until(next_multiple(start, period, time::now())).await;
                deliver(&core, call()).await;
            }
        }))
    }
}

/// The first time after `now` that is a multiple of `period` from `start` on; `None` if it never comes.
fn next_multiple(start: Instant, period: Duration, now: Instant) -> Option<Instant> {
    let passed = now.saturating_duration_since(start);
    let since_last = passed.as_nanos() % period.as_nanos();
    let left = period.as_nanos() - since_last;
    // More than 500 years do not come.
    now.checked_add(Duration::from_nanos(u64::try_from(left).ok()?))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => time::sleep_until(at).await,
        None => pending().await,
    }
}

/// Sends a timer's message. One that cannot be sent is noted, since nobody waits for it.
async fn deliver<R: Send + 'static, M: Message>(core: &Core, call: Call<R, M>) {
    let handler = call.name();
    if let Err(error) = call.send().await {
        tracing::debug!(%error, handler, "a timer's message was not delivered");
        if matches!(error, CallError::Overloaded(_)) {
            core.host().dead_letter(handler, false, DeadLetterReason::Overloaded);
        }
    }
}

/// A timer that runs. Dropping it does not end it.
pub struct Timer(AbortHandle);

impl Timer {
    /// Ends the timer: it sends nothing any more. What it has put into a mailbox stays there.
    pub fn cancel(&self) {
        self.0.abort();
    }

    /// Whether it will send nothing any more: it has sent its one message, was cancelled, or its life ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("is_finished", &self.is_finished()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_the_next_multiple_and_never_now() {
        let start = time::now();
        let ms = Duration::from_millis;
        for (passed, expected) in [(0, 10), (1, 10), (9, 10), (10, 20), (11, 20), (35, 40)] {
            let next = next_multiple(start, ms(10), start + ms(passed)).unwrap();
            assert_eq!(next - start, ms(expected), "after {passed} ms");
        }
        assert_eq!(next_multiple(start, Duration::MAX, start), None);
    }
}
