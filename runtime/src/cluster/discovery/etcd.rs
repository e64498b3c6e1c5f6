//! The addresses that the nodes themselves write into etcd.
//!
//! A key for each node, `PREFIX/CLUSTER/NODE`, whose value is its address, under a lease that the node keeps alive.
//!
//! Invariant: a node takes back its own life's lease and nothing else, so that the key of a later life stays.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::is_address;

use super::gateway::{Gateway, decoded, encoded, escaped, number};
use super::{AskingNode, Discovery, DiscoveryError, DiscoveryFuture};

/// How long a node that died is known still, unless it is set.
const LEASE: Duration = Duration::from_secs(30);

/// The shortest lease, in seconds: etcd makes longer ones of those that are shorter than its election.
const SHORTEST_LEASE: u64 = 5;

/// A registry in [etcd](https://etcd.io) (feature `etcd`): every node writes its address into it, and finds those of all others.
///
/// A node that listens has the key `PREFIX/CLUSTER/NODE`, with the address for its value, under a lease that it keeps alive. The key
/// goes at its shutdown, and by itself some time after it died. A node that does not listen only reads. One that listens on `0.0.0.0`
/// or `[::]` is refused with an error in the log, as that address would lead nobody to it.
///
/// ```
/// # use skyhold::{Etcd, Node};
/// let node = Node::builder("a").listen("10.0.0.1:7001").discover(Etcd::new(["etcd-0:2379", "etcd-1:2379"]));
/// ```
///
/// It speaks plain HTTP with etcd's JSON gateway, which is on its client port (etcd 3.4 and later), without TLS and without a password:
/// whoever can write to that etcd can send nodes to any address, where only the cluster's secret or certificates keep them from
/// taking a stranger for a peer. etcd must not be out of reach for long: what was found counts on, but a new node finds nobody.
pub struct Etcd {
    gateway: Gateway,
    prefix: String,
    lease: Duration,
    /// Guards what this node has in the registry.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The lease's number, as etcd writes it.
    lease: Option<String>,
    /// Whether the key is there under that lease, for all that is known.
    is_listed: bool,
    /// The keys without an address of which the log was told.
    passed_over: Vec<String>,
}

