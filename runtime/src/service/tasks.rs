//! The tasks of one node: every one of them is tracked, and ends with the node.
//!
//! Invariant: this is the only place where tasks are made.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use slab::Slab;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of one node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tasks {
    pub(crate) tracker: TaskTracker,
    aborted: CancellationToken,
    places: Arc<Mutex<Places>>,
}

/// Guards the way to cut each task off. A handle is not set between its place's taking and its task's making.
type Places = Slab<Arc<OnceLock<AbortHandle>>>;

/// A task's place among the handles, which it gives back when it ends.
struct Place {
    key: usize,
    places: Arc<Mutex<Places>>,
}

impl Tasks {
    /// Runs `task` until it ends or the node is cut off.
    #[expect(clippy::disallowed_methods, reason = "the task belongs to the node's tracker")]
    pub(crate) fn spawn<F>(&self, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let slot = Arc::new(OnceLock::new());
        let key = lock(&self.places).insert(Arc::clone(&slot));
        let place = Place { key, places: Arc::clone(&self.places) };
        let abort = tokio::spawn(self.tracker.track_future(async move {
            let _place = place;
            task.await;
        }))
        .abort_handle();
        drop(slot.set(abort.clone())); // nobody else sets it
        // After the handle is set: either `abort` finds it, or its cancellation is seen here.
        if self.aborted.is_cancelled() {
            abort.abort();
        }
        abort
    }

    /// Cuts every task off at its next await point, now and in future.
    pub(crate) fn abort(&self) {
        self.aborted.cancel();
        let slots: Vec<_> = lock(&self.places).iter().map(|(_, slot)| Arc::clone(slot)).collect();
        for handle in slots.iter().filter_map(|slot| slot.get()) {
            handle.abort();
        }
    }

    /// Whether the tasks were cut off.
    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.is_cancelled()
    }

    /// Ends when the tasks are cut off. Cancel safe.
    pub(crate) async fn aborted(&self) {
        self.aborted.cancelled().await;
    }

    /// Ends when every task has ended. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let slot = lock(&self.places).try_remove(self.key);
        drop(slot); // outside the lock
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(lock(&tasks.places).len(), 0);
    }
}
