//! Brings the services that run here into line with the file: what is new is started, what is gone is drained, what is configured otherwise
//! begins other lives, one after the other.
//!
//! Invariant: everything that can be looked at before was: what fails here is a service that refuses to start, or was steered by others meanwhile.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::ServiceEntry;
use crate::error::StartError;
use crate::node::kinds::Ready;
use crate::node::node::Node;
use crate::node::reload::Chain;
use crate::supervision::Pace;
use crate::time;

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
    /// Or why it cannot be prepared any more.
    pub(crate) ready: Result<Ready, String>,
}

/// Why a service is not as the file says.
pub(crate) struct Unstaffed {
    pub(crate) problem: String,
    /// Whether nothing runs under its name, for certain.
    pub(crate) is_gone: bool,
}

impl Unstaffed {
    /// Something runs, or may.
    fn half_way(problem: String) -> Self {
        Self { problem, is_gone: false }
    }
}

/// How long one service may take. After it the node goes on with the next.
const WITHIN: Duration = Duration::from_secs(600);

impl Staffing {
    /// What is known of the service while it is being changed.
    pub(crate) fn half_way(&self) -> Option<ServiceEntry> {
        let known = self.old.as_ref().or(self.new.as_ref());
        known.map(|known| ServiceEntry { is_unsure: true, ..known.entry.clone() })
    }

    /// Does it, within [`WITHIN`], and gives what the file says of the service that runs then, if one does. Dropped half-way nobody knows how
    /// far it came.
    pub(crate) async fn apply(self, node: &Node) -> Result<Option<ServiceEntry>, Unstaffed> {
        let in_time = time::timeout(WITHIN, self.apply_whole(node)).await;
        in_time.unwrap_or_else(|| Err(Unstaffed::half_way(format!("it was not done within {WITHIN:?}"))))
    }

    async fn apply_whole(self, node: &Node) -> Result<Option<ServiceEntry>, Unstaffed> {
        let Self { name, old, new } = self;
        let Some(Prepared { entry, ready }) = new else {
            node.drain_service(&name).await;
            return Ok(None);
        };
        let ready = ready.map_err(Unstaffed::half_way)?;
        let Some(old) = old else {
            let started = ready.start(node.without_owner()).await;
            let gone = |error| Unstaffed { problem: shown(&error), is_gone: true };
            return started.map(|()| Some(entry)).map_err(gone);
        };
        let runs = node.inner().groups().contains_key(&*name);
        let goes_on = runs && old.entry.is_same_service(&entry);
        if goes_on && (!is_reconfigured(&old, &entry) || ready.exchange()) {
            let changed = change(node, &old, &entry).await;
            return changed.map(|()| Some(entry)).map_err(|error| Unstaffed::half_way(shown(&error)));
        }
        node.drain_service(&name).await;
        let Err(error) = ready.start(node.without_owner()).await else { return Ok(Some(entry)) };
        // What was before is better than nothing.
        let is_back = match old.ready {
            Ok(ready) if runs => ready.start(node.without_owner()).await.is_ok(),
            _ => false,
        };
        Err(Unstaffed { problem: shown(&error), is_gone: !is_back })
    }
}

/// Changes a service that runs: first the lives of its instances, which have another configuration by now, then how many there are.
async fn change(node: &Node, old: &Prepared, new: &ServiceEntry) -> Result<(), StartError> {
    let name = &new.name;
    if is_reconfigured(old, new)
        && let Err(error) = node.restart_service(name, Pace::Rolling).await
    {
        // What was before goes on.
        if old.ready.as_ref().is_ok_and(Ready::exchange) {
            let _ = node.restart_service(name, Pace::Rolling).await; // its supervisor goes on if this fails
        }
        return Err(error);
    }
    if old.entry.is_unsure || old.entry.instances != new.instances {
        node.scale_service(name, new.instances).await?;
    }
    Ok(())
}

fn is_reconfigured(old: &Prepared, new: &ServiceEntry) -> bool {
    old.entry.is_unsure || old.entry.config != new.config
}

fn shown(error: &StartError) -> String {
    Chain(error).to_string()
}
