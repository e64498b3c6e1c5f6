//! Wakes callers whose deadline has passed, with one timer for all of a node's calls.
//!
//! A call that waits parks its waker here and takes it back when the reply comes, which costs two short locks and no
//! timer. One task sleeps until the earliest deadline that was ever parked since its last look.
//!
//! Invariant: it wakes and nothing more. The caller decides, by the clock, what the wake-up means.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use crate::time;

/// A power of two, so that a shard is found by masking.
const SHARDS: usize = 16;

/// The parked callers of one node.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    shards: [Mutex<Shard>; SHARDS],
    /// When the task wakes next, in nanoseconds since `start`; `u64::MAX` while nobody is parked.
    next_look: AtomicU64,
    /// Tells the task that somebody parked with an earlier deadline.
    earlier: Notify,
    /// Set when the task has ended, with its node: nobody would be woken any more.
    closed: AtomicBool,
}

/// Guards one slice of the parked callers.
#[derive(Debug, Default)]
struct Shard {
    waiting: Slab<Waiting>,
    /// Not later than any deadline in `waiting`.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    deadline: Instant,
    waker: Waker,
}

/// A caller's place. It must be given back with [`Deadlines::unpark`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Parked {
    shard: usize,
    key: usize,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            start: time::now(),
            shards: Default::default(),
            next_look: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Wakes `waker` soon after `deadline`, unless it is unparked before.
    pub(crate) fn park(&self, deadline: Instant, waker: &Waker) -> Parked {
        // Callers of one thread differ in their task, so the task's address spreads them over the shards.
        let index = (waker.data().addr() >> 7) & (SHARDS - 1);
        let mut shard = self.shard(index);
        let key = shard.waiting.insert(Waiting { deadline, waker: waker.clone() });
        let is_earliest = shard.earliest.is_none_or(|earliest| deadline < earliest);
        // Read under the lock: either the task's second look comes later and finds this caller, or this read comes
        // later than the task's store and finds it.
        let is_earlier = is_earliest && self.nanos(deadline) < self.next_look.load(Ordering::Acquire);
        if is_earliest {
            shard.earliest = Some(deadline);
        }
        drop(shard);
        if is_earlier {
            self.earlier.notify_one();
        }
        // After the place is taken: either `close` finds it, or its mark is seen here.
        if self.is_closed() {
            waker.wake_by_ref();
        }
        Parked { shard: index, key }
    }

    /// Keeps the place, for a caller that now waits with another waker.
    pub(crate) fn repark(&self, parked: &Parked, waker: &Waker) {
        let mut shard = self.shard(parked.shard);
        if let Some(waiting) = shard.waiting.get_mut(parked.key) {
            waiting.waker.clone_from(waker);
        }
    }

    /// Gives the place back.
    #[expect(clippy::needless_pass_by_value, reason = "a place is given back once")]
    pub(crate) fn unpark(&self, parked: Parked) {
        let waiting = self.shard(parked.shard).waiting.try_remove(parked.key);
        drop(waiting); // outside the lock: dropping a waker may run foreign code
    }

    /// Whether the node has ended: who waits here would wait for ever.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Wakes everybody, now and in future.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for index in 0..SHARDS {
            let wakers: Vec<_> =
                self.shard(index).waiting.iter().map(|(_, waiting)| waiting.waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// How many callers are parked.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        (0..SHARDS).map(|index| self.shard(index).waiting.len()).sum()
    }

    /// The task's body: never ends. Dropped, with its node, it closes; also if it was never polled.
    pub(crate) fn run(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static {
        let close = Close(self);
        async move { close.0.wake_in_time().await }
    }

    async fn wake_in_time(&self) {
        loop {
            let next = (0..SHARDS).filter_map(|index| self.wake_due(index)).min();
            self.next_look.store(next.map_or(u64::MAX, |at| self.nanos(at)), Ordering::Release);
            // Who parked between the look and the store saw the old `next_look`: a second look, after the store, finds it.
            let parked_meanwhile = (0..SHARDS)
                .filter_map(|index| self.shard(index).earliest)
                .min()
                .is_some_and(|at| next.is_none_or(|n| at < n));
            if parked_meanwhile {
                continue;
            }
            match next {
                None => self.earlier.notified().await,
                Some(at) => tokio::select! {
                    biased;
                    () = self.earlier.notified() => {}
                    () = time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Wakes the shard's callers whose time has come; says when the next one's comes.
    fn wake_due(&self, index: usize) -> Option<Instant> {
        let now = time::now();
        let mut due = Vec::new();
        let mut shard = self.shard(index);
        if shard.earliest? > now {
            return shard.earliest;
        }
        // Whoever is woken removes its own place. Should it be slow to run, it is woken again a little later.
        let again = now + Duration::from_millis(50);
        shard.earliest = None;
        let mut earliest: Option<Instant> = None;
        for (_, waiting) in &shard.waiting {
            let next = if waiting.deadline <= now {
                due.push(waiting.waker.clone());
                again
            } else {
                waiting.deadline
            };
            earliest = Some(earliest.map_or(next, |at| at.min(next)));
        }
        shard.earliest = earliest;
        drop(shard);
        due.into_iter().for_each(Waker::wake);
        earliest
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX - 1)
    }
}

struct Close(Arc<Deadlines>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn until(deadlines: &Deadlines, deadline: Instant) {
        let mut parked = None;
        poll_fn(|cx| {
            if time::now() >= deadline {
                return Poll::Ready(());
            }
            match &parked {
                None => parked = Some(deadlines.park(deadline, cx.waker())),
                Some(parked) => deadlines.repark(parked, cx.waker()),
            }
            Poll::Pending
        })
        .await;
        deadlines.unpark(parked.expect("it waited"));
    }

    fn running() -> Arc<Deadlines> {
        let deadlines = Arc::new(Deadlines::new());
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(Arc::clone(&deadlines).run());
        deadlines
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_is_woken_at_the_deadline_whatever_the_order_of_parking() {
        let deadlines = running();
        let start = time::now();
        let mut random = crate::random::seeded(11);
        let waits = (0..2000).map(|_| {
            let after = Duration::from_millis(random.u64(1..20_000));
            let deadlines = &deadlines;
            async move {
                until(deadlines, start + after).await;
                let late = time::now() - (start + after);
                assert!(late <= Duration::from_millis(2), "{late:?} late");
            }
        });
        futures_util::future::join_all(waits).await;
        assert_eq!(deadlines.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_deadline_moves_the_look_forward() {
        let deadlines = running();
        let start = time::now();
        let long = until(&deadlines, start + Duration::from_secs(60));
        let short = async {
            time::sleep(Duration::from_secs(1)).await;
            until(&deadlines, start + Duration::from_secs(2)).await;
            assert_eq!(time::now() - start, Duration::from_secs(2));
        };
        futures_util::join!(long, short);
        assert_eq!(time::now() - start, Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_before_the_deadline_is_forgotten() {
        let deadlines = running();
        let far = time::now() + Duration::from_secs(60);
        for _ in 0..100 {
            let waits = time::timeout(Duration::from_millis(1), async {
                let parked = poll_fn(|cx| Poll::Ready(deadlines.park(far, cx.waker()))).await;
                deadlines.unpark(parked);
            });
            waits.await;
        }
        assert_eq!(deadlines.len(), 0);
    }
}
