//! The topic as a subscriber has it: a stream of items, or a feed into a service's mailbox.

use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll, ready};

use futures_util::Stream;
use tokio::task::{AbortHandle, coop};

use crate::error::CallError;
use crate::node::topic::buffer::Buffer;
use crate::node::topic::error::TopicError;
use crate::node::topic::fanout::{Fanout, Standing};
use crate::node::topic::handle::TopicItem;
use crate::service::call::Call;
use crate::service::context::Context;
use crate::service::message::Message;

/// How many items may wait for a subscriber that says nothing else.
const BUFFER: usize = 1024;

/// A subscription that is about to begin. Made by [`Topic::subscribe`](crate::Topic::subscribe).
#[must_use = "a subscription begins when this is awaited"]
pub struct Subscribe<T> {
    fanout: Arc<Fanout<T>>,
    buffer: usize,
}

impl<T> Subscribe<T> {
    pub(super) fn new(fanout: Arc<Fanout<T>>) -> Self {
        Self { fanout, buffer: BUFFER }
    }

    /// How many items may wait for this subscriber, at least 1. When one more comes, the oldest is missed. Default 1024.
    pub fn buffer(mut self, items: usize) -> Self {
        self.buffer = items;
        self
    }
}

impl<T: TopicItem> Subscribe<T> {
    async fn begin(self) -> Result<Subscription<T>, TopicError> {
        let Self { fanout, buffer } = self;
        if buffer == 0 {
            let problem = "is 0; at least 1 is needed".to_owned();
            return Err(TopicError::InvalidSetting { setting: "buffer", problem });
        }
        let (subscription, keeper) = fanout.add(buffer)?;
        if let Some(keeper) = keeper {
            fanout.inner.host.tasks.spawn(keeper.run());
        }
        let mut standing = fanout.watch();
        let standing = standing.wait_for(|standing| *standing != Standing::Unknown).await.map(|now| *now);
        match standing {
            Ok(Standing::Registered) => Ok(subscription),
            Ok(Standing::Ended | Standing::Unknown) | Err(_) => Err(fanout.node_stopped()),
        }
    }
}

/// Awaiting it subscribes. From then on every item that is published on this node arrives. The nodes that are connected
/// have been told: the word stands on each connection before whatever this node sends later. It takes effect there as soon
/// as it has been read, which this does not wait for.
///
/// # Errors
/// [`TopicError`]: the node shuts down, or the buffer is 0.
///
/// # Cancel safety
/// Dropping the future before it ends takes the subscription back.
///
/// # Panics
/// Outside of a tokio runtime.
impl<T: TopicItem> IntoFuture for Subscribe<T> {
    type Output = Result<Subscription<T>, TopicError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

/// What is published on a topic, from the moment of `subscribe` on. Dropping it ends it.
///
/// It is a [`Stream`], which ends when its node does. What had come by then is still given.
pub struct Subscription<T> {
    fanout: Arc<Fanout<T>>,
    key: usize,
    buffer: Arc<Buffer<T>>,
}

impl<T> Subscription<T> {
    pub(super) fn new(fanout: Arc<Fanout<T>>, key: usize, buffer: Arc<Buffer<T>>) -> Self {
        Self { fanout, key, buffer }
    }

    /// How many items this subscriber was too slow for: each time one came and its buffer was full, it missed the oldest
    /// that it had not taken.
    pub fn missed(&self) -> u64 {
        self.buffer.missed()
    }
}

impl<T: Clone> Subscription<T> {
    /// The next item; `None` when the node is gone.
    ///
    /// # Cancel safety
    /// Cancel safe: no item is lost.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&self, cx: &mut task::Context<'_>) -> Poll<Option<T>> {
        // A publisher on another thread must not keep this one's other tasks from their turn.
        let turn = ready!(coop::poll_proceed(cx));
        let item = ready!(self.buffer.poll(cx));
        turn.made_progress();
        // The last one to take it need not copy it.
        Poll::Ready(item.map(Arc::unwrap_or_clone))
    }
}

impl<T: TopicItem> Subscription<T> {
    /// Sends each item to a service, in order, as long as the instance of this context lives:
    ///
    /// ```
    /// use skyhold::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Screen {
    ///     lines: Vec<String>,
    /// }
    ///
    /// #[service]
    /// impl Screen {
    ///     #[on_start]
    ///     async fn start(&mut self, context: &Context) -> Result<(), skyhold::TopicError> {
    ///         let chat = Topic::<String>::open(&context.node(), "chat")?;
    ///         let own = context.handle::<ScreenHandle>();
    ///         chat.subscribe().await?.into_mailbox(context, move |line| own.on_line(line));
    ///         Ok(())
    ///     }
    ///
    ///     pub fn on_line(&mut self, line: String) {
    ///         self.lines.push(line);
    ///     }
    ///
    ///     pub fn lines(&self) -> usize {
    ///         self.lines.len()
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = Node::builder("a").start().await?;
    /// let screen = node.spawn(Screen::default());
    /// assert_eq!(screen.lines().await?, 0);
    /// Topic::open(&node, "chat")?.publish("hello".to_owned())?;
    /// # while screen.lines().await? == 0 {
    /// #     tokio::task::yield_now().await;
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Each is an ordinary send. It waits for room in a full mailbox, at most the call's timeout (30 s unless set); meanwhile
    /// items gather in the subscription's buffer, and when that is full too, the oldest are missed. An item whose send
    /// fails is missed too. When the receiver has stopped, the feed ends.
    pub fn into_mailbox<F, R, M>(self, context: &Context, mut call: F) -> Feed<T>
    where
        F: FnMut(T) -> Call<R, M> + Send + 'static,
        R: Send + 'static,
        M: Message,
    {
        let mut items = self;
        let buffer = Arc::clone(&items.buffer);
        let task = context.spawn(async move {
            while let Some(item) = items.next().await {
                match call(item).send().await {
                    Ok(()) => {}
                    Err(CallError::Stopped(_)) => return,
                    Err(_) => items.buffer.count_missed(),
                }
            }
        });
        Feed { task, buffer }
    }
}

impl<T: Clone> Stream for Subscription<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<T>> {
        self.poll_item(cx)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.fanout.remove(self.key);
        self.buffer.discard();
    }
}

/// A subscription whose items are sent to a service. Made by [`Subscription::into_mailbox`]. Dropping this changes nothing.
pub struct Feed<T> {
    task: AbortHandle,
    buffer: Arc<Buffer<T>>,
}

impl<T> Feed<T> {
    /// How many items did not come to the service: see [`Subscription::missed`] and [`Subscription::into_mailbox`].
    pub fn missed(&self) -> u64 {
        self.buffer.missed()
    }

    /// Ends the subscription before its instance ends. An item that waits for room in the mailbox is taken back.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Whether the subscription has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> fmt::Debug for Subscribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe").field("to", &self.fanout).field("buffer", &self.buffer).finish()
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("to", &self.fanout).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("has_ended", &self.has_ended()).finish_non_exhaustive()
    }
}
