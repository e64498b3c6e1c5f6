//! Where a name leads, call by call.
//!
//! Invariant: reads snapshots; waits for nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};

use crate::cluster::coordinator::Names;
use crate::cluster::directory::Candidate;
use crate::config::{Labels, Subset, To};
use crate::error::CallError;
use crate::id::{Address, NodeId};
use crate::node::routing::RoutingTable;
use crate::policy::budget::RetryBudget;
use crate::policy::rendezvous::Key;
use crate::port::Links;
use crate::proto::codec::Encoder;
use crate::service::ambient;
use crate::service::handle::{Ask, Remote, Routed, Target};
use crate::service::host::Host;
use crate::service::message::{Message, Method, WireMessage};
use crate::service::payload::Decoder;
use crate::service::reply::ReplyPath;
use crate::service::reroute::Refusals;

/// What of its node a name needs to find its instances.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) host: Arc<Host>,
    pub(crate) names: Arc<Names>,
    pub(crate) links: Arc<dyn Links>,
    pub(crate) routing: Arc<RoutingTable>,
}

/// A name, and whose turn it is.
pub(crate) struct NameRoute<M> {
    name: Arc<str>,
    only_on: Option<NodeId>,
    key: Option<Key>,
    around: Around,
    turn: AtomicUsize,
    budget: RetryBudget,
    resolved: ArcSwapOption<Resolved<M>>,
    /// The name to which a rule redirects this one.
    redirected: ArcSwapOption<NameRoute<M>>,
}

/// The name's instances, as far as a version of the directory knows.
struct Resolved<M> {
    version: u64,
    instances: Vec<Instance<M>>,
}

struct Instance<M> {
    target: Target<M>,
    address: Address,
    labels: Arc<Labels>,
}

/// The instances to which a call may go, by the rules.
struct Choice<M> {
    resolved: Arc<Resolved<M>>,
    subset: Option<Subset>,
}

impl<M: WireMessage> NameRoute<M> {
    pub(crate) fn new(name: Arc<str>, only_on: Option<NodeId>, key: Option<Key>, around: Around) -> Self {
        let (turn, resolved, budget) = (AtomicUsize::new(0), ArcSwapOption::empty(), RetryBudget::default());
        Self { name, only_on, key, around, turn, budget, resolved, redirected: ArcSwapOption::empty() }
    }

    /// The instances now. The work is done once for each version of the directory.
    fn resolve(&self) -> Arc<Resolved<M>> {
        let Around { names, .. } = &self.around;
        // Read before the names: should they change meanwhile, the next call looks again.
        let version = names.version();
        let known = self.resolved.load();
        if let Some(resolved) = &*known
            && resolved.version == version
        {
            return Arc::clone(resolved);
        }
        let mut before: HashMap<&Address, &Target<M>> = HashMap::new();
        if let Some(resolved) = &*known {
            before.extend(resolved.instances.iter().map(|instance| (&instance.address, &instance.target)));
        }
        let names = names.current();
        let mut candidates: Vec<_> = names
            .candidates(&self.name)
            .iter()
            .filter(|c| is_candidate::<M>(c, self.only_on.as_ref()))
            .collect();
        // Those whose node is being looked for are waited for if there is nobody else.
        if candidates.iter().any(|candidate| !candidate.is_away) {
            candidates.retain(|candidate| !candidate.is_away);
        }
        let instances = candidates.into_iter().filter_map(|Candidate { address, labels, .. }| {
            let known = before.get(address).map(|known| (*known).clone());
            let target = known.or_else(|| self.target(address))?;
            Some(Instance { target, address: address.clone(), labels: Arc::clone(labels) })
        });
        let mut instances: Vec<_> = instances.collect();
        if let Some(key) = self.key {
            instances.sort_by_cached_key(|Instance { address, .. }| {
                std::cmp::Reverse(key.weight(address.node.as_str(), address.instance.0))
            });
        }
        let resolved = Arc::new(Resolved { version, instances });
        self.resolved.store(Some(Arc::clone(&resolved)));
        resolved
    }

    fn target(&self, address: &Address) -> Option<Target<M>> {
        let Around { host, links, .. } = &self.around;
        if address.node == host.node {
            let handle = host.resident(address.instance)?.core.handle::<M>()?;
            return Some(handle.target().clone());
        }
        let name = Some(Arc::clone(&self.name));
        let remote = Remote::new(address.clone(), name, None, Arc::clone(host), Arc::clone(links));
        Some(Target::Remote(Arc::new(remote)))
    }

    /// The instances to which a call may go. A handle to one node's instances leads where it leads.
    fn choose(&self, ask: Ask) -> Result<Choice<M>, CallError> {
        if self.only_on.is_some() {
            return Ok(Choice { resolved: self.resolve(), subset: None });
        }
        self.around.routing.decide(&self.name, ask, self.key, |decision| {
            let Some(decision) = decision else {
                return Ok(Choice { resolved: self.resolve(), subset: None });
            };
            let resolved = match decision.service {
                own if own == &*self.name => self.resolve(),
                other => self.redirected(other).resolve(),
            };
            let subset = match decision.to {
                To::Any => None,
                To::Subset(subset) => Some(subset.clone()),
                To::Deny => {
                    let detail = format!(
                        "a route of node {} denies `{}.{}`",
                        self.around.host.node,
                        self.name,
                        ask.method.name()
                    );
                    return Err(CallError::Denied(detail.into()));
                }
            };
            Ok(Choice { resolved, subset }.or_any())
        })
    }

