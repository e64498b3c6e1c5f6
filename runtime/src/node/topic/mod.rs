//! Topics: what one publishes, every subscriber in the cluster gets.
//!
//! | file | what it is |
//! |---|---|
//! | `handle` | the topic as a publisher has it |
//! | `subscription`, `buffer` | the topic as a subscriber has it, and what waits for it |
//! | `fanout` | what all of one name on one node share: its subscribers, and the way into their buffers |
//! | `targets` | which other nodes an item goes to |
//! | `keeper` | the task that has a topic in the directory while it has subscribers |
//! | `table` | the topics of one node |
//! | `error` | why there is no topic, no subscription, no publication |
//!
//! Invariant: nothing here waits for a subscriber, and no lock is held while code of the user's runs.

mod buffer;
mod error;
mod fanout;
mod handle;
mod keeper;
mod subscription;
pub(crate) mod table;
mod targets;
#[cfg(test)]
mod tests;

pub use error::{PublishError, TopicError};
pub use handle::{Published, Topic, TopicItem};
pub use subscription::{Feed, Subscribe, Subscription};
