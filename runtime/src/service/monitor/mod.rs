//! What a node measures of its services: counts of each instance and method, times of samples, who waits for whom.
//!
//! | file | what it is |
//! |---|---|
//! | `sampler` | which ones are measured |
//! | `account` | what the polls of a task took |
//! | `metered` | the wrapper around a task that measures its polls |
//! | `figures` | what is known of one instance |
//! | `table` | what is known of the services of a node: how messages ended, how long they took and waited |
//! | `times` | a histogram of durations |
//! | `waits` | who waits for whom |
//!
//! Invariant: whoever asks reads shared numbers, and waits for nobody. An instance that was never called costs two words for it.

mod account;
mod figures;
mod metered;
mod sampler;
mod table;
mod times;
mod waits;

pub(crate) use figures::{Ended, Figures, Place};
pub(crate) use metered::{metered, metered_child};
pub(crate) use table::{Monitor, OfMethod, Tally};
pub(crate) use times::Summary;
pub(crate) use waits::{WaitGuard, WaitingCall};
