//! Routing rules: to which of a name's instances calls go.
//!
//! Invariant: decides by what it is given, without a clock, without chance of its own, and without waiting.

mod check;
mod read;
mod show;
#[cfg(test)]
mod tests;

use std::hash::Hash;

use crate::id::NodeId;
use crate::key::Key;

use super::access::matches;
use super::labels::Labels;

pub use check::RoutesError;
pub(super) use read::{FIELDS, route};

/// How often a redirected name may be redirected again.
const MAX_REDIRECTS: usize = 8;

/// To which of a name's instances the calls of this node's handles go, by rules of which the first that matches counts. What no rule
/// matches goes to any instance. Set by [`NodeBuilder::routes`](crate::NodeBuilder::routes), changed by
/// [`Node::set_routes`](crate::Node::set_routes), or under `[[route]]` in the configuration.
///
/// ```
/// # use skyhold::{Route, Routes, Subset};
/// let routes = Routes::new()
///     .route(Route::of("accounts").caller("zone", "eu").to(Subset::with("zone", "eu").or_any()))
///     .route(Route::of("accounts").split([(90, Subset::with("version", "1")), (10, Subset::with("version", "2"))]))
///     .route(Route::of("ledger").methods(["rebuild"]).deny())
///     .route(Route::of("old-mail").redirect("mail"));
/// assert!(routes.check().is_ok());
/// ```
///
/// Rules are about handles to a name; a handle to one instance, and one of [`lookup_on`](crate::Lookup::lookup_on), leads where it leads. Each node has its own
/// rules, for the calls that it makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub(super) routes: Vec<Route>,
}

/// One rule: which calls it is about, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    service: String,
    methods: Option<Vec<String>>,
    caller: Labels,
    /// Each with how it is shown.
    keys: Vec<(Key, String)>,
    action: Action,
    mirror: Option<Subset>,
}

/// What a rule does with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Any,
    /// Each with its weight. One alone has all.
    Split(Vec<(u32, Subset)>),
    Redirect(String),
    Deny,
}

/// Some of a name's instances: those that have all of these labels, and are on that node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subset {
    labels: Labels,
    node: Option<String>,
    or_any: bool,
}

/// A call that is about to be made through a handle to a name.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RouteRequest<'a> {
    /// The name.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
    /// The number of the key, if the handle has one.
    pub key: Option<u64>,
    /// The labels of the calling node.
    pub caller: &'a Labels,
}

/// Decides in code where calls go. Given to [`NodeBuilder::router`](crate::NodeBuilder::router); asked for each call through a handle to a name, before the
/// rules. It must not wait, and a panic of it is one of the caller's.
pub trait Router: Send + Sync + 'static {
    /// Where a call goes. `None` leaves it to the rules.
    fn route(&self, request: &RouteRequest<'_>) -> Option<Routing>;
}

