//! The topic as a publisher has it.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::id::{TOPIC_PREFIX, check_name};
use crate::node::node::Node;
use crate::node::topic::error::{PublishError, TopicError};
use crate::node::topic::fanout::Fanout;
use crate::node::topic::subscription::Subscribe;
use crate::node::topic::targets::Sent;
use crate::proto::codec::Encoder;
use crate::proto::frame::MAX_NAME;

/// What is published on a topic must be this: `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be published on a topic",
    label = "not `Serialize + DeserializeOwned + Clone + Send + Sync + 'static`",
    note = "derive `Clone`, `serde::Serialize` and `serde::Deserialize` for it"
)]
pub trait TopicItem: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> TopicItem for T {}

/// A name under which items are published to every subscriber in the cluster. It is Skynet's `multicast`.
///
/// Subscribers on this node share the item; each other node that has subscribers gets it in one frame, however many
/// they are. Nobody owns a topic, and publisher and subscriber need not know of each other.
///
/// ```
/// use skyhold::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder("a").start().await?;
/// let chat = Topic::<String>::open(&node, "chat")?;
/// let mut lines = chat.subscribe().await?;
///
/// chat.publish("hello".to_owned())?; // anywhere in the cluster
/// assert_eq!(lines.next().await.as_deref(), Some("hello"));
/// # Ok(())
/// # }
/// ```
///
/// **At most once, in order.** Between two publishers there is no order. The items of one `Topic` value, and of its clones in one task, come to each subscriber in
/// the order in which they were published, but for those that it misses. When one connection replaces another between
/// two living nodes, order across the two is not kept for certain.
///
/// **Nobody waits for a subscriber.** Each has a buffer of its own (1024 items unless set), and when that is full it misses
/// the oldest: see [`Subscription::missed`](crate::Subscription::missed). To a node whose connection is full (1 MiB to be
/// sent) the newest is lost, for that node alone: [`Published::lost`] counts it, and an
/// [`Event::DeadLetter`](crate::Event::DeadLetter) tells of it. A task that publishes much and awaits nothing in between
/// fills both: neither the connection nor a subscriber of its thread gets a turn.
///
/// **Who gets an item.** Who subscribed on this node before it was published, and on another node whose word of it has
/// come here. Nobody gets what was published before. A node that ends is no target any more; after a partition items flow
/// again when the connection stands.
///
/// **Types.** On one node a name belongs to one type, until its last value is gone, the directory included. Over the
/// network types are told apart by their names without module paths: to a node with another type nothing is sent, which
/// counts as lost.
pub struct Topic<T> {
    fanout: Arc<Fanout<T>>,
}

/// How far an item came. It says who was there to be told and not who has read it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// How many subscribers on this node have it in their buffers.
    pub local: usize,
    /// How many other nodes it is on its way to: one frame each.
    pub nodes: usize,
    /// How many other nodes have subscribers and do not get it: their connection is full, the item is larger than they
    /// take, or their items are of another type. The dead letter of each says which.
    pub lost: usize,
}

impl<T: TopicItem> Topic<T> {
    /// Opens a topic: a name of 1 to 250 bytes without white space and control characters. It costs no message and
    /// waits for nothing; who opens it does not subscribe by that. A topic does not keep its node alive.
    ///
    /// # Errors
    /// [`TopicError`]: the name cannot be used, is open on this node with another type, or the node has ended.
    pub fn open(node: &Node, name: impl AsRef<str>) -> Result<Self, TopicError> {
        let name = name.as_ref();
        check_name("topic", name, MAX_NAME - TOPIC_PREFIX.len())?;
        let inner = node.inner();
        if inner.host.tasks.is_aborted() {
            return Err(TopicError::NodeStopped(node.id().clone()));
        }
        let full: Arc<str> = format!("{TOPIC_PREFIX}{name}").into();
        let make = || Arc::new(Fanout::new(Arc::clone(inner), Arc::clone(&full)));
        match inner.topics.open(&full, make) {
            Ok(fanout) => Ok(Self { fanout }),
            Err(found) => {
                Err(TopicError::OtherType { name: name.to_owned(), expected: type_name::<T>(), found })
            }
        }
    }

    /// Publishes an item to all who subscribe now. Waits for nobody.
    ///
    /// It works as long as the node has connections, and so also in the `#[on_stop]` of a node that shuts down.
    ///
    /// # Errors
    /// [`PublishError`]: the item does not encode, or the node has ended. Then nobody got it. An item that no other node
    /// is there for is not encoded.
    pub fn publish(&self, item: T) -> Result<Published, PublishError> {
        let Fanout { inner, name, targets, .. } = &*self.fanout;
        let host = &inner.host;
        if host.tasks.is_aborted() {
            return Err(PublishError::NodeStopped(host.node.clone()));
        }
        let known = targets.resolve(inner, name);
        let mut payload = BytesMut::new();
        if known.nodes.iter().any(|target| target.has_same_type) {
            let mut encoder = Encoder::new(&mut payload, usize::MAX);
            encoder.put(&(&item,)).map_err(|error| PublishError::Codec(error.to_string().into()))?;
        }
        let payload = payload.freeze();
        let mut published = Published { local: self.fanout.deliver(item), ..Published::default() };
        for target in &known.nodes {
            match targets.send(inner, target, &payload) {
                Sent::Done => published.nodes += 1,
                Sent::Lost(reason) => {
                    published.lost += 1;
                    host.dead_letter(format!("{name}@{}", target.address.node), false, reason);
                }
                Sent::Gone => {}
            }
        }
        Ok(published)
    }

    /// Subscribes: `topic.subscribe().await?`, or `topic.subscribe().buffer(16).await?`.
    pub fn subscribe(&self) -> Subscribe<T> {
        Subscribe::new(Arc::clone(&self.fanout))
    }
}

impl<T> Topic<T> {
    /// The topic's name.
    pub fn name(&self) -> &str {
        let name = &*self.fanout.name;
        name.strip_prefix(TOPIC_PREFIX).unwrap_or(name)
    }
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Self { fanout: Arc::clone(&self.fanout) }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name()).finish()
    }
}
