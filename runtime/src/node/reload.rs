//! What comes of reading a node's configuration again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::{Change, ConfigError, Effect};
use crate::id::NodeId;
use crate::node::staffing::FailedService;

/// What a reload has done, or would do: each key that has changed, and whether the change is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reload {
    /// The version of the configuration in force afterwards: 1 from the node's start, and one more with each reload that has put a
    /// change in force.
    pub version: u64,
    /// The keys that have another value than the one in force. One that needs a restart is named by every reload until then.
    pub changes: Vec<Change>,
    /// The services that are not as the file says, since they refused to start. What was before goes on, if it could; the next reload tries again.
    /// Empty in a plan.
    pub failed: Vec<FailedService>,
}

impl Reload {
    /// The changes that are not in force before the node is started again.
    pub fn needs_restart(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.effect == Effect::Restart)
    }
}

/// Why nothing was reloaded. The configuration in force has not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node was not started from a file.
    #[error("node {0} was not started from a configuration file")]
    NoFile(NodeId),
    /// The node has shut down.
    #[error("node {0} has shut down")]
    NodeStopped(NodeId),
}

/// Says in the log what came of a reload that nobody waits for.
pub(crate) fn log(node: &NodeId, cause: &str, reload: &Result<Reload, ReloadError>) {
    match reload {
        Ok(Reload { version, changes, .. }) if changes.is_empty() => {
            tracing::info!(%node, cause, version, "the configuration has not changed");
        }
        Ok(Reload { version, changes, failed }) => {
            tracing::info!(%node, cause, version, changes = changes.len(), "the configuration was reloaded");
            for change in changes {
                match change.effect {
                    Effect::Restart => tracing::warn!(%node, "{change}"),
                    Effect::Live | Effect::NewConnections => tracing::info!(%node, "{change}"),
                }
            }
            log_failed(node, failed);
        }
        Err(error) => tracing::error!(%node, cause, "the old configuration stays in force: {}", Chain(error)),
    }
}

/// Says in the log which services are not as the file says.
pub(crate) fn log_failed(node: &NodeId, failed: &[FailedService]) {
    for FailedService { service, problem } in failed {
        tracing::error!(%node, service, problem, "a service is not as the file says");
    }
}

/// An error with its causes.
pub(crate) struct Chain<'e>(pub(crate) &'e dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
