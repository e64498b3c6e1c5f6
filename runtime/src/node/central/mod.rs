//! The central configuration: a space of settings with versions, set once from anywhere and seen by all nodes.
//!
//! One place keeps it: the file of one node, its *holder* (`holder`, `disk`), or etcd (`etcd`). Every node has the present values
//! in memory (`known`), which its follower keeps up (`follow`), and by which it reads and watches (`setting`). Who writes asks all nodes
//! first whether those who watch can use the value (`ask`).
//!
//! Invariant: reading waits for nobody, and what is written is in force nowhere before it is kept.

mod ask;
mod builder;
mod disk;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(not(feature = "etcd"))]
#[path = "no_etcd.rs"]
mod etcd;
mod follow;
mod handle;
mod holder;
mod known;
mod live;
mod place;
mod service;
mod setting;
mod space;
#[cfg(test)]
mod tests;
mod text;

pub use error::CentralError;
pub(super) use follow::start;
pub use handle::{CentralConfig, Versioned};
pub(crate) use place::Central;
pub(super) use service::{CONFIG, ensure};
pub use setting::{Setting, WatchSetting};
pub use space::{SettingVersion, Version};
