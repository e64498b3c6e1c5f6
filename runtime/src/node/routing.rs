//! The rules by which a node routes its calls, as they are in force.
//!
//! Invariant: a call sees one set of rules or the next, never parts of both.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::config::{Decision, Labels, RouteRequest, Router, Routes, Routing, To};
use crate::policy::rendezvous::{Key, mix};
use crate::service::handle::Ask;

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

    /// Decides about a call, and gives that to `then`. Without any rules there is nothing to decide.
    #[inline]
    pub(crate) fn decide<T>(
        &self,
        service: &str,
        ask: Ask,
        key: Option<Key>,
        then: impl FnOnce(Option<Decision<'_>>) -> T,
    ) -> T {
        let routes = self.routes.load();
        if self.is_empty(&routes) {
            return then(None);
        }
        let request = RouteRequest {
            service,
            method: ask.method.name(),
            key: key.map(|Key(number)| number),
            caller: &self.labels,
        };
        let routing = self.router.as_ref().and_then(|router| router.route(&request));
        let to = match &routing {
            None => return then(Some(routes.decide(&request, ask.draw))),
            Some(Routing::Any) => To::Any,
            Some(Routing::To(subset)) => To::Subset(subset),
            Some(Routing::Deny) => To::Deny,
        };
        then(Some(Decision { service, to, mirror: None }))
    }

    fn is_empty(&self, routes: &Routes) -> bool {
        routes.is_empty() && self.router.is_none()
    }

    /// A number for the split of calls, spread evenly over all numbers. A key's is always the same.
    #[inline]
    pub(crate) fn draw(&self, key: Option<Key>) -> u64 {
        if self.is_empty(&self.routes.load()) {
            return 0;
        }
        match key {
            Some(Key(number)) => mix(number),
            None => self.calls.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN),
        }
    }
}

/// The golden ratio's fraction: its multiples lie evenly in the unit interval, however many there are (Weyl).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl fmt::Debug for RoutingTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingTable").field("routes", &self.routes).finish_non_exhaustive()
    }
}
