//! What a node knows of the central configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::space::{SettingVersion, Space, Version};

/// The present values, as this node knows them.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Whether it has heard of them since its start.
    pub(super) is_heard: bool,
    /// The version of the last write that is in them.
    pub(super) version: Version,
    pub(super) settings: BTreeMap<String, Arc<SettingVersion>>,
}

impl Known {
    /// What a space has; what has not changed since `before` is shared with it.
    pub(super) fn of(space: &Space, before: &Self) -> Self {
        let last = |key: &String| {
            let setting = space.present(key)?;
            let kept = before.settings.get(key).filter(|before| ***before == *setting);
            Some((key.clone(), kept.map_or_else(|| Arc::new(setting.clone()), Arc::clone)))
        };
        let settings = space.records.keys().filter_map(last).collect();
        Self { is_heard: true, version: space.version, settings }
    }
}
