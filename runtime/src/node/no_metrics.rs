//! What stands in the place of `node::metrics` in a program that was built without the feature `metrics`: nothing.

use std::sync::Arc;

use crate::config::{Secret, Settings};
use crate::error::StartError;
use crate::node::node::Inner;

#[derive(Default)]
pub(crate) struct Meter(());

#[derive(Default)]
pub(crate) struct Extra(());

pub(crate) struct Endpoint;

impl Endpoint {
    /// No settings ask for one: `Settings::missing_feature`.
    #[expect(clippy::unused_async, reason = "where there is an endpoint it listens")]
    pub(crate) async fn bind(_: &Settings, _: Option<&Secret>, _: Extra) -> Result<Self, StartError> {
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "where there is an endpoint it is used up")]
    pub(crate) fn start(self, _: &Arc<Inner>) {}
}
