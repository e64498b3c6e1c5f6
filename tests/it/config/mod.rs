//! Nodes that are started from files, and files that change while they run.

mod discovery;
mod follow;
mod load;
mod reload;
mod services;
mod start;
mod topology;

use std::path::PathBuf;

use skyhold::prelude::*;
use skyhold::{ConfigError, NodeBuilder, Reload};
use tempfile::TempDir;

/// A folder for the files of one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file as a whole, and gives its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Begins a node by a file of this content, without the environment.
    pub(crate) fn builder(&self, name: &str, content: &str) -> Result<NodeBuilder, ConfigError> {
        NodeBuilder::from_config_with(self.write(name, content), [("", ""); 0])
    }

    /// Why a node does not start from such a file.
    pub(crate) async fn start_error(&self, name: &str, content: &str) -> String {
        self.builder(name, content).unwrap().start().await.unwrap_err().to_string()
    }

    pub(crate) async fn start(&self, name: &str, content: &str) -> Node {
        self.builder(name, content).unwrap().start().await.unwrap()
    }
}

/// Counts.
#[derive(Default)]
struct Counter {
    total: u64,
}

#[service]
impl Counter {
    pub fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        self.total
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    pub async fn never(&self) {
        std::future::pending().await
    }
}

/// What was changed, in words.
fn shown(reload: &Reload) -> Vec<String> {
    reload.changes.iter().map(ToString::to_string).collect()
}

const SECRET: &str = "the secret of this test";

/// A node that listens, without security.
pub(crate) fn open(name: &str) -> String {
    format!(
        "[node]\nname = \"{name}\"\nlisten = \"127.0.0.1:0\"\n[security]\ninsecure_without_secret = true\n"
    )
}
