//! Brings the services that run here into line with the file: what is new is started, what is gone is drained, what is configured otherwise
//! begins other lives, one after the other.
//!
//! Invariant: everything that can be looked at before was: what fails here is a service that refuses to start, or was steered by others meanwhile.

use serde::{Deserialize, Serialize};

use crate::config::ServiceEntry;
use crate::error::StartError;
use crate::node::kinds::Ready;
use crate::node::node::Node;
use crate::node::reload::Chain;
use crate::supervision::Pace;

/// A service that is not as the file says. Got from [`Reload::failed`](crate::Reload::failed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailedService {
    /// Its name.
    pub service: String,
    /// Why.
    pub problem: String,
}

/// What is to be done about one service.
pub(crate) struct Staffing {
    pub(crate) name: String,
    pub(crate) old: Option<Prepared>,
    pub(crate) new: Option<Prepared>,
}

/// A service of the file.
pub(crate) struct Prepared {
    pub(crate) entry: ServiceEntry,
    /// `None`: it cannot be prepared any more.
    pub(crate) ready: Option<Ready>,
}

/// What has become of a service.
pub(crate) struct Staffed {
    /// What the file has said of the one that runs now, if one does.
    pub(crate) entry: Option<ServiceEntry>,
    pub(crate) failed: Option<FailedService>,
}

impl Staffing {
    /// Does it. Dropped half-way, the next reload goes on.
    pub(crate) async fn apply(self, node: &Node) -> Staffed {
        let Self { name, old, new } = self;
        let Some(Prepared { entry, ready: Some(ready) }) = new else {
            node.drain_service(&name).await;
            return Staffed { entry: None, failed: None };
        };
        let is_same = |old: &Prepared| old.entry.is_same_service(&entry) && runs(node, &name);
        let (before, outcome) = match old {
            Some(old) if is_same(&old) => {
                let outcome = change(node, &old, &entry, ready).await;
                (Some(old.entry), outcome)
            }
            other => {
                if other.is_some() {
                    node.drain_service(&name).await;
                }
                (None, ready.start(node.without_owner()).await)
            }
        };
        match outcome {
            Ok(()) => Staffed { entry: Some(entry), failed: None },
            Err(error) => {
                let failed = FailedService { service: name, problem: Chain(&error).to_string() };
                Staffed { entry: before, failed: Some(failed) }
            }
        }
    }
}

/// Changes a service that runs: first what it is configured with, then how many instances there are.
async fn change(node: &Node, old: &Prepared, new: &ServiceEntry, ready: Ready) -> Result<(), StartError> {
    let name = &new.name;
    if old.entry.config != new.config {
        if !ready.exchange() {
            // Somebody else has started it meanwhile.
            node.drain_service(name).await;
            return ready.start(node.without_owner()).await;
        }
        if let Err(error) = node.restart_service(name, Pace::Rolling).await {
            // What was before goes on.
            if old.ready.as_ref().is_some_and(Ready::exchange) {
                let _ = node.restart_service(name, Pace::Rolling).await; // its supervisor goes on if this fails
            }
            return Err(error);
        }
    }
    if old.entry.instances != new.instances {
        node.scale_service(name, new.instances).await?;
    }
    Ok(())
}

fn runs(node: &Node, name: &str) -> bool {
    node.inner().groups().contains_key(name)
}