    /// The route of another name, to which a rule leads.
    fn redirected(&self, name: &str) -> Arc<Self> {
        if let Some(known) = self.redirected.load_full().filter(|known| &*known.name == name) {
            return known;
        }
        let route = Arc::new(Self::new(name.into(), None, self.key, self.around.clone()));
        self.redirected.store(Some(Arc::clone(&route)));
        route
    }

    fn nobody(&self, choice: &Choice<M>) -> CallError {
        let place = match (&self.only_on, &choice.subset) {
            (Some(node), _) => Cow::Owned(format!(" on node {node}")),
            (None, Some(subset)) => Cow::Owned(format!(" to which its route leads ({subset})")),
            (None, None) => Cow::Borrowed(""),
        };
        CallError::NoRoute(format!("no instance of {:?} is known{place}", &*self.name).into())
    }
}

impl<M> Choice<M> {
    /// Without the subset, if nobody is in it and anybody else will do.
    fn or_any(mut self) -> Self {
        if self.subset.as_ref().is_some_and(Subset::is_or_any) && self.instances().next().is_none() {
            self.subset = None;
        }
        self
    }

    fn instances(&self) -> impl Iterator<Item = &Instance<M>> {
        self.resolved.instances.iter().filter(|instance| match &self.subset {
            Some(subset) => subset.contains(&instance.address.node, &instance.labels),
            None => true,
        })
    }
}

impl<M: WireMessage> Routed<M> for NameRoute<M> {
    fn name(&self) -> &str {
        &self.name
    }

    fn only_on(&self) -> Option<&NodeId> {
        self.only_on.as_ref()
    }

    fn key(&self) -> Option<Key> {
        self.key
    }

    fn with_key(&self, key: Key) -> Arc<dyn Routed<M>> {
        let (name, only_on) = (Arc::clone(&self.name), self.only_on.clone());
        Arc::new(Self::new(name, only_on, Some(key), self.around.clone()))
    }

    fn host(&self) -> &Arc<Host> {
        &self.around.host
    }

    fn ask(&self, method: &'static Method) -> Ask {
        Ask { method, draw: self.around.routing.draw(self.key) }
    }

    fn pick(&self, ask: Ask, refusals: &Refusals) -> Result<Target<M>, CallError> {
        let choice = self.choose(ask)?;
        // Who tries again takes no turn: else of two instances the one that refuses would get the first try of every call.
        // And a key's instances have an order of their own.
        let takes = usize::from(refusals.is_empty() && self.key.is_none());
        let turn = self.turn.fetch_add(takes, Ordering::Relaxed);
        let count = match choice.subset {
            None => choice.resolved.instances.len(),
            Some(_) => choice.instances().count(),
        };
        let first = turn.checked_rem(count).unwrap_or(0);
        let in_turn = choice.instances().skip(first).chain(choice.instances().take(first));
        let mut ready = in_turn.filter(|instance| !refusals.contains(&instance.address));
        match ready.next() {
            Some(instance) => Ok(instance.target.clone()),
            None => Err(self.nobody(&choice)),
        }
    }

    fn has_any(&self, ask: Ask, refusals: &Refusals) -> bool {
        let choice = self.choose(ask);
        choice.is_ok_and(|choice| choice.instances().any(|instance| !refusals.contains(&instance.address)))
    }

    fn has_other(&self, ask: Ask, refusals: &Refusals, this: &Address) -> bool {
        let is_other =
            |instance: &Instance<M>| instance.address != *this && !refusals.contains(&instance.address);
        self.choose(ask).is_ok_and(|choice| choice.instances().any(is_other))
    }

    fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    fn targets(&self) -> Vec<Target<M>> {
        self.resolve().instances.iter().map(|instance| instance.target.clone()).collect()
    }

    fn mirror(&self, ask: Ask) -> Option<Target<M>> {
        if self.only_on.is_some() {
            return None;
        }
        self.around.routing.decide(&self.name, ask, self.key, |decision| {
            let decision = decision?;
            let subset = decision.mirror?.clone();
            let resolved = match decision.service {
                own if own == &*self.name => self.resolve(),
                other => self.redirected(other).resolve(),
            };
            let choice = Choice { resolved, subset: Some(subset) };
            let count = choice.instances().count();
            let turn = self.turn.load(Ordering::Relaxed).checked_rem(count)?;
            choice.instances().nth(turn).map(|instance| instance.target.clone())
        })
    }

    fn copy(&self, message: &M) -> Option<M> {
        let mut out = BytesMut::new();
        message.encode(&mut Encoder::new(&mut out, usize::MAX)).ok()?;
        let bytes = Bytes::from(out);
        let decode = || M::decode(message.method().id().name, Decoder::new(&bytes), ReplyPath(None));
        ambient::reading(&self.around.host, None, decode).ok()
    }
}

/// Whether an instance is one that a handle for `M`, perhaps on one node only, may lead to.
pub(crate) fn is_candidate<M: Message>(candidate: &Candidate, only_on: Option<&NodeId>) -> bool {
    *candidate.interface == *M::INTERFACE && only_on.is_none_or(|node| *node == candidate.address.node)
}

impl<M> fmt::Debug for NameRoute<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NameRoute")
            .field("name", &self.name)
            .field("only_on", &self.only_on)
            .finish_non_exhaustive()
    }
}
