//! Where the central configuration is kept, and how much of it.
//!
//! Invariant: plain values. What is kept there is the node's matter: `node::central`.

use std::path::PathBuf;

use crate::id::NodeId;

use super::settings::Problem;

/// The section `[config]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Central {
    /// The name of the node that holds it; empty if none does.
    pub(crate) holder: String,
    /// The holder's file.
    pub(crate) path: Option<PathBuf>,
    /// The endpoints of the registry that holds it.
    pub(crate) etcd: Vec<String>,
    /// The largest value, in bytes of its text.
    pub(crate) max_value: usize,
    /// How many keys there may be.
    pub(crate) max_keys: usize,
    /// How many bytes all values may have together, with those of earlier versions.
    pub(crate) max_total: usize,
    /// How many versions of each key are kept, with the present one.
    pub(crate) history: usize,
}

impl Default for Central {
    fn default() -> Self {
        Self {
            holder: String::new(),
            path: None,
            etcd: Vec::new(),
            max_value: 64 * 1024,
            max_keys: 1024,
            max_total: 4 * 1024 * 1024,
            history: 16,
        }
    }
}

impl Central {
    /// The first thing that cannot be used, on a node of this name that takes messages of this size.
    pub(super) fn problem(&self, node: &str, max_message: usize) -> Option<Problem> {
        let problem = |setting, key, text: String| Some(Problem { setting, key, text });
        if !self.holder.is_empty() {
            if let Err(error) = NodeId::new(&self.holder) {
                return problem("config_holder", "config.holder", format!("cannot be used: {error}"));
            }
            if !self.etcd.is_empty() {
                let text = "stands beside `config.etcd`; the configuration is held by a node or by etcd";
                return problem("config_holder", "config.holder", text.to_owned());
            }
            if self.holder == node && self.path.is_none() {
                let text =
                    format!("is missing; node {node} holds the configuration, and keeps it in that file");
                return problem("config_path", "config.path", text);
            }
        }
        let counts = [("config.max_keys", self.max_keys), ("config.history", self.history)];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return problem(key, key, "is zero; more is needed".to_owned());
        }
        // A value travels in a message, where anything is kept at all.
        let is_kept = !self.holder.is_empty() || !self.etcd.is_empty();
        let most = if is_kept { max_message / 2 } else { usize::MAX };
        if self.max_value == 0 || self.max_value > most {
            let text = format!(
                "is {} bytes; 1 to {} are possible, half of `transport.max_message`",
                self.max_value,
                max_message / 2
            );
            return problem("config.max_value", "config.max_value", text);
        }
        if self.max_total < self.max_value {
            let text = format!("is {} bytes; at least `config.max_value` is needed", self.max_total);
            return problem("config.max_total", "config.max_total", text);
        }
        None
    }
}
