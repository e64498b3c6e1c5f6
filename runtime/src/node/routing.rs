//! The rules by which a node routes its calls, as they are in force.
//!
//! Invariant: a call sees one set of rules or the next, never parts of both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::config::{Decision, Labels, RouteRequest, Router, Routes, Routing, To};
use crate::policy::balance::candidates::Draw;
use crate::policy::rendezvous::{Key, mix};
use crate::service::message::Method;

/// What decides where calls through names go.
pub(crate) struct RoutingTable {
    routes: ArcSwap<Routes>,
    router: Option<Arc<dyn Router>>,
    /// The node's own.
    labels: Labels,
    /// How many calls were decided about.
    calls: AtomicU64,
}

impl RoutingTable {
    pub(crate) fn new(routes: Routes, router: Option<Arc<dyn Router>>, labels: Labels) -> Self {
        Self { routes: ArcSwap::from_pointee(routes), router, labels, calls: AtomicU64::new(0) }
    }

    pub(crate) fn set(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// The rules, each in words.
    pub(crate) fn rules(&self) -> Vec<String> {
        self.routes.load().in_words()
    }

    /// Decides about a call, and gives that to `then`. `draw` is what [`RoutingTable::draw`] gave for it.
    #[inline]
    pub(crate) fn decide<T>(
        &self,
        service: &str,
        method: &Method,
        draw: u64,
        key: Option<Key>,
        then: impl FnOnce(Decision<'_>) -> T,
    ) -> T {
        let routes = self.routes.load();
        let key = key.map(|Key(number)| number);
        let request = RouteRequest { service, method: method.name(), key, caller: &self.labels };
        let routing = self.router.as_ref().and_then(|router| router.route(&request));
        let to = match &routing {
            None => return then(routes.decide(&request, draw)),
            Some(Routing::Any) => To::Any,
            Some(Routing::To(subset)) => To::Subset(subset),
            Some(Routing::Deny) => To::Deny,
        };
        then(Decision { service, to, mirror: None })
    }

    /// A number for the split of calls, spread evenly over all numbers; a key's is always the same. `None` if there is nothing to decide.
    #[inline]
    pub(crate) fn draw(&self, key: Option<Key>) -> Option<u64> {
        if self.routes.load().is_empty() && self.router.is_none() {
            return None;
        }
        Some(match key {
            Some(Key(number)) => mix(number),
            None => Draw::new(0, self.calls.fetch_add(1, Ordering::Relaxed)).point(),
        })
    }
}

impl fmt::Debug for RoutingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable").field("routes", &self.routes).finish_non_exhaustive()
    }
}
