//! The cluster for tests: nodes, each on a host of its own in one in-memory network.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::node::builder::NodeBuilder;
use crate::node::node::Node;
use crate::testing::network::Network;
use crate::time;

/// The port on which every node listens.
const PORT: u16 = 7000;

/// How long the nodes may take to connect. Nothing here takes so long, but for a bug.
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes a node's settings before it starts.
type Configure = Box<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

/// Some nodes in one process, connected with each other over a network in memory, whose faults the test makes.
///
/// The nodes are named `n0`, `n1`, and so on; `cluster[0]` is the first. A fault is in force when the method that makes
/// it returns.
pub struct Cluster {
    network: Network,
    nodes: Vec<Node>,
    configure: Configure,
    /// Whether each node has each other for a seed.
    is_seeded: bool,
}

impl Cluster {
    /// Starts `nodes` nodes and waits until each is connected with each.
    ///
    /// # Panics
    /// If that fails, which is a bug.
    pub async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, |builder| builder).await
    }

    /// As [`Cluster::start`], with settings: `Cluster::start_with(3, |node| node.call_timeout(Duration::from_secs(1)))`.
    ///
    /// # Panics
    /// If that fails: a setting cannot be used, or the settings keep the nodes apart.
    pub async fn start_with<F>(nodes: usize, configure: F) -> Self
    where
        F: Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    {
        let mut cluster = Self::new(Box::new(configure), true);
        for index in 0..nodes {
            let node = cluster.start_node(index, nodes).await;
            cluster.nodes.push(node);
        }
        cluster.connected().await;
        cluster
    }

    /// A cluster without nodes, which [`Cluster::add`] gets one by one. They have no seeds and do not know of each other, but for what
    /// the settings say: for tests of [`Discovery`](crate::Discovery). The hosts `n0`, `n1`, and so on, have the addresses 10.0.0.1,
    /// 10.0.0.2, and so on, and each node listens on port 7000.
    pub fn without_seeds<F>(configure: F) -> Self
    where
        F: Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    {
        Self::new(Box::new(configure), false)
    }

    fn new(configure: Configure, is_seeded: bool) -> Self {
        Self { network: Network::new(), nodes: Vec::new(), configure, is_seeded }
    }

    /// Starts one more node, and does not wait until it is connected: [`Cluster::connected`]. Nodes that live already do not get it for
    /// a seed.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add(&mut self) -> &Node {
        let index = self.nodes.len();
        let node = self.start_node(index, index).await;
        self.nodes.push(node);
        &self.nodes[index]
    }

    /// Starts a [client](NodeBuilder::client) of that name, whose one seed is the node of that number. It is a host of its own in the network, and
    /// none of the cluster's nodes.
    ///
    /// # Panics
    /// If it does not start, or there is no node of that number.
    pub async fn client(&self, name: &str, seed: usize) -> Node {
        let host = self.network.host(name);
        let client = Node::builder(name).client().insecure_without_secret().transport(Arc::new(host));
        let seed = format!("{}:{PORT}", self.nodes[seed].id());
        match client.seed(seed).start().await {
            Ok(node) => node,
            Err(error) => panic!("client {name} did not start: {error}"),
        }
    }

    /// How many nodes the cluster was started with, whether or not they live.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the cluster was started with no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Waits until each node that lives is connected with each other that lives.
    ///
    /// # Panics
    /// If that takes more than a minute.
    pub async fn connected(&self) {
        let living: Vec<_> = self.nodes.iter().filter(|node| !node.inner().host.tasks.is_aborted()).collect();
        let all = join_all(living.iter().map(|node| wait_for_peers(node, living.len() - 1)));
        assert!(
            time::timeout(PATIENCE, all).await.is_some(),
            "the nodes did not connect within {PATIENCE:?}"
        );
    }

    /// Cuts every link between the nodes on the left and those on the right. What is sent is held back, as TCP does, and
    /// arrives after [`Cluster::heal`], if the connection still stands by then.
    ///
    /// # Panics
    /// If there is no node of a number.
    pub async fn partition(&self, left: &[usize], right: &[usize]) {
        for (&left, &right) in left.iter().flat_map(|left| right.iter().map(move |right| (left, right))) {
            self.network.partition(&[&name(left)], &[&name(right)]);
        }
        tokio::task::yield_now().await;
    }

    /// Whether the link between two nodes is cut.
    ///
    /// # Panics
    /// If there is no node of a number.
    pub fn is_partitioned(&self, a: usize, b: usize) -> bool {
        self.network.is_partitioned(&name(a), &name(b))
    }

    /// Restores every link that was cut.
    pub async fn heal(&self) {
        self.network.heal();
        tokio::task::yield_now().await;
    }

    /// Sets how long bytes take from one node to another, one way. Default 0.
    pub async fn delay(&self, delay: Duration) {
        self.network.delay(delay);
        tokio::task::yield_now().await;
    }

    /// Sets how long bytes take between two nodes, one way, until the next [`Cluster::delay`].
    ///
    /// # Panics
    /// If there is no node of a number.
    pub async fn delay_between(&self, a: usize, b: usize, delay: Duration) {
        self.network.delay_between(&name(a), &name(b), delay);
        tokio::task::yield_now().await;
    }

    /// Kills a node as `kill -9` does: no goodbye, its sockets are reset, its handlers are dropped where they are.
    ///
    /// # Panics
    /// If there is no node of that number.
    pub async fn kill(&self, index: usize) {
        self.network.crash(&name(index));
        let host = &self.nodes[index].inner().host;
        host.tasks.abort();
        host.tasks.ended().await;
    }

    /// Makes a node's network stand still: nothing comes from it and nothing reaches it, but its sockets stay open.
    ///
    /// # Panics
    /// If there is no node of that number.
    pub async fn pause(&self, index: usize) {
        self.network.pause(&name(index));
        tokio::task::yield_now().await;
    }

    /// Whether a node's network stands still.
    ///
    /// # Panics
    /// If there is no node of that number.
    pub fn is_paused(&self, index: usize) -> bool {
        self.network.is_paused(&name(index))
    }

    /// Ends a [`Cluster::pause`].
    ///
    /// # Panics
    /// If there is no node of that number.
    pub async fn resume(&self, index: usize) {
        self.network.resume(&name(index));
        tokio::task::yield_now().await;
    }

    /// Starts a node again, under the same name and at the same address, as a later life. If it lives it is killed first.
    ///
    /// # Panics
    /// If there is no node of that number, or the nodes do not connect.
    pub async fn restart(&mut self, index: usize) {
        if !self.nodes[index].inner().host.tasks.is_aborted() {
            self.kill(index).await;
        }
        self.nodes[index] = self.start_node(index, self.nodes.len()).await;
        self.connected().await;
    }

    async fn start_node(&self, index: usize, nodes: usize) -> Node {
        let host = self.network.host(&name(index));
        let mut builder = Node::builder(name(index))
            .insecure_without_secret()
            .transport(Arc::new(host))
            .listen(format!("0.0.0.0:{PORT}"))
            .connections_per_peer(connections_per_peer());
        for other in (0..nodes).filter(|&other| other != index && self.is_seeded) {
            builder = builder.seed(format!("{}:{PORT}", name(other)));
        }
        match (self.configure)(builder).start().await {
            Ok(node) => node,
            Err(error) => panic!("node {index} did not start: {error}"),
        }
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

/// How many connections the nodes of a cluster have to each other, if the test says nothing else: that of the environment, so that a
/// whole suite of tests may run with several.
fn connections_per_peer() -> usize {
    match std::env::var(CONNECTIONS) {
        Ok(number) => {
            number.parse().unwrap_or_else(|_| panic!("{CONNECTIONS} is {number:?}; a number is expected"))
        }
        Err(_) => 1,
    }
}

/// The environment variable for it.
const CONNECTIONS: &str = "SKYHOLD_TESTING_CONNECTIONS";

/// The name of a node, and of its host.
fn name(index: usize) -> String {
    format!("n{index}")
}

async fn wait_for_peers(node: &Node, count: usize) {
    let mut events = node.events();
    while node.peers().len() < count {
        if events.next().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
