//! Kinds of services: what makes a service startable by its name, from the file or from another node.
//!
//! Invariant: nothing is started before all that can be wrong with it was looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::config::{ConfigError, ServiceEntry, nearest};
use crate::error::StartError;
use crate::node::group::ServiceBuilder;
use crate::node::node::Node;
use crate::service::definition::Service;
use crate::service::message::WireMessage;

/// The kinds of one node, by name.
#[derive(Default)]
pub(crate) struct Kinds {
    /// Guards the kinds, for a look or a change.
    kinds: Mutex<BTreeMap<String, Arc<dyn Kind>>>,
}

/// How services of one kind are made.
trait Kind: Send + Sync {
    /// Reads the configuration, and gives what starts the service.
    ///
    /// # Errors
    /// It cannot be used, for this reason.
    fn prepare(&self, entry: &ServiceEntry) -> Result<Ready, String>;
}

/// A service that only has to be started, or to be told what it is configured with from now on.
pub(crate) struct Ready {
    start: Box<dyn FnOnce(Node) -> BoxFuture<'static, Result<(), StartError>> + Send + Sync>,
    exchange: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Ready {
    /// Starts it.
    pub(crate) async fn start(self, node: Node) -> Result<(), StartError> {
        (self.start)(node).await
    }

    /// Configures the one of its name that runs, for the lives of its instances that begin from now on. Gives whether there is one of its kind.
    pub(crate) fn exchange(&self) -> bool {
        (self.exchange)()
    }
}

/// Why a service cannot be started by its kind: the key to blame, and the problem.
#[derive(Debug)]
pub(crate) struct KindProblem {
    pub(crate) key: &'static str,
    pub(crate) problem: String,
}

impl Kinds {
    /// Adds a kind, or puts another one in the place of one.
    pub(crate) fn add<S, C, F>(&self, name: String, make: F)
    where
        S: Service,
        S::Message: WireMessage,
        C: DeserializeOwned + Send + Sync + 'static,
        F: Fn(&C) -> S + Send + Sync + 'static,
    {
        let kind = Typed { make: Arc::new(make), running: Arc::default(), types: PhantomData };
        self.kinds().insert(name, Arc::new(kind));
    }

    /// Reads what a service is configured with.
    pub(crate) fn prepare(&self, entry: &ServiceEntry) -> Result<Ready, KindProblem> {
        let kind = {
            let kinds = self.kinds();
            let known = kinds.get(&entry.kind).cloned();
            known.ok_or_else(|| unknown(&entry.kind, kinds.keys().map(String::as_str)))?
        };
        let problem = |problem: String| KindProblem {
            key: "service.config",
            problem: format!("cannot be used: {problem}"),
        };
        kind.prepare(entry).map_err(problem)
    }

    /// As [`Kinds::prepare`], for a service of a file.
    ///
    /// # Errors
    /// [`ConfigError`] says why it cannot be started, with its line.
    pub(crate) fn prepare_placed(&self, entry: &ServiceEntry) -> Result<Ready, ConfigError> {
        let placed = |KindProblem { key, problem }| ConfigError::at(entry.place.as_ref(), key, problem);
        self.prepare(entry).map_err(placed)
    }

    /// As [`Kinds::prepare_placed`], for all services of a file.
    ///
    /// # Errors
    /// Of the first one that cannot be started.
    pub(crate) fn prepare_all(&self, entries: &[ServiceEntry]) -> Result<Vec<Ready>, ConfigError> {
        entries.iter().map(|entry| self.prepare_placed(entry)).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<String, Arc<dyn Kind>>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown<'a>(kind: &str, known: impl Iterator<Item = &'a str> + Clone) -> KindProblem {
    let all: Vec<_> = known.clone().collect();
    let problem = match nearest(kind, known) {
        Some(near) => format!("is {kind:?}, and there is no kind of that name; did you mean {near:?}?"),
        None if all.is_empty() => {
            format!("is {kind:?}, and this node knows no kinds: `.kind(..)` of its builder gives it some")
        }
        None => format!("is {kind:?}, and there is no kind of that name; there are {}", all.join(", ")),
    };
    KindProblem { key: "service.kind", problem }
}

struct Typed<S, C, F> {
    make: Arc<F>,
    running: Arc<Running<C>>,
    types: PhantomData<fn() -> S>,
}

/// What the services of one kind that run are configured with, by their names.
struct Running<C>(Mutex<BTreeMap<String, Weak<ArcSwap<C>>>>);

impl<C> Default for Running<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Running<C> {
    fn configs(&self) -> MutexGuard<'_, BTreeMap<String, Weak<ArcSwap<C>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what one is configured with as long as it runs. Those that do not run any more are forgotten.
    fn add(&self, name: String, config: &Arc<ArcSwap<C>>) {
        let mut configs = self.configs();
        configs.retain(|_, config| config.strong_count() > 0);
        configs.insert(name, Arc::downgrade(config));
    }

    fn get(&self, name: &str) -> Option<Arc<ArcSwap<C>>> {
        self.configs().get(name)?.upgrade()
    }
}

impl<S, C, F> Kind for Typed<S, C, F>
where
    S: Service,
    S::Message: WireMessage,
    C: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&C) -> S + Send + Sync + 'static,
{
    fn prepare(&self, entry: &ServiceEntry) -> Result<Ready, String> {
        let config: C =
            toml::Value::Table(entry.config.clone()).try_into().map_err(|error| one_line(&error))?;
        let config = Arc::new(config);
        let (make, running) = (Arc::clone(&self.make), Arc::clone(&self.running));
        let ServiceEntry { name, instances, is_unique, labels, .. } = entry.clone();
        let (to_start, starts) = (Arc::clone(&config), Arc::clone(&running));
        let start = move |node: Node| -> BoxFuture<'static, _> {
            Box::pin(async move {
                let config = Arc::new(ArcSwap::new(to_start));
                let held = Arc::clone(&config);
                let service = ServiceBuilder::new(node, name.clone(), move || make(&held.load()));
                let service = service.instances(instances).labels(labels).unique(is_unique);
                service.start().await?;
                starts.add(name, &config);
                Ok(())
            })
        };
        let name = entry.name.clone();
        let exchange = move || {
            let running = running.get(&name);
            running.map(|running| running.store(Arc::clone(&config))).is_some()
        };
        Ok(Ready { start: Box::new(start), exchange: Box::new(exchange) })
    }
}

/// What serde says, without the line ends of a text that there is not.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds().keys()).finish()
    }
}
