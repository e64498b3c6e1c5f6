//! The node: what users build, and where services, sockets and the cluster meet.

pub(crate) mod builder;
mod certificates;
pub(crate) mod cluster;
mod configured;
pub(crate) mod events;
mod follow;
pub(crate) mod group;
mod in_force;
pub(crate) mod lookup;
#[expect(clippy::module_inception, reason = "the file holds the type of that name")]
pub(crate) mod node;
mod pools;
pub(crate) mod registrar;
pub(crate) mod reload;
pub(crate) mod router;
pub(crate) mod shutdown;
mod signals;
pub(crate) mod supervisor;
pub(crate) mod topic;
pub(crate) mod travel;
