//! Kinds of services: what makes a service startable by its name, from the file or from another node.
//!
//! Invariant: nothing is started before all that can be wrong with it was looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// A service that only has to be started.
pub(crate) type Ready = Box<dyn FnOnce(Node) -> BoxFuture<'static, Result<(), StartError>> + Send>;

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
        let kind = Typed { make: Arc::new(make), types: PhantomData };
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

    /// As [`Kinds::prepare`], for all services of a file.
    ///
    /// # Errors
    /// [`ConfigError`] names the first one that cannot be started, with its line.
    pub(crate) fn prepare_all(&self, entries: &[ServiceEntry]) -> Result<Vec<Ready>, ConfigError> {
        let prepare = |entry: &ServiceEntry| {
            self.prepare(entry)
                .map_err(|KindProblem { key, problem }| ConfigError::at(entry.place.as_ref(), key, problem))
        };
        entries.iter().map(prepare).collect()
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

struct Typed<C, F> {
    make: Arc<F>,
    types: PhantomData<fn() -> C>,
}

impl<S, C, F> Kind for Typed<C, F>
where
    S: Service,
    S::Message: WireMessage,
    C: DeserializeOwned + Send + Sync + 'static,
    F: Fn(&C) -> S + Send + Sync + 'static,
{
    fn prepare(&self, entry: &ServiceEntry) -> Result<Ready, String> {
        let config: C =
            toml::Value::Table(entry.config.clone()).try_into().map_err(|error| one_line(&error))?;
        let (make, ServiceEntry { name, instances, is_unique, labels, .. }) =
            (Arc::clone(&self.make), entry.clone());
        Ok(Box::new(move |node| {
            Box::pin(async move {
                let service = ServiceBuilder::new(node, name, move || make(&config)).instances(instances);
                service.labels(labels).unique(is_unique).start().await.map(drop)
            })
        }))
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
