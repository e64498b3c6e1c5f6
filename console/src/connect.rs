//! Joins the cluster as a client.
//!
//! Invariant: it says whom it tried, and what they said.

use std::fs;
use std::path::Path;

use skyhold::{Event, Node, NodeBuilder, Secret};
use toml::{Table, Value};

use crate::args::Reach;
use crate::failure::Failure;

/// Where a node listens, if nothing else is said.
const DEFAULT_NODE: &str = "127.0.0.1:7001";

/// What is known of the cluster before it is reached.
struct Known {
    seeds: Vec<String>,
    cluster: Option<String>,
    secret: Option<Secret>,
}

/// A client that is connected with a node at least.
pub(crate) async fn connect(reach: &Reach) -> Result<Node, Failure> {
    let Known { seeds, cluster, secret } = known(reach)?;
    let name = reach.name.clone().unwrap_or_else(|| format!("console-{:08x}", fastrand::u32(..)));
    let mut builder = Node::builder(name).client().call_timeout(reach.timeout);
    if let Some(cluster) = cluster {
        builder = builder.cluster(cluster);
    }
    let mut is_secured = false;
    if let Some(secret) = secret {
        (builder, is_secured) = (builder.secret(secret), true);
    }
    if !reach.tls.is_empty() {
        (builder, is_secured) = (with_tls(builder, &reach.tls)?, true);
    }
    if reach.insecure {
        builder = builder.insecure_without_secret();
    } else if !is_secured {
        let text =
            "which secret? `--secret-file FILE`, `--config FILE`, `--tls ..`, or `--insecure` is needed";
        return Err(Failure::Usage(text.to_owned()));
    }
    let builder = seeds.iter().fold(builder, NodeBuilder::seed);
    let node = builder.start().await.map_err(|error| Failure::Usage(with_causes(&error)))?;
    wait(node, &seeds, reach).await
}

/// Waits until a node has let it in.
async fn wait(node: Node, seeds: &[String], reach: &Reach) -> Result<Node, Failure> {
    let mut events = node.events();
    let mut said = Vec::new();
    let connected = async {
        while node.peers().is_empty() {
            match events.next().await {
                Some(Event::PeerRefused { address, reason }) => {
                    said.push(format!("{address}: {reason}"));
                    if said.len() >= seeds.len() {
                        return false; // it would be refused again
                    }
                }
                Some(_) => {}
                None => return false,
            }
        }
        true
    };
    let in_time = tokio::time::timeout(reach.timeout, connected).await;
    if in_time == Ok(true) {
        return Ok(node);
    }
    let (tried, time) = (seeds.join(", "), reach.timeout);
    let text = if said.is_empty() {
        format!(
            "no node answered at {tried} within {time:?}: is one running there, and is the address right?"
        )
    } else {
        format!("no node let it in: {}; is the secret the same, and the cluster's name?", said.join("; "))
    };
    Err(Failure::Unreached(text))
}

fn known(reach: &Reach) -> Result<Known, Failure> {
    let mut known = match &reach.config {
        Some(file) => from_file(file)?,
        None => Known { seeds: Vec::new(), cluster: None, secret: None },
    };
    if !reach.node.is_empty() {
        known.seeds.clone_from(&reach.node);
    }
    if known.seeds.is_empty() {
        known.seeds.push(DEFAULT_NODE.to_owned());
    }
    if reach.cluster.is_some() {
        known.cluster.clone_from(&reach.cluster);
    }
    if let Some(file) = &reach.secret_file {
        known.secret = Some(secret(file)?);
    }
    Ok(known)
}

/// What a node's file says of how the node is reached.
fn from_file(file: &Path) -> Result<Known, Failure> {
    let usage = |problem: String| Failure::Usage(format!("{}: {problem}", file.display()));
    let text = fs::read_to_string(file).map_err(|error| usage(error.to_string()))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| usage(error.to_string()))?;
    let text_at = |section: &str, key: &str| {
        let value = table.get(section).and_then(Value::as_table).and_then(|section| section.get(key));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    let seeds = table.get("topology").and_then(Value::as_table).and_then(|section| section.get("seeds"));
    let seeds = seeds.and_then(Value::as_array).into_iter().flatten();
    let seeds = seeds.filter_map(Value::as_str).map(str::to_owned);
    let own = text_at("node", "listen").map(|address| address.replace("0.0.0.0:", "127.0.0.1:"));
    let secret_file = text_at("security", "secret_file");
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(Known {
        seeds: own.into_iter().chain(seeds).collect(),
        cluster: text_at("node", "cluster"),
        secret: secret_file.map(|name| secret(&folder.join(name))).transpose()?,
    })
}

fn secret(file: &Path) -> Result<Secret, Failure> {
    Secret::from_file(file).map_err(|error| Failure::Usage(with_causes(&error)))
}

#[cfg(feature = "tls")]
fn with_tls(builder: NodeBuilder, files: &[std::path::PathBuf]) -> Result<NodeBuilder, Failure> {
    let [certificate, key, authority] = files else {
        return Err(Failure::Usage("`--tls` takes three files".to_owned()));
    };
    let tls = skyhold::Tls::from_pem_files(certificate, key, authority);
    Ok(builder.tls(tls.map_err(|error| Failure::Usage(with_causes(&error)))?))
}

#[cfg(not(feature = "tls"))]
fn with_tls(_builder: NodeBuilder, _files: &[std::path::PathBuf]) -> Result<NodeBuilder, Failure> {
    Err(Failure::Usage("this console was built without the feature `tls`".to_owned()))
}

/// An error with its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
