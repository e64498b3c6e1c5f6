//! The topics of one node: by name for who opens one, by number for what peers send.
//!
//! Invariant: it keeps no topic open; what is in it by name goes with the last that uses it.

use std::any::{Any, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::id::InstanceId;
use crate::node::topic::fanout::Fanout;
use crate::port::Link;
use crate::proto::frame::Request;

/// Where the items of one topic arrive from other nodes.
pub(crate) trait Hub: Send + Sync {
    /// `topic/` and the topic's name.
    fn name(&self) -> &str;

    /// Takes one item in. It never waits.
    fn arrive(&self, link: &Arc<Link>, request: Request);
}

/// The topics of one node.
#[derive(Default)]
pub(crate) struct Topics {
    /// Guards the topics that are open.
    open: Mutex<HashMap<Arc<str>, Open>>,
    /// Guards the topics that have subscribers here.
    hubs: Mutex<HashMap<InstanceId, Arc<dyn Hub>>>,
}

/// A topic that is open, as long as somebody else holds it.
struct Open {
    fanout: Weak<dyn Any + Send + Sync>,
    hub: InstanceId,
    item: &'static str,
}

impl Topics {
    /// The topic of that name, which `make` makes if it is not open. If it is open with items of another type, that
    /// type's name.
    pub(super) fn open<T: Send + Sync + 'static>(
        &self,
        name: &Arc<str>,
        make: impl FnOnce() -> Arc<Fanout<T>>,
    ) -> Result<Arc<Fanout<T>>, &'static str> {
        let mut table = lock(&self.open);
        let known = table.get(name).and_then(|open| Some((open.fanout.upgrade()?, open.item)));
        let Some((fanout, item)) = known else {
            let fanout = make();
            let weak: Weak<Fanout<T>> = Arc::downgrade(&fanout);
            let open = Open { fanout: weak, hub: fanout.hub(), item: type_name::<T>() };
            table.insert(Arc::clone(name), open);
            return Ok(fanout);
        };
        drop(table); // before the topic, whose end takes this lock
        fanout.downcast().map_err(|_| item)
    }

    /// The topic has ended: nobody uses it.
    pub(super) fn close(&self, name: &str, hub: InstanceId) {
        let mut table = lock(&self.open);
        // It may have been opened again meanwhile.
        if table.get(name).is_some_and(|open| open.hub == hub) {
            table.remove(name);
        }
    }

    pub(super) fn add_hub(&self, id: InstanceId, hub: Arc<dyn Hub>) {
        lock(&self.hubs).insert(id, hub);
    }

    pub(super) fn remove_hub(&self, id: InstanceId) {
        let gone = lock(&self.hubs).remove(&id);
        drop(gone); // outside the lock
    }

    /// Where items for that number arrive, if it is a topic's.
    pub(crate) fn hub(&self, id: InstanceId) -> Option<Arc<dyn Hub>> {
        lock(&self.hubs).get(&id).cloned()
    }

    /// How many topics are open, and how many of them have subscribers here.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (lock(&self.open).len(), lock(&self.hubs).len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.open).keys()).finish()
    }
}
