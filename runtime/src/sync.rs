//! The mutex and the atomics of what is modelled (`service::models`): those of std, and in the models those of loom.
//!
//! Invariant: without the cfg `skyhold_loom` these are std's own types. What is shared by an `Arc` stays with std's, as
//! loom's holds no `dyn`.

#[cfg(not(all(test, skyhold_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(all(test, skyhold_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