impl<F> Router for F
where
    F: Fn(&RouteRequest<'_>) -> Option<Routing> + Send + Sync + 'static,
{
    fn route(&self, request: &RouteRequest<'_>) -> Option<Routing> {
        self(request)
    }
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Routing {
    /// To any instance of the name.
    Any,
    /// To one of these.
    To(Subset),
    /// Nowhere: it is answered with [`CallError::Denied`](crate::CallError::Denied).
    Deny,
}

/// What was decided about a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision<'r> {
    /// The name that it goes to, which may be another one.
    pub(crate) service: &'r str,
    pub(crate) to: To<'r>,
    pub(crate) mirror: Option<&'r Subset>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum To<'r> {
    Any,
    Subset(&'r Subset),
    Deny,
}

impl Routes {
    /// The rules, each in words.
    pub(crate) fn in_words(&self) -> Vec<String> {
        self.routes.iter().map(ToString::to_string).collect()
    }

    /// No rules: calls go to any instance.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule behind those that there are.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Decides about a call. `draw` is a number by chance, any of 64 bits, the same for one key.
    pub(crate) fn decide<'r>(&'r self, request: &RouteRequest<'r>, draw: u64) -> Decision<'r> {
        let (mut service, mut mirror) = (request.service, None);
        for _ in 0..=MAX_REDIRECTS {
            let request = RouteRequest { service, ..*request };
            let Some(route) = self.routes.iter().find(|route| route.is_about(&request)) else { break };
            mirror = mirror.or(route.mirror.as_ref());
            let to = match &route.action {
                Action::Any => To::Any,
                Action::Split(parts) => drawn(parts, draw).map_or(To::Deny, To::Subset),
                Action::Deny => To::Deny,
                Action::Redirect(name) => {
                    service = name;
                    continue;
                }
            };
            return Decision { service, to, mirror };
        }
        Decision { service, to: To::Any, mirror }
    }
}

/// Which part has a number, by the weights.
fn drawn(parts: &[(u32, Subset)], draw: u64) -> Option<&Subset> {
    let sum: u64 = parts.iter().map(|(weight, _)| u64::from(*weight)).sum();
    // The numbers fall into as many equal ranges as there are shares.
    let mut place = u64::try_from((u128::from(draw) * u128::from(sum)) >> 64).ok()?;
    parts.iter().find_map(|(weight, subset)| match place.checked_sub(u64::from(*weight)) {
        Some(rest) => {
            place = rest;
            None
        }
        None => Some(subset),
    })
}

impl Route {
    /// A rule about the calls to a service of this name or, ended by `*`, to all whose names begin so. Without more they go to any instance.
    pub fn of(service: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            methods: None,
            caller: Labels::default(),
            keys: Vec::new(),
            action: Action::Any,
            mirror: None,
        }
    }

    /// Only about these methods; names may end with `*`.
    #[must_use]
    pub fn methods<M: Into<String>>(mut self, methods: impl IntoIterator<Item = M>) -> Self {
        self.methods = Some(methods.into_iter().map(Into::into).collect());
        self
    }

    /// Only about calls of nodes that have this label. More than one must all be there.
    #[must_use]
    pub fn caller(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.caller.set(key.into(), value.into());
        self
    }

    /// Only about handles with this key, of type and value. Of more than one, any.
    #[must_use]
    pub fn key<K: Hash + std::fmt::Debug + ?Sized>(mut self, key: &K) -> Self {
        self.keys.push((Key::of(key), format!("{key:?}")));
        self
    }

    /// The calls go to these instances.
    #[must_use]
    pub fn to(self, subset: Subset) -> Self {
        self.split([(1, subset)])
    }

    /// The calls go to these instances by weights: of 90 and 10 every tenth call goes to the second. Calls of one key always go the same way.
    #[must_use]
    pub fn split(mut self, parts: impl IntoIterator<Item = (u32, Subset)>) -> Self {
        self.action = Action::Split(parts.into_iter().collect());
        self
    }

    /// The calls go to the service of another name, which must have the same interface, and by the rules for that.
    #[must_use]
    pub fn redirect(mut self, name: impl Into<String>) -> Self {
        self.action = Action::Redirect(name.into());
        self
    }

    /// The calls are answered with [`CallError::Denied`](crate::CallError::Denied).
    #[must_use]
    pub fn deny(mut self) -> Self {
        self.action = Action::Deny;
        self
    }

    /// Each message goes to one of these instances as well, whose answer nobody hears. A copy that finds no room is dropped.
    #[must_use]
    pub fn mirror(mut self, subset: Subset) -> Self {
        self.mirror = Some(subset);
        self
    }

    fn is_about(&self, request: &RouteRequest<'_>) -> bool {
        let has_method = |methods: &Vec<String>| methods.iter().any(|method| matches(method, request.method));
        let has_key =
            || request.key.is_some_and(|number| self.keys.iter().any(|(Key(key), _)| *key == number));
        matches(&self.service, request.service)
            && self.methods.as_ref().is_none_or(has_method)
            && self.caller.iter().all(|(key, value)| request.caller.get(key) == Some(value))
            && (self.keys.is_empty() || has_key())
    }
}

impl Subset {
    /// The instances that have this label.
    pub fn with(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::default().and(key, value)
    }

    /// Those on this node.
    pub fn on(node: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..Self::default() }
    }

    /// Those of them that have this label too.
    #[must_use]
    pub fn and(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.set(key.into(), value.into());
        self
    }

    /// If there are none, any instance of the name. Otherwise the call gets [`CallError::NoRoute`](crate::CallError::NoRoute) then.
    #[must_use]
    pub fn or_any(mut self) -> Self {
        self.or_any = true;
        self
    }

    /// Whether an instance is among them.
    pub(crate) fn contains(&self, node: &NodeId, labels: &Labels) -> bool {
        self.node.as_ref().is_none_or(|name| name == node.as_str())
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    pub(crate) fn is_or_any(&self) -> bool {
        self.or_any
    }
}
