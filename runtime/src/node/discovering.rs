//! What a node's topology is made of: what is configured, and what each discovery provider has found, each kept for itself.
//!
//! Invariant: a change is an exchange of values: nothing here waits, but for the providers at the node's end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::discovery::{self, AddressFile, AskingNode, Discovery, Dns};
use crate::config::Settings;
use crate::id::NodeId;
use crate::net::topology::Topology;
use crate::node::seeker::Seeker;
use crate::port::Spawn;

/// Makes the topology, and owns the tasks that find a part of it.
pub(crate) struct Discovering {
    node: Arc<AskingNode>,
    spawn: Spawn,
    /// Those that code has given, and no file changes.
    seeds: Vec<String>,
    /// How long to wait between two questions.
    usual: watch::Sender<Duration>,
    topology: watch::Sender<Topology>,
    /// Guards what the topology is made of, so that of two changes one comes after the other.
    state: Mutex<State>,
}

struct State {
    configured: Topology,
    running: BTreeMap<Origin, Running>,
    /// Tells a provider's task from an earlier one of the same origin.
    number: u64,
    /// No provider is begun any more.
    is_ending: bool,
}

/// Where a provider comes from: a reload leaves those alone that stay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// From code, by its place.
    Code(usize),
    Dns(String),
    File(PathBuf),
    Etcd(Vec<String>, String),
}

/// A provider that is asked.
struct Running {
    number: u64,
    found: BTreeSet<String>,
    end: CancellationToken,
    /// Cancelled when its task has ended.
    ended: CancellationToken,
}

impl Discovering {
    /// The providers are asked from [`Discovering::start`] on.
    pub(crate) fn new(
        node: AskingNode,
        spawn: Spawn,
        settings: &Settings,
        seeds: Vec<String>,
    ) -> (Arc<Self>, watch::Receiver<Topology>) {
        let configured = configured(&node.id, settings, &seeds);
        let (topology, hears) = watch::channel(configured.clone());
        let (usual, _) = watch::channel(settings.discovery.refresh);
        let state = State { configured, running: BTreeMap::new(), number: 0, is_ending: false };
        let discovering =
            Self { node: Arc::new(node), spawn, seeds, usual, topology, state: Mutex::new(state) };
        (Arc::new(discovering), hears)
    }

    /// Begins to ask the providers that code has given, and those of the settings.
    pub(crate) fn start(self: &Arc<Self>, settings: &Settings, providers: Vec<Arc<dyn Discovery>>) {
        for (place, provider) in providers.into_iter().enumerate() {
            self.begin(&mut self.state(), Origin::Code(place), provider);
        }
        self.set(settings);
    }

    /// Puts other settings in the place of those in force. What providers have found stays, as long as they do.
    pub(crate) fn set(self: &Arc<Self>, settings: &Settings) {
        self.usual.send_if_modified(|usual| std::mem::replace(usual, settings.discovery.refresh) != *usual);
        let mut state = self.state();
        state.configured = configured(&self.node.id, settings, &self.seeds);
        let wanted = wanted(settings);
        state.running.retain(|origin, running| {
            let stays = matches!(origin, Origin::Code(_)) || wanted.contains(origin);
            if !stays {
                running.end.cancel();
            }
            stays
        });
        for origin in wanted {
            if !state.running.contains_key(&origin)
                && let Some(provider) = provider(&origin)
            {
                self.begin(&mut state, origin, provider);
            }
        }
        self.publish(&state);
    }

    /// Whether code has given seeds or providers.
    pub(crate) fn is_given_by_code(&self) -> bool {
        let is_code = |origin: &Origin| matches!(origin, Origin::Code(_));
        !self.seeds.is_empty() || self.state().running.keys().any(is_code)
    }

    /// Asks no provider any more, and waits until what they have made known is taken back. What was found stays in the
    /// topology: the node still needs its peers. Cancel safe.
    pub(crate) async fn end(&self) {
        let ended: Vec<_> = {
            let mut state = self.state();
            state.is_ending = true;
            state.running.values().for_each(|running| running.end.cancel());
            state.running.values().map(|running| running.ended.clone()).collect()
        };
        join_all(ended.iter().map(CancellationToken::cancelled)).await;
    }

    fn begin(self: &Arc<Self>, state: &mut State, origin: Origin, provider: Arc<dyn Discovery>) {
        if state.is_ending {
            return;
        }
        state.number += 1;
        let (number, end, ended) = (state.number, CancellationToken::new(), CancellationToken::new());
        let (discovering, of) = (Arc::clone(self), origin.clone());
        let seeker = Seeker {
            node: Arc::clone(&self.node),
            provider,
            usual: self.usual.subscribe(),
            report: Box::new(move |found| discovering.found(&of, number, found)),
            end: end.clone(),
        };
        let guard = ended.clone().drop_guard(); // also if the task is cut off
        (self.spawn)(Box::pin(async move {
            seeker.run().await;
            drop(guard);
        }));
        state.running.insert(origin, Running { number, found: BTreeSet::new(), end, ended });
    }

    /// A provider has an answer.
    fn found(&self, origin: &Origin, number: u64, found: BTreeSet<String>) {
        let mut state = self.state();
        let running = state.running.get_mut(origin).filter(|running| running.number == number);
        // It was taken away meanwhile, or nothing has changed.
        let Some(running) = running.filter(|running| running.found != found) else { return };
        tracing::debug!(node = %self.node.id, ?origin, ?found, "other addresses were found");
        running.found = found;
        self.publish(&state);
    }

    /// Under the lock, so that the last change is the last one to be seen.
    fn publish(&self, state: &State) {
        let mut topology = state.configured.clone();
        for address in state.running.values().flat_map(|running| &running.found) {
            topology.find(address);
        }
        self.topology.send_if_modified(|current| {
            let is_other = *current != topology;
            *current = topology;
            is_other
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to connect with by the settings. What is said of the node itself is for the others: they may have the same file.
fn configured(me: &NodeId, settings: &Settings, seeds: &[String]) -> Topology {
    let mut topology = Topology::default();
    for address in settings.seeds.iter().chain(seeds) {
        topology.seed(address, None);
    }
    for (name, address) in &settings.nodes {
        let Ok(node) = NodeId::new(name) else { continue }; // checked when it was read
        match address {
            _ if node == *me => {}
            Some(address) => topology.seed(address, Some(node)),
            None => drop(topology.off.insert(node)),
        }
    }
    topology
}

/// The providers of the settings.
fn wanted(settings: &Settings) -> BTreeSet<Origin> {
    let discovery = &settings.discovery;
    let dns = discovery.dns.iter().cloned().map(Origin::Dns);
    let file = discovery.file.iter().cloned().map(Origin::File);
    let etcd = Some(discovery.etcd.clone()).filter(|endpoints| !endpoints.is_empty());
    let etcd = etcd.into_iter().map(|endpoints| Origin::Etcd(endpoints, discovery.etcd_prefix.clone()));
    dns.chain(file).chain(etcd).collect()
}

fn provider(origin: &Origin) -> Option<Arc<dyn Discovery>> {
    match origin {
        Origin::Code(_) => None,
        Origin::Dns(address) => Some(Arc::new(Dns::new(address))),
        Origin::File(file) => Some(Arc::new(AddressFile::new(file))),
        Origin::Etcd(endpoints, prefix) => discovery::etcd(endpoints, prefix),
    }
}

impl fmt::Debug for Discovering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovering").field("node", &self.node).finish_non_exhaustive()
    }
}
