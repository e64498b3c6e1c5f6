//! Watching, as users see it: the stream of the ends of what a handle leads to, and the token of a service's watch.
//!
//! Invariant: a watch that is dropped is given up.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use crate::event::{Down, StopReason};
use crate::id::Address;
use crate::port::{WatchId, Watcher};
use crate::service::handle::Target;
use crate::service::watched::Way;

/// The ends of what a handle leads to, told once each. Got from [`ServiceHandle::watch`](crate::ServiceHandle::watch).
///
/// It is a stream of [`Down`]. Dropping it ends the watching.
///
/// ```
/// use skyhold::prelude::*;
///
/// struct Worker;
///
/// #[service]
/// impl Worker {
///     pub fn finish(&mut self, context: &Context) {
///         context.stop();
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").start().await?;
/// let worker = node.spawn(Worker);
/// let mut ends = worker.watch();
/// worker.finish().await?;
/// let down = ends.next().await.unwrap();
/// assert_eq!(down.reason, StopReason::Normal);
/// assert_eq!(ends.next().await, None);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it ends the watching"]
pub struct Watch {
    ear: Arc<Ear>,
}

impl Watch {
    /// Watches what each of `targets` leads to.
    pub(crate) fn new<M>(targets: &[Target<M>]) -> Self {
        let watch = Self { ear: Arc::default() };
        let ear = &watch.ear;
        let targets = (0..).map(WatchId).zip(targets);
        for (id, target) in targets.filter_map(|(id, target)| Some(((id, target.address()?), target))) {
            let (id, address) = id;
            // Known before it is asked for: the end may come before the answer.
            ear.state().open.insert(id, Open { address: address.clone(), way: None });
            match Way::ask(target, Arc::clone(ear) as Arc<dyn Watcher>, id, None) {
                Ok(way) => ear.note(id, way),
                Err(reason) => ear.down(id, reason),
            }
        }
        watch
    }

    /// The next end; `None` when everything that was watched has ended. For a handle to one instance that is one
    /// [`Down`], and then `None`; for a handle to a name one [`Down`] for each instance to which the name led when the
    /// watch was made.
    ///
    /// # Cancel safety
    /// Cancel safe: no end is lost.
    pub async fn next(&mut self) -> Option<Down> {
        poll_fn(|cx| self.poll_down(cx)).await
    }

    fn poll_down(&self, cx: &Context<'_>) -> Poll<Option<Down>> {
        let mut heard = self.ear.state();
        if let Some(down) = heard.downs.pop_front() {
            return Poll::Ready(Some(down));
        }
        if heard.open.is_empty() {
            return Poll::Ready(None);
        }
        let before = heard.waker.replace(cx.waker().clone());
        drop(heard);
        drop(before); // outside the lock
        Poll::Pending
    }
}

impl Stream for Watch {
    type Item = Down;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Down>> {
        self.poll_down(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let open = std::mem::take(&mut self.ear.state().open);
        let watcher = Arc::clone(&self.ear) as Arc<dyn Watcher>;
        for (id, Open { way, .. }) in open {
            if let Some(way) = way {
                way.give_up(&watcher, id, None);
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.ear.state();
        let open = heard.open.values().map(|open| &open.address).collect::<Vec<_>>();
        f.debug_struct("Watch").field("open", &open).field("ended", &heard.downs).finish()
    }
}

/// Where the ends come in.
#[derive(Debug, Default)]
struct Ear {
    state: Mutex<Heard>,
}

/// Guards what is watched and what has ended.
#[derive(Debug, Default)]
struct Heard {
    open: BTreeMap<WatchId, Open>,
    downs: VecDeque<Down>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Open {
    address: Address,
    /// `None` while it is asked for.
    way: Option<Way>,
}

impl Ear {
    /// Notes how a watch is given up.
    fn note(&self, id: WatchId, way: Way) {
        let unused = match self.state().open.get_mut(&id) {
            Some(open) => open.way.replace(way),
            None => Some(way),
        };
        drop(unused); // the end came before the answer, and nothing is left to give up
    }

    fn state(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Ear {
    fn down(&self, watch: WatchId, reason: StopReason) {
        let mut heard = self.state();
        let Some(Open { address, way }) = heard.open.remove(&watch) else { return };
        heard.downs.push_back(Down { address, reason });
        let waker = heard.waker.take();
        drop(heard);
        drop(way); // outside the lock
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What one [`Context::watch`](crate::Context::watch) began, to be ended with
/// [`Context::unwatch`](crate::Context::unwatch). It ends by itself with the life of the instance that watches; dropping
/// it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Watching {
    /// The numbers of its watches: one for each instance.
    pub(crate) first: u64,
    pub(crate) count: usize,
}