impl Etcd {
    /// The registry in an etcd cluster that has these endpoints, each as `host:port`. One after the other is tried.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            gateway: Gateway::new(endpoints.into_iter().map(Into::into).collect()),
            prefix: "/skyhold".to_owned(),
            lease: LEASE,
            state: Mutex::default(),
        }
    }

    /// What all keys begin with. Default: `/skyhold`.
    #[must_use]
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// How long a node that died is known still, in whole seconds, at least 5 s; it says that it lives three times as often. Default:
    /// 30 s.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    fn seconds(&self) -> u64 {
        self.lease.as_secs().max(SHORTEST_LEASE)
    }

    async fn listed(&self, node: &AskingNode, address: SocketAddr) -> Result<(), DiscoveryError> {
        if address.ip().is_unspecified() {
            return Err(DiscoveryError::NoOwnAddress(address));
        }
        let known = self.state().lease.clone();
        let lease = match known {
            Some(lease) if self.is_kept_alive(&lease).await? => lease,
            _ => self.granted().await?,
        };
        if !self.state().is_listed {
            let (key, value) = (encoded(&self.key(node)), encoded(&address.to_string()));
            self.gateway.post("/v3/kv/put", &json!({ "key": key, "value": value, "lease": lease })).await?;
            self.state().is_listed = true;
        }
        Ok(())
    }

    async fn granted(&self) -> Result<String, DiscoveryError> {
        let answer = self.gateway.post("/v3/lease/grant", &json!({ "TTL": self.seconds() })).await?;
        let lease = number(&answer["ID"]).ok_or_else(|| no_answer("a lease", &answer))?;
        // Before the key is written, so that it is taken back whatever happens.
        let mut state = self.state();
        (state.lease, state.is_listed) = (Some(lease.clone()), false);
        Ok(lease)
    }

    /// Whether the lease still was there.
    async fn is_kept_alive(&self, lease: &str) -> Result<bool, DiscoveryError> {
        let answer = self.gateway.post("/v3/lease/keepalive", &json!({ "ID": lease })).await?;
        let left = number(&answer["result"]["TTL"]);
        Ok(left.is_some_and(|left| left != "0"))
    }

    async fn others(&self, node: &AskingNode) -> Result<Vec<String>, DiscoveryError> {
        let (from, to) = self.range(node);
        let answer = self.gateway.post("/v3/kv/range", &json!({ "key": from, "range_end": to })).await?;
        let entries = match &answer["kvs"] {
            Value::Null => Vec::new(), // there is none
            entries => entries.as_array().ok_or_else(|| no_answer("a list", &answer))?.clone(),
        };
        let own = self.key(node);
        let (mut addresses, mut passed_over, mut own_address) = (Vec::new(), Vec::new(), None);
        for entry in &entries {
            let (Some(key), address) = (decoded(&entry["key"]), decoded(&entry["value"])) else {
                return Err(no_answer("a key", entry));
            };
            match address {
                address if key == own => own_address = address,
                Some(address) if is_address(&address, 1) => addresses.push(address),
                _ => passed_over.push(key),
            }
        }
        let mut state = self.state();
        state.is_listed &= own_address == node.address.map(|address| address.to_string());
        // One that writes nonsense must not keep the others from being found.
        if passed_over != state.passed_over {
            tracing::warn!(node = %node.id, keys = ?passed_over, "entries in etcd have no address");
            state.passed_over = passed_over;
        }
        Ok(addresses)
    }

    async fn revoked(&self) -> Result<(), DiscoveryError> {
        let lease = self.state().lease.clone();
        if let Some(lease) = lease {
            self.gateway.post("/v3/lease/revoke", &json!({ "ID": lease })).await?;
            *self.state() = State::default();
        }
        Ok(())
    }

    fn key(&self, node: &AskingNode) -> String {
        format!("{}{}", self.folder(node), escaped(node.id.as_str()))
    }

    fn folder(&self, node: &AskingNode) -> String {
        format!("{}/{}/", self.prefix, escaped(&node.cluster))
    }

    /// The first key of the cluster, and the first behind its last: `0` follows upon `/`.
    fn range(&self, node: &AskingNode) -> (String, String) {
        let folder = self.folder(node);
        let end = format!("{}0", folder.trim_end_matches('/'));
        (encoded(&folder), encoded(&end))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discovery for Etcd {
    fn find<'a>(&'a self, node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        Box::pin(self.others(node))
    }

    fn pause(&self, usual: Duration) -> Duration {
        usual.min(Duration::from_secs(self.seconds()) / 3)
    }

    fn announce<'a>(&'a self, node: &'a AskingNode, address: SocketAddr) -> DiscoveryFuture<'a, ()> {
        Box::pin(self.listed(node, address))
    }

    fn withdraw<'a>(&'a self, _node: &'a AskingNode) -> DiscoveryFuture<'a, ()> {
        Box::pin(self.revoked())
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd")
            .field("endpoints", &self.gateway.endpoints())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn no_answer(expected: &str, answer: &Value) -> DiscoveryError {
    let text: String = answer.to_string().chars().take(200).collect();
    DiscoveryError::Other(format!("etcd's answer has not {expected}: {text}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};

    #[test]
    fn a_cluster_has_its_keys_for_itself_whatever_names_are() {
        let etcd = Etcd::new(["e:2379"]).prefix("/p");
        let node = |cluster: &str, name: &str| {
            AskingNode::new(cluster.to_owned(), NodeId::new(name).unwrap(), Incarnation(1), None)
        };
        assert_eq!(etcd.key(&node("shop", "a")), "/p/shop/a");
        let (from, to) = etcd.range(&node("shop", "a"));
        let range = [from, to].map(|key| decoded(&Value::String(key)).unwrap());
        assert_eq!(range, ["/p/shop/", "/p/shop0"]);
        let is_inside = |key: &String| (range[0].clone()..range[1].clone()).contains(key);
        for name in ["a", "~", "é", "a/b", "%"] {
            assert!(is_inside(&etcd.key(&node("shop", name))), "{name}");
            assert!(!is_inside(&etcd.key(&node("shop/x", name))), "{name}");
            assert!(!is_inside(&etcd.key(&node("shop0", name))), "{name}");
        }
        assert_ne!(etcd.key(&node("a/b", "c")), etcd.key(&node("a", "b/c")));
        assert_ne!(etcd.key(&node("a", "b/c")), etcd.key(&node("a", "b%2Fc")));
    }

    #[test]
    fn a_node_says_three_times_in_a_lease_that_it_lives() {
        let etcd = Etcd::new([""; 0]);
        assert_eq!(etcd.pause(Duration::from_secs(60)), Duration::from_secs(10));
        assert_eq!(etcd.pause(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(Etcd::new([""; 0]).lease(Duration::ZERO).seconds(), 5);
    }
}
