//! A bounded queue that can give up its oldest send for a newer message. A channel cannot give anything back.
//!
//! Invariant: nobody waits for room in it, and nothing gets in once it is closed. No message is dropped and no task is
//! woken under the lock.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

use crate::sync::{Mutex, MutexGuard};

/// A bounded queue with many senders and one receiver.
pub(crate) struct Ring<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    /// Whether a waiting item may make room.
    may_go: fn(&T) -> bool,
}

/// Guards the items, for one push or one batch.
struct State<T> {
    items: VecDeque<T>,
    /// How many of the items may go: where there are none, nobody looks for them.
    may_go: usize,
    /// The receiver's, while it waits.
    waker: Option<Waker>,
    closed: bool,
}

/// Why an item did not get in, and the item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken<T> {
    Full(T),
    Closed(T),
}

impl<T> Ring<T> {
    pub(crate) fn new(capacity: usize, may_go: fn(&T) -> bool) -> Self {
        let state = State { items: VecDeque::new(), may_go: 0, waker: None, closed: false };
        Self { state: Mutex::new(state), capacity, may_go }
    }

    /// Puts an item in. If there is no room, the oldest one that may go makes some, and is given out. Finding it costs a
    /// look at each that is older and may not go.
    pub(crate) fn push(&self, item: T) -> Result<Option<T>, NotTaken<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(NotTaken::Closed(item));
        }
        let displaced = if state.items.len() < self.capacity {
            None
        } else {
            match state.take_oldest(self.may_go) {
                Some(oldest) => Some(oldest),
                None => return Err(NotTaken::Full(item)),
            }
        };
        self.put(state, item);
        Ok(displaced)
    }

    /// Puts an item in if there is room without.
    pub(crate) fn push_if_room(&self, item: T) -> Result<(), NotTaken<T>> {
        let state = self.state();
        if state.closed {
            return Err(NotTaken::Closed(item));
        }
        if state.items.len() >= self.capacity {
            return Err(NotTaken::Full(item));
        }
        self.put(state, item);
        Ok(())
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, item: T) {
        state.may_go += usize::from((self.may_go)(&item));
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Lets nothing more in. What is in it still comes out.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state();
        let item = state.items.pop_front()?;
        state.may_go -= usize::from((self.may_go)(&item));
        Some(item)
    }

    /// Takes up to `limit` items. Ready without any when the queue is closed and empty.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>, into: &mut Vec<T>, limit: usize) -> Poll<()> {
        // As a channel does it: who always finds something gives way to other tasks now and then.
        let budget = ready!(coop::poll_proceed(cx));
        let mut state = self.state();
        if state.items.is_empty() && !state.closed {
            let old = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(old);
            return Poll::Pending;
        }
        let batch = limit.min(state.items.len());
        let from = into.len();
        into.extend(state.items.drain(..batch));
        state.may_go -= into[from..].iter().filter(|item| (self.may_go)(item)).count();
        drop(state);
        budget.made_progress();
        Poll::Ready(())
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take_oldest(&mut self, may_go: fn(&T) -> bool) -> Option<T> {
        if self.may_go == 0 {
            return None;
        }
        let oldest = self.items.iter().position(may_go)?;
        self.may_go -= 1;
        self.items.remove(oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use futures_util::poll;

    use super::*;

    /// Odd numbers may go.
    fn ring(capacity: usize) -> Ring<u32> {
        Ring::new(capacity, |number| number % 2 == 1)
    }

    fn all(ring: &Ring<u32>) -> Vec<u32> {
        std::iter::from_fn(|| ring.pop()).collect()
    }

    #[test]
    fn the_oldest_that_may_go_makes_room_and_the_order_stays() {
        let ring = ring(4);
        for number in [2, 1, 4, 3] {
            assert_eq!(ring.push(number), Ok(None));
        }
        assert_eq!(ring.push(6), Ok(Some(1)));
        assert_eq!(ring.push(5), Ok(Some(3)));
        assert_eq!(ring.push(7), Ok(Some(5)), "also one that had just made its way in");
        assert_eq!(ring.push(8), Ok(Some(7)));
        assert_eq!(ring.push(9), Err(NotTaken::Full(9)), "only those are left that may not go");
        assert_eq!((ring.len(), all(&ring)), (4, vec![2, 4, 6, 8]));
        assert_eq!(ring.push(9), Ok(None));
    }

    #[test]
    fn what_must_not_displace_needs_room() {
        let ring = ring(1);
        assert_eq!(ring.push_if_room(1), Ok(()));
        assert_eq!(ring.push_if_room(2), Err(NotTaken::Full(2)));
        assert_eq!(ring.push(2), Ok(Some(1)));
    }

    #[test]
    fn nothing_gets_in_once_it_is_closed_and_what_is_in_it_comes_out() {
        let ring = ring(2);
        assert_eq!(ring.push(1), Ok(None));
        ring.close();
        assert_eq!(ring.push(2), Err(NotTaken::Closed(2)));
        assert_eq!(ring.push_if_room(2), Err(NotTaken::Closed(2)));
        assert_eq!(all(&ring), [1]);
    }

    /// Whether somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn it_is_taken_in_batches_and_a_push_wakes_who_waits() {
        let ring = ring(8);
        let mut taken = Vec::new();
        {
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut cx = Context::from_waker(&waker);
            assert!(ring.poll_take(&mut cx, &mut taken, 2).is_pending());
            assert_eq!(ring.push(1), Ok(None));
            assert!(woken.0.load(Ordering::SeqCst));
            assert!(ring.poll_take(&mut cx, &mut taken, 2).is_ready());
        }
        assert_eq!(taken, [1]);
        for number in 2..5 {
            assert_eq!(ring.push(number), Ok(None));
        }
        assert!(poll!(poll_fn(|cx| ring.poll_take(cx, &mut taken, 2))).is_ready());
        assert_eq!(taken, [1, 2, 3]);
        ring.close();
        for expected in [vec![1, 2, 3, 4], vec![1, 2, 3, 4]] {
            assert!(poll!(poll_fn(|cx| ring.poll_take(cx, &mut taken, 2))).is_ready());
            assert_eq!(taken, expected);
        }
    }

    #[tokio::test]
    async fn who_always_finds_something_gives_way_to_others() {
        let ring = ring(1);
        let mut taken = Vec::new();
        let mut turns = 0;
        loop {
            assert_eq!(ring.push_if_room(1), Ok(()));
            if poll!(poll_fn(|cx| ring.poll_take(cx, &mut taken, 1))).is_pending() {
                break;
            }
            turns += 1;
            assert!(turns < 10_000, "it never gave way");
        }
    }
}
