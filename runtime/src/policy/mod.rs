//! Pure decisions: no task, no socket, no clock.

pub(crate) mod backoff;
pub(crate) mod balance;
pub(crate) mod budget;
pub(crate) mod rendezvous;
pub(crate) mod restart;
