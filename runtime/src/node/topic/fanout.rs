//! What all of one topic's values on one node share: its subscribers, and the way into their buffers.
//!
//! The topic is in the directory while it has subscribers. One [`Keeper`] at a time sees to that, so that the last
//! subscription's end and the next one's beginning cannot overtake each other. Whether there is a keeper changes under
//! the same lock as the subscribers do.
//!
//! Invariant: an item is shared, never copied here, and goes in without waiting.

use std::any::type_name;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;
use tokio::sync::{Notify, watch};

use crate::error::CallError;
use crate::event::DeadLetterReason;
use crate::id::InstanceId;
use crate::node::node::Inner;
use crate::node::topic::buffer::Buffer;
use crate::node::topic::error::TopicError;
use crate::node::topic::handle::TopicItem;
use crate::node::topic::keeper::Keeper;
use crate::node::topic::subscription::Subscription;
use crate::node::topic::table::Hub;
use crate::node::topic::targets::{Targets, item_method};
use crate::port::Link;
use crate::proto::codec;
use crate::proto::frame::Request;
use crate::service::ambient;

pub(super) struct Fanout<T> {
    pub(super) inner: Arc<Inner>,
    /// As the directory has it: with the prefix.
    pub(super) name: Arc<str>,
    pub(super) targets: Targets,
    hub: InstanceId,
    /// Guards who subscribes here.
    subscribers: Mutex<Subscribers<T>>,
    /// Written under that lock.
    standing: watch::Sender<Standing>,
    /// The last subscriber has left.
    left: Notify,
}

struct Subscribers<T> {
    /// Publishers look at it outside of the lock; it is copied only when it changes meanwhile.
    buffers: Arc<Slab<Arc<Buffer<T>>>>,
    /// Whether a keeper sees to the directory.
    is_kept: bool,
}

/// Whether other nodes send items here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not, or no longer, or not yet.
    Unknown,
    /// The topic is in the directory, and the peers are told.
    Registered,
    /// The node has ended.
    Ended,
}

impl<T> Fanout<T> {
    pub(super) fn new(inner: Arc<Inner>, name: Arc<str>) -> Self {
        let hub = inner.host.next_address().instance;
        let subscribers = Subscribers { buffers: Arc::default(), is_kept: false };
        let targets = Targets::new(type_name::<T>(), inner.host.next_order());
        Self {
            inner,
            name,
            targets,
            hub,
            subscribers: Mutex::new(subscribers),
            standing: watch::Sender::new(Standing::Unknown),
            left: Notify::new(),
        }
    }

    /// The number under which items arrive from other nodes.
    pub(super) fn hub(&self) -> InstanceId {
        self.hub
    }

    /// Puts an item into every subscriber's buffer, and gives their number.
    pub(super) fn deliver(&self, item: T) -> usize {
        let buffers = Arc::clone(&self.subscribers().buffers);
        if buffers.is_empty() {
            return 0;
        }
        let item = Arc::new(item);
        buffers.iter().filter(|(_, buffer)| buffer.push(Arc::clone(&item))).count()
    }

    /// Adds a subscriber. With the first comes a keeper, which is to be run.
    pub(super) fn add(
        self: &Arc<Self>,
        limit: usize,
    ) -> Result<(Subscription<T>, Option<Keeper<T>>), TopicError> {
        let buffer = Arc::new(Buffer::new(limit));
        let mut subscribers = self.subscribers();
        // Under the lock: the end of the node either closes this buffer or is seen here.
        if self.standing() == Standing::Ended || self.inner.check_running().is_err() {
            return Err(self.node_stopped());
        }
        let key = Arc::make_mut(&mut subscribers.buffers).insert(Arc::clone(&buffer));
        let is_first = !std::mem::replace(&mut subscribers.is_kept, true);
        drop(subscribers);
        let keeper = is_first.then(|| Keeper::new(Arc::clone(self)));
        Ok((Subscription::new(Arc::clone(self), key, buffer), keeper))
    }

    /// Takes a subscriber out.
    pub(super) fn remove(&self, key: usize) {
        let mut subscribers = self.subscribers();
        let gone = Arc::make_mut(&mut subscribers.buffers).try_remove(key);
        if subscribers.buffers.is_empty() {
            subscribers.buffers = Arc::default(); // the room for many goes with them
            self.left.notify_one();
        }
        drop(subscribers);
        drop(gone);
    }

    /// The directory has the topic: says so to who waits for that, and ends when nobody subscribes any more. From then on
    /// who subscribes waits for the keeper's next round. Cancel safe.
    pub(super) async fn until_left(&self) {
        while !self.has_left() {
            self.left.notified().await;
        }
    }

    fn has_left(&self) -> bool {
        let subscribers = self.subscribers();
        let has_left = subscribers.buffers.is_empty();
        self.standing.send_replace(if has_left { Standing::Unknown } else { Standing::Registered });
        has_left
    }

    /// The directory has the topic no more. Gives whether that is how it is to be, and the keeper goes.
    pub(super) fn is_settled(&self) -> bool {
        let mut subscribers = self.subscribers();
        let is_settled = subscribers.buffers.is_empty();
        subscribers.is_kept = !is_settled;
        is_settled
    }

    /// The node has ended: every subscription ends after what it has already.
    pub(super) fn end(&self) {
        let subscribers = self.subscribers();
        self.standing.send_replace(Standing::Ended);
        let buffers = Arc::clone(&subscribers.buffers);
        drop(subscribers);
        buffers.iter().for_each(|(_, buffer)| buffer.close());
    }

    /// Tells of every change from now on.
    pub(super) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(super) fn node_stopped(&self) -> TopicError {
        TopicError::NodeStopped(self.inner.host.node.clone())
    }

    fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    fn subscribers(&self) -> MutexGuard<'_, Subscribers<T>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: TopicItem> Hub for Fanout<T> {
    fn name(&self) -> &str {
        &self.name
    }

    fn arrive(&self, link: &Arc<Link>, request: Request) {
        let Request { head, payload } = request;
        let is_item = head.method == item_method(type_name::<T>()) && !head.wants_reply;
        // The item's `Deserialize`, and the `Drop` of one that is forgotten for it, are the user's and may panic.
        let decode = || ambient::reading(&self.inner.host, None, || codec::decode::<(T,)>(&payload));
        let deliver = || decode().map(|(item,)| self.deliver(item));
        if is_item && matches!(catch_unwind(AssertUnwindSafe(deliver)), Ok(Ok(_))) {
            return;
        }
        let handler = self.name.to_string();
        self.inner.host.dead_letter(handler, head.wants_reply, DeadLetterReason::Undecodable);
        if head.wants_reply {
            let detail = format!("{} takes items of `{}` and no calls", self.name, type_name::<T>());
            link.fail(head.id, &CallError::Incompatible(detail.into()));
        }
    }
}

impl<T> Drop for Fanout<T> {
    fn drop(&mut self) {
        self.inner.topics.close(&self.name, self.hub);
    }
}

impl<T> fmt::Debug for Fanout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").field("name", &self.name).finish_non_exhaustive()
    }
}
