//! What stands in the place of `node::dashboard` in a program that was built without the feature `dashboard`: nothing.

use std::sync::Arc;

use crate::config::{Secret, Settings};
use crate::error::StartError;
use crate::node::node::Inner;

/// Where the page is.
#[derive(Default)]
pub(crate) struct Shown(());

pub(crate) struct Dashboard;

impl Dashboard {
    /// No settings ask for one: `Settings::missing_feature`.
    #[expect(clippy::unused_async, reason = "where there is a page it listens")]
    pub(crate) async fn bind(_: &Settings, _: Option<&Secret>) -> Result<Self, StartError> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "where there is a page it is used up")]
    pub(crate) fn start(self, _: &Arc<Inner>) {}
}
