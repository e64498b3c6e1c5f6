//! The tasks of one node: every one of them is tracked, and ends with the node.
//!
//! Every instance is a task, so that each byte here is multiplied by their number: a task costs two words in its own
//! memory and two in the table.
//!
//! Invariant: this is the only place where tasks are made.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// The tasks of one node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// Told when the table is empty.
    empty: Notify,
    /// The table's mark, for those who wait for it.
    aborted: CancellationToken,
}

/// Guards who runs. Held for a look or a change; a task is neither made nor dropped under it, since its drop comes here.
#[derive(Debug, Default)]
struct Table {
    entries: Slab<Entry>,
    aborted: bool,
}

#[derive(Debug)]
enum Entry {
    /// It is being made, and whoever makes it will note its handle.
    Begins,
    Runs(AbortHandle),
    /// It ended before its handle was noted: whoever makes it takes the entry out.
    Ended,
}

impl Tasks {
    /// Runs `task` until it ends or the node is cut off.
    #[expect(clippy::disallowed_methods, reason = "the task is in the node's table")]
    pub(crate) fn spawn<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Handle::current(); // first: outside of a runtime it panics
        let key = self.0.table().entries.insert(Entry::Begins);
        let place = Place { key, shared: Arc::clone(&self.0) };
        let abort = runtime.spawn(Tracked { task, _place: place }).abort_handle();
        // Either `abort` finds the handle, or its mark is seen here.
        if self.0.note(key, &abort) {
            abort.abort();
        }
        abort
    }

    /// Cuts every task off at its next await point, now and in future.
    pub(crate) fn abort(&self) {
        let mut table = self.0.table();
        table.aborted = true;
        let handles: Vec<_> = table.entries.iter().filter_map(|(_, entry)| entry.handle()).collect();
        drop(table);
        self.0.aborted.cancel();
        handles.iter().for_each(AbortHandle::abort);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.table().entries.len()
    }

    /// Whether the tasks were cut off.
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.aborted.is_cancelled()
    }

    /// Ends when the tasks are cut off. Cancel safe.
    pub(crate) async fn aborted(&self) {
        self.0.aborted.cancelled().await;
    }

    /// Ends when every task has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        let empty = self.0.empty.notified(); // before the look: from here on it misses nothing
        if self.len() > 0 {
            empty.await;
        }
    }
}

impl Shared {
    /// Notes the handle of a task that was made. Gives whether it is to be cut off.
    fn note(&self, key: usize, abort: &AbortHandle) -> bool {
        let mut table = self.table();
        let aborted = table.aborted;
        match table.entries.get_mut(key) {
            Some(entry @ Entry::Begins) => *entry = Entry::Runs(abort.clone()),
            _ => self.take_out(table, key),
        }
        aborted
    }

    /// Takes an entry out.
    fn take_out(&self, mut table: MutexGuard<'_, Table>, key: usize) {
        let gone = table.entries.try_remove(key);
        let is_empty = table.entries.is_empty();
        drop(table);
        drop(gone); // outside the lock: it may be the last that keeps the task's memory
        if is_empty {
            self.empty.notify_waiters();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn handle(&self) -> Option<AbortHandle> {
        match self {
            Self::Runs(handle) => Some(handle.clone()),
            Self::Begins | Self::Ended => None,
        }
    }
}

/// A task's entry in the table, which it gives back when it ends.
struct Place {
    key: usize,
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        match table.entries.get_mut(self.key) {
            Some(entry @ Entry::Begins) => *entry = Entry::Ended,
            _ => self.shared.take_out(table, self.key),
        }
    }
}

pin_project! {
    /// A task and its place. Written by hand, because an async block would hold the task twice: as what it captured and
    /// as what it awaits.
    struct Tracked<F> {
        #[pin]
        task: F,
        // Dropped after the task.
        _place: Place,
    }
}

impl<F: Future<Output = ()>> Future for Tracked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().task.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_task_ends_with_the_node_whether_it_was_made_before_or_after() {
        let tasks = Tasks::default();
        for _ in 0..100 {
            tasks.spawn(std::future::pending());
        }
        tasks.spawn(async {});
        tokio::task::yield_now().await;
        tasks.abort();
        tasks.spawn(std::future::pending());
        tasks.ended().await;
        assert_eq!(tasks.0.table().entries.len(), 0);
    }

    #[test]
    fn a_task_costs_two_words_beside_its_future_and_two_in_the_table() {
        let words = 2 * size_of::<usize>();
        assert_eq!(size_of::<Tracked<[u64; 16]>>(), size_of::<[u64; 16]>() + words);
        assert_eq!(size_of::<Entry>(), words);
    }

    #[test]
    fn a_task_that_ends_while_it_is_made_leaves_no_entry() {
        let tasks = Tasks::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        let captured = Arc::new(());
        let abort = tasks.spawn({
            let captured = Arc::clone(&captured);
            async move {
                std::future::pending::<()>().await;
                drop(captured);
            }
        });
        assert_eq!(Arc::strong_count(&captured), 1, "the runtime drops what comes too late");
        drop(abort);
        assert_eq!(tasks.0.table().entries.len(), 0);
    }
}
