//! Models of the races at the ends of instances, for loom: every order in which the threads of a model may go.
//!
//! `.ci/models` runs them. They drive the code of this crate itself, whose locks and atomics (`crate::sync`) are then loom's.
//!
//! Invariant: what a model asks after its threads have ended follows from locks and atomics that loom sees. A channel
//! of tokio is one step for it, and no reason to try another order.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::event::StopReason;
use crate::id::{Incarnation, NodeId};
use crate::port::{WatchId, Watcher};
use crate::service::core::Core;
use crate::service::host::Host;

mod lives;
mod watchers;

/// Tries every order.
fn in_every_order(model: impl Fn() + Send + Sync + 'static) {
    LazyLock::force(&HOST);
    loom::model(model);
}

/// The host of all models. It stands outside of them, as nothing in it is loom's.
static HOST: LazyLock<Arc<Host>> =
    LazyLock::new(|| Arc::new(Host::new(NodeId::new("a").unwrap(), Incarnation(1), Duration::from_secs(1))));

/// A supervised instance that waits for the word for its first life.
fn supervised() -> Arc<Core> {
    Arc::new(Core::new(&HOST, "modelled".into(), "Modelled", true))
}

/// Notes what it is told. One step of the model.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<(u64, StopReason)>>);

impl Watcher for Notes {
    fn down(&self, watch: WatchId, reason: StopReason) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((watch.0, reason));
    }
}

impl Notes {
    /// The reasons that were told by the watch of that number.
    fn of(&self, watch: u64) -> Vec<StopReason> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(of, _)| *of == watch).map(|(_, reason)| reason.clone()).collect()
    }
}
