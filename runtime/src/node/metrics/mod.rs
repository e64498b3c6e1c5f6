//! Metrics: what a manager tells, for the recorders of the `metrics` facade, and for Prometheus to fetch. With the feature `metrics`.
//!
//! | file | what it is |
//! |---|---|
//! | `gather` | the names, and where their values are read |
//! | `serve` | the endpoint that Prometheus asks |
//!
//! Invariant: nothing is done on the way of a message; figures are read when somebody asks for them.

mod gather;
mod serve;

pub use serve::{Prometheus, PrometheusError};
