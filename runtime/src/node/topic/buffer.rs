//! What waits for one subscriber: a bounded queue that forgets its oldest item when a new one comes and there is no room.
//!
//! Invariant: nobody waits to put something in, and no lock is held while a waker is woken or an item dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The buffer of one subscription. Items are shared with the buffers beside it.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    limit: usize,
    /// Guards what both sides touch.
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<Arc<T>>,
    missed: u64,
    reader: Option<Waker>,
    is_closed: bool,
}

impl<T> Buffer<T> {
    /// A buffer for `limit` items, at least 1.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { items: VecDeque::new(), missed: 0, reader: None, is_closed: false };
        Self { limit, state: Mutex::new(state) }
    }

    /// Puts an item in. `false` if nothing goes in any more.
    pub(super) fn push(&self, item: Arc<T>) -> bool {
        let mut state = self.state();
        if state.is_closed {
            return false;
        }
        let oldest = if state.items.len() >= self.limit { state.items.pop_front() } else { None };
        state.missed += u64::from(oldest.is_some());
        state.items.push_back(item);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        drop(oldest);
        true
    }

    /// The next item; `None` when the last was taken and no more will come.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Arc<T>>> {
        let mut state = self.state();
        if let Some(item) = state.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        let before = state.reader.replace(cx.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Lets nothing more in. What is in it can still be taken out.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Lets nothing more in, and forgets what is in it: nobody will take it.
    pub(super) fn discard(&self) {
        let mut state = self.state();
        state.is_closed = true;
        let left = (std::mem::take(&mut state.items), state.reader.take());
        drop(state);
        drop(left);
    }

    /// How many items the reader did not get.
    pub(super) fn missed(&self) -> u64 {
        self.state().missed
    }

    /// Counts an item that was taken out and reached nobody.
    pub(super) fn count_missed(&self) {
        self.state().missed += 1;
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
