//! Models of the races at the ends of instances, for loom: every order in which the threads of a model may go.
//!
//! `.ci/models` runs them. They drive the code of this crate itself, whose locks and atomics (`crate::sync`) are then loom's.
//!
//! Invariant: what a model asks after its threads have ended follows from locks and atomics that loom sees. A channel
//! of tokio is one step for it, and no reason to try another order.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::id::{Incarnation, NodeId};
use crate::service::core::Core;
use crate::service::host::Host;

mod watchers;

/// Tries every order.
fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    loom::model(model);
}

/// The host of all models. It stands outside of them: nothing in it is loom's.
static HOST: LazyLock<Arc<Host>> =
    LazyLock::new(|| Arc::new(Host::new(NodeId::new("a").unwrap(), Incarnation(1), Duration::from_secs(1))));

/// A supervised instance that waits for the word for its first life.
fn supervised() -> Arc<Core> {
    Arc::new(Core::new(&HOST, "modelled".into(), "Modelled", true))
}
