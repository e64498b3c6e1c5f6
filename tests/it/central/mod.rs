//! The central configuration: what both places where it may be kept promise, and what becomes of it when nodes fail.

mod contract;
mod faults;
mod file;
mod managed;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skyhold::prelude::*;
use skyhold::testing::Cluster;
use skyhold::{CentralError, NodeBuilder, Setting, Version};
use tempfile::TempDir;

/// How long a value may take. Nothing here takes so long, but for a bug.
const PATIENCE: Duration = Duration::from_secs(60);

/// The holder of a cluster's configuration, and the folder of its file. Nodes are told by [`Held::tell`].
#[derive(Clone)]
struct Held(Arc<TempDir>);

impl Held {
    fn new() -> Self {
        Self(Arc::new(TempDir::new().unwrap()))
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("skyhold.settings")
    }

    /// The first node holds the configuration.
    fn tell(&self, node: NodeBuilder) -> NodeBuilder {
        node.config_holder("n0").config_path(self.file())
    }

    async fn cluster(&self, nodes: usize) -> Cluster {
        let held = self.clone();
        let cluster = Cluster::start_with(nodes, move |node| held.tell(node)).await;
        ready(&cluster).await;
        cluster
    }
}

/// Waits until all nodes know the configuration.
async fn ready(cluster: &Cluster) {
    for index in 0..cluster.len() {
        cluster[index].config().ready().await.unwrap();
    }
}

/// A key as any value, `null` while it is not set.
async fn watch(node: &Node, key: &str) -> Setting<Value> {
    node.config().watch(key).or(Value::Null).await.unwrap()
}

/// Waits until the setting has a value. Of two that are compared the last one is from JSON.
async fn reaches(setting: &mut Setting<Value>, expected: impl Into<Value>) {
    let expected = expected.into();
    let reached = async {
        while *setting.get() != expected {
            setting.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
    assert!(in_time, "{setting:?} is not {expected}");
}

/// Waits until all nodes know a value.
async fn all_reach(cluster: &Cluster, key: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    for index in 0..cluster.len() {
        reaches(&mut watch(&cluster[index], key).await, expected.clone()).await;
    }
}

/// The values of a key's history, the newest first.
async fn history(node: &Node, key: &str) -> Vec<Option<String>> {
    node.config().history(key).await.unwrap().into_iter().map(|past| past.value).collect()
}

fn texts(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

/// The version of a key on a node.
fn version(node: &Node, key: &str) -> Version {
    node.config().get_text(key).unwrap().map_or(Version::NONE, |setting| setting.version)
}
