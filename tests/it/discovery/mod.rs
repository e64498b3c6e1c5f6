//! Nodes that find their first peers by providers.

pub(crate) mod etcd;
mod failing;
mod providers;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use skyhold::prelude::*;
use skyhold::{AskingNode, Discovery, DiscoveryError, DiscoveryFuture, Event, Events};

/// How long the nodes wait between two questions, unless a test says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);

/// A provider that answers what the test has told it last, to each node something of its own. Clones are the same.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(String, Answer)>>>);

#[derive(Clone)]
enum Answer {
    Found(Vec<String>),
    Fails(String),
    Panics,
    Hangs,
}

impl Told {
    fn node(&self, node: &str, answer: Answer) {
        let mut told = self.0.lock().unwrap();
        told.retain(|(known, _)| known != node);
        told.push((node.to_owned(), answer));
    }

    fn finds(&self, node: &str, addresses: &[&str]) {
        self.node(node, Answer::Found(addresses.iter().map(ToString::to_string).collect()));
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl Discovery for Told {
    fn find<'a>(&'a self, node: &'a AskingNode) -> DiscoveryFuture<'a, Vec<String>> {
        let told = self.0.lock().unwrap().clone();
        let answer = told.into_iter().find(|(known, _)| known == node.id.as_str()).map(|(_, answer)| answer);
        Box::pin(async move {
            match answer {
                None => Ok(vec![]),
                Some(Answer::Found(addresses)) => Ok(addresses),
                Some(Answer::Fails(why)) => Err(DiscoveryError::Other(why.into())),
                Some(Answer::Panics) => panic!("a provider panics"),
                Some(Answer::Hangs) => std::future::pending().await,
            }
        })
    }
}

/// Lets the (paused) clock go on.
async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The reasons of the refusals that came.
fn refusals(events: &mut Events) -> Vec<String> {
    let came = std::iter::from_fn(|| events.next().now_or_never().flatten());
    let refused = |event| match event {
        Event::PeerRefused { reason, .. } => Some(reason),
        _ => None,
    };
    came.filter_map(refused).collect()
}

fn peers(node: &Node) -> Vec<String> {
    node.peers().iter().map(ToString::to_string).collect()
}
