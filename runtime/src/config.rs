//! Settings that users give a node or a service.
//!
//! Invariant: plain values, checked when they are made; nothing here reads the clock or the network.

mod access;
mod central;
mod error;
mod field;
mod keys;
mod labels;
mod limits;
mod monitoring;
mod nearest;
mod place;
mod plan;
mod read;
mod routes;
mod secret;
mod services;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod units;

pub use access::Access;
pub(crate) use access::Asked;
pub(crate) use central::Central;
pub use error::ConfigError;
pub(crate) use field::is_address;
pub use labels::Labels;
pub(crate) use limits::LEAST_CREDIT;
pub use limits::Limits;
pub use monitoring::Monitoring;
pub(crate) use nearest::nearest;
pub use place::Place;
pub use plan::{Change, Effect};
pub(crate) use plan::{adopt, changes, services as service_changes};
pub(crate) use read::{MAX_CLUSTER, PREFIX, Read, read};
pub(crate) use routes::{Decision, To};
pub use routes::{Route, RouteRequest, Router, Routes, RoutesError, Routing, Subset};
pub use secret::{Secret, SecretError};
pub(crate) use services::ServiceEntry;
#[cfg(test)]
pub(crate) use settings::CONNECTIONS;
pub(crate) use settings::{Problem, Settings};

/// What happens to a message for which the mailbox has no room: `#[service(overflow = "reject")]`. The default is
/// [`Overflow::Wait`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// `"wait"`: its caller waits for room, a call's caller until its deadline.
    #[default]
    Wait,
    /// `"reject"`: it is refused at once with `CallError::Overloaded`; its handler does not run.
    Reject,
    /// `"drop_oldest"`: the oldest send in the mailbox is dropped to make room, and becomes a dead letter. A call is
    /// never dropped.
    DropOldest,
}

/// What happens to the messages in the mailbox when a supervisor restarts the instance:
/// `#[service(queued = "refuse")]`. The default is [`Queued::Keep`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Queued {
    /// `"keep"`: they stay, and the restarted instance handles them.
    #[default]
    Keep,
    /// `"refuse"`: calls are answered `CallError::Stopped`, sends become dead letters; their handlers do not run.
    Refuse,
}
