//! What stands in the place of `etcd` without that feature: nothing is in etcd.

use std::sync::Arc;

use crate::config;

use super::error::CentralError;
use super::place::Central;
use super::space::{Author, SettingVersion, Version, Write};

/// There is none.
#[derive(Debug)]
pub(super) enum Etcd {}

impl Etcd {
    pub(super) fn new(_endpoints: &[String], _cluster: &str) -> Option<Self> {
        None
    }

    pub(super) fn look(&self) {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(super) async fn write(
        &self,
        _write: &Write,
        _author: &Author,
        _limits: &config::Central,
    ) -> Result<Version, CentralError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(super) async fn history(&self, _key: &str) -> Result<Vec<SettingVersion>, CentralError> {
        match *self {}
    }
}

/// There is nothing to follow.
#[expect(clippy::unused_async, reason = "as with the feature")]
pub(super) async fn follow(_central: Arc<Central>) {}
