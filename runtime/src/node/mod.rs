//! The node: what users build, and where services, sockets and the cluster meet.

#[cfg(feature = "metrics")]
mod admin;
pub(crate) mod builder;
pub(crate) mod central;
mod certificates;
pub(crate) mod cluster;
mod configured;
#[cfg(feature = "dashboard")]
pub(crate) mod dashboard;
#[cfg(not(feature = "dashboard"))]
#[path = "no_dashboard.rs"]
pub(crate) mod dashboard;
mod discovering;
pub(crate) mod events;
mod follow;
pub(crate) mod group;
mod in_force;
pub(crate) mod instances;
pub(crate) mod kinds;
pub(crate) mod lookup;
pub(crate) mod manager;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
pub(crate) mod metrics;
#[expect(clippy::module_inception, reason = "the file holds the type of that name")]
pub(crate) mod node;
mod pools;
pub(crate) mod registrar;
pub(crate) mod reload;
pub(crate) mod reload_all;
mod route;
pub(crate) mod router;
pub(crate) mod routing;
mod seeker;
pub(crate) mod selection;
pub(crate) mod shutdown;
mod signals;
pub(crate) mod staffing;
mod steering;
pub(crate) mod supervisor;
pub(crate) mod topic;
pub(crate) mod travel;
mod unique;
