//! Clusters inside one process, over an in-memory network with faults: for `cargo test`.
//!
//! Under `#[tokio::test(start_paused = true)]` a test of deadlines and failures runs in milliseconds, since tokio's
//! paused clock jumps to the next timer whenever everybody waits.
//!
//! ```
//! use skyhold::prelude::*;
//! use skyhold::testing::Cluster;
//!
//! #[derive(Default)]
//! struct Counter {
//!     total: u64,
//! }
//!
//! #[service]
//! impl Counter {
//!     pub async fn add(&mut self, by: u64) -> u64 {
//!         self.total += by;
//!         self.total
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cluster = Cluster::start(3).await;
//! cluster[0].service("counter", Counter::default).start().await.unwrap();
//! let counter = CounterHandle::lookup(&cluster[2], "counter").await.unwrap();
//! assert_eq!(counter.add(2).await.unwrap(), 2);
//! # }
//! ```

mod cluster;
mod names;
mod network;
mod revisions;
mod usage;

pub use cluster::Cluster;
pub use names::Names;
pub use revisions::first_revision;
pub use usage::{Usage, usage};
