//! Where a name leads, call by call: rules say which of its instances a call may go to, a balancer picks one of them.
//!
//! Invariant: reads snapshots; waits for nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};

use crate::cluster::coordinator::Names;
use crate::cluster::directory::Candidate;
use crate::config::{Decision, Subset, To};
use crate::error::CallError;
use crate::id::{Address, MethodId, NodeId};
use crate::node::pools::Pools;
use crate::node::routing::RoutingTable;
use crate::policy::balance::candidates::{Balancer as _, Candidate as Offered, Candidates, Draw};
use crate::policy::balance::kinds::Balance;
use crate::policy::balance::offer;
use crate::policy::balance::pool::Pool;
use crate::policy::budget::RetryBudget;
use crate::policy::rendezvous::Key;
use crate::port::Links;
use crate::proto::codec::Encoder;
use crate::service::ambient;
use crate::service::deadlines::Tick;
use crate::service::handle::{Ask, Picked, Remote, Routed, Target, Way};
use crate::service::host::Host;
use crate::service::message::{Message, Method, WireMessage, method_ids, signature_salt};
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
    pub(crate) pools: Arc<Pools>,
}

impl Around {
    /// What the node's handles to a name have learned.
    pub(crate) fn pool(&self, name: &Arc<str>) -> Arc<Pool> {
        let names = self.names.current();
        self.pools.of(name, |name| !names.candidates(name).is_empty())
    }
}

/// A name, and how it picks.
pub(crate) struct NameRoute<M> {
    name: Arc<str>,
    only_on: Option<NodeId>,
    way: Way,
    around: Around,
    /// What the node's handles to this name have learned.
    pool: Arc<Pool>,
    /// What makes its methods' numbers: see [`signature_salt`].
    salt: u32,
    /// How many calls were made.
    turn: AtomicU64,
    seed: u64,
    budget: RetryBudget,
    resolved: ArcSwapOption<Resolved<M>>,
    /// The name to which a rule redirects this one.
    redirected: ArcSwapOption<NameRoute<M>>,
}

/// The name's instances, as far as a version of the directory knows.
struct Resolved<M> {
    version: u64,
    /// In the order of the key, if there is one.
    targets: Vec<Target<M>>,
    /// The same instances in the same order, as a balancer sees them.
    candidates: Vec<Offered>,
    /// Whether some of them do not understand all methods: an older version of their code, or a newer one.
    is_mixed: bool,
}

impl<M: WireMessage> NameRoute<M> {
    pub(crate) fn new(
        name: Arc<str>,
        only_on: Option<NodeId>,
        way: Way,
        around: Around,
        pool: Arc<Pool>,
    ) -> Self {
        let (turn, resolved, budget) = (AtomicU64::new(0), ArcSwapOption::empty(), RetryBudget::default());
        let seed = Draw::seed(around.host.next_seed());
        let (redirected, salt) = (ArcSwapOption::empty(), signature_salt::<M>());
        Self { name, only_on, way, around, pool, salt, turn, seed, budget, resolved, redirected }
    }

    /// The instances now. The work is done once for each version of the directory.
    fn resolve<R>(&self, look: impl FnOnce(&Resolved<M>) -> R) -> R {
        // Read before the names: should they change meanwhile, the next call looks again.
        let version = self.around.names.version();
        let known = self.resolved.load();
        match &*known {
            Some(resolved) if resolved.version == version => look(resolved),
            _ => look(&self.resolve_anew(version, known.as_deref())),
        }
    }

    #[cold]
    fn resolve_anew(&self, version: u64, known: Option<&Resolved<M>>) -> Arc<Resolved<M>> {
        let Around { host, names, .. } = &self.around;
        let mut before: HashMap<&Address, &Target<M>> = HashMap::new();
        if let Some(resolved) = known {
            before.extend(resolved.targets.iter().filter_map(|target| Some((target.address()?, target))));
        }
        let names = names.current();
        let all = names.candidates(&self.name);
        let now = host.deadlines.now().nanos();
        self.pool.update(version, all.iter().map(|known| (&known.address, known.is_away)), now);
        let mut candidates: Vec<_> =
            all.iter().filter(|c| is_candidate::<M>(c, self.only_on.as_ref())).collect();
        // Those whose node is being looked for are waited for if there is nobody else.
        if candidates.iter().any(|candidate| !candidate.is_away) {
            candidates.retain(|candidate| !candidate.is_away);
        }
        if let Some(key) = self.order() {
            let weight = |address: &Address| key.weight(address.node.as_str(), address.instance.0);
            candidates.sort_by_cached_key(|candidate| std::cmp::Reverse(weight(&candidate.address)));
        }
        let instances = candidates.into_iter().filter_map(|candidate| {
            let Candidate { address, labels, methods, load: reported, .. } = candidate;
            let known = before.get(address).map(|known| (*known).clone());
            let target = known.or_else(|| self.target(address))?;
            let is_local = address.node == host.node;
            let load = self.pool.load(address);
            let (address, labels) = (address.clone(), Arc::clone(labels));
            let offered = Offered::new(address, labels, is_local, load, reported.clone(), methods.clone());
            Some((target, offered))
        });
        let (targets, candidates): (_, Vec<Offered>) = instances.unzip();
        let methods = method_ids::<M>();
        let is_mixed = candidates.iter().any(|known| !known.understands_all(&methods));
        let resolved = Arc::new(Resolved { version, targets, candidates, is_mixed });
        self.resolved.store(Some(Arc::clone(&resolved)));
        resolved
    }

    fn target(&self, address: &Address) -> Option<Target<M>> {
        let Around { host, links, .. } = &self.around;
        if address.node == host.node {
            let handle = host.resident(address.instance)?.core.handle::<M>()?;
            return Some(handle.target().clone());
        }
        let (host, links, name) = (Arc::clone(host), Arc::clone(links), Some(Arc::clone(&self.name)));
        Some(Target::Remote(Arc::new(Remote::new(address.clone(), name, None, host, links))))
    }

    /// The key in whose order the instances are, if in one's.
    fn order(&self) -> Option<Key> {
        match &self.way {
            Way::Key(key) => Some(*key),
            Way::Balance(Balance::Consistent) => Some(Key::of(self.around.host.node.as_str())),
            Way::Balance(_) | Way::Own(_) => None,
        }
    }

    /// Decides about a call by the rules, and gives the route of the name to which it goes, and which of the instances there it may have.
    #[inline]
    fn led<T>(
        &self,
        ask: Ask,
        then: impl FnOnce(&Self, Option<&Subset>) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let Some(draw) = ask.draw else { return then(self, None) };
        self.around.routing.decide(&self.name, ask.method, draw, self.key(), |decision| {
            let Decision { service, to, .. } = decision;
            let subset = match to {
                To::Any => None,
                To::Subset(subset) => Some(subset),
                To::Deny => return Err(self.denied(ask.method)),
            };
            if *service == *self.name {
                return then(self, self.narrow(subset));
            }
            let other = self.redirected(service);
            then(&other, other.narrow(subset))
        })
    }

    /// The subset, unless nobody is in it and anybody else will do.
    fn narrow<'s>(&self, subset: Option<&'s Subset>) -> Option<&'s Subset> {
        subset.filter(|subset| {
            !subset.is_or_any()
                || self.resolve(|resolved| resolved.candidates.iter().any(|known| is_in(Some(subset), known)))
        })
    }

    /// The route of another name, to which a rule leads.
    fn redirected(&self, name: &str) -> Arc<Self> {
        if let Some(known) = self.redirected.load_full().filter(|known| &*known.name == name) {
            return known;
        }
        let (name, around) = (Arc::from(name), self.around.clone());
        let pool = around.pool(&name);
        let route = Arc::new(Self::new(name, None, self.way.clone(), around, pool));
        self.redirected.store(Some(Arc::clone(&route)));
        route
    }

    fn pick_among(
        &self,
        subset: Option<&Subset>,
        refusals: &Refusals,
        ask: Ask,
    ) -> Result<Picked<M>, CallError> {
        self.resolve(|resolved| {
            let now = ask.now.nanos();
            if let [only] = &resolved.targets[..]
                && refusals.is_empty()
                && subset.is_none()
            {
                return Ok(Picked { target: only.clone(), flight: None });
            }
            let place = self.choose(resolved, subset, refusals, ask);
            let place = place.ok_or_else(|| self.nobody(subset))?;
            let flight = resolved.candidates[place].load().begin(now, self.measures());
            Ok(Picked { target: resolved.targets[place].clone(), flight: Some(flight) })
        })
    }

    /// The place of one that may have the call, and has not refused.
    fn choose(
        &self,
        resolved: &Resolved<M>,
        subset: Option<&Subset>,
        refusals: &Refusals,
        ask: Ask,
    ) -> Option<usize> {
        let (all, now) = (&resolved.candidates[..], ask.now.nanos());
        let needed = self.needed(resolved, ask, subset);
        let is_out = |candidate: &Offered| {
            refusals.contains(candidate.address()) || !may_have(subset, needed, candidate)
        };
        let balance = match &self.way {
            // By their order alone: all nodes are to agree, whatever each has met with.
            Way::Key(_) | Way::Balance(Balance::Consistent) => return offer::places(all, is_out).next(),
            Way::Balance(balance) => Ok(*balance),
            Way::Own(own) => Err(own),
        };
        // Who tries again takes no turn: else of two instances the one that refuses would get the first try of every call.
        let turn = self.turn.fetch_add(u64::from(refusals.is_empty()), Ordering::Relaxed);
        let draw = Draw::new(self.seed, turn);
        let offered;
        let is_any = refusals.is_empty() && subset.is_none() && needed.is_none();
        let candidates = if is_any && self.pool.is_settled(now) {
            Candidates::new(all, None, draw, now)
        } else {
            offered = offer::offer(all, is_out, now, draw.random());
            Candidates::new(all, Some(&offered), draw, now)
        };
        if candidates.is_empty() {
            return None;
        }
        let index = match balance {
            Ok(balance) => balance.pick(candidates),
            Err(own) => own.pick(candidates),
        };
        candidates.place(index).or_else(|| candidates.place(Balance::Random.pick(candidates)))
    }

    fn measures(&self) -> bool {
        match &self.way {
            Way::Balance(balance) => balance.measures(),
            Way::Key(_) => false,
            Way::Own(_) => true,
        }
    }

    #[cold]
    fn nobody(&self, subset: Option<&Subset>) -> CallError {
        let place = match (&self.only_on, subset) {
            (Some(node), _) => format!(" on node {node}"),
            (None, Some(subset)) => format!(" to which its route leads ({subset})"),
            (None, None) => String::new(),
        };
        CallError::NoRoute(format!("no instance of {:?} is known{place}", &*self.name).into())
    }

    #[cold]
    fn denied(&self, method: &Method) -> CallError {
        let (node, name) = (&self.around.host.node, &self.name);
        CallError::Denied(format!("a route of node {node} denies `{name}.{}`", method.name()).into())
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
        if let Way::Key(key) = self.way { Some(key) } else { None }
    }

    fn with(&self, way: Way) -> Arc<dyn Routed<M>> {
        let (name, only_on) = (Arc::clone(&self.name), self.only_on.clone());
        Arc::new(Self::new(name, only_on, way, self.around.clone(), Arc::clone(&self.pool)))
    }

    fn host(&self) -> &Arc<Host> {
        &self.around.host
    }

    fn ask(&self, method: &'static Method, now: Tick) -> Ask {
        // A handle to one node's instances leads where it leads.
        let draw = if self.only_on.is_some() { None } else { self.around.routing.draw(self.key()) };
        Ask { method, draw, now }
    }

    fn pick(&self, ask: Ask, refusals: &Refusals) -> Result<Picked<M>, CallError> {
        self.led(ask, |route, subset| route.pick_among(subset, refusals, ask))
    }

    fn has_any(&self, ask: Ask, refusals: &Refusals) -> bool {
        let is_there = |candidate: &Offered| !refusals.contains(candidate.address());
        self.has(ask, is_there)
    }

    fn has_other(&self, ask: Ask, refusals: &Refusals, this: &Address) -> bool {
        let is_other =
            |candidate: &Offered| candidate.address() != this && !refusals.contains(candidate.address());
        self.has(ask, is_other)
    }

    fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    fn targets(&self) -> Vec<Target<M>> {
        self.resolve(|resolved| resolved.targets.clone())
    }

    fn mirror(&self, ask: Ask) -> Option<Target<M>> {
        self.around.routing.decide(&self.name, ask.method, ask.draw?, self.key(), |decision| {
            let Decision { service, mirror, .. } = decision;
            let subset = Some(mirror?);
            if *service == *self.name {
                return self.mirrored(subset);
            }
            self.redirected(service).mirrored(subset)
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

impl<M: WireMessage> NameRoute<M> {
    /// Whether a call may go to an instance of which that is true.
    fn has(&self, ask: Ask, is_meant: impl Fn(&Offered) -> bool) -> bool {
        let found = self.led(ask, |route, subset| {
            Ok(route.resolve(|resolved| {
                let needed = route.needed(resolved, ask, subset);
                let is_it = |known: &Offered| may_have(subset, needed, known) && is_meant(known);
                resolved.candidates.iter().any(is_it)
            }))
        });
        found.unwrap_or(false)
    }

    /// The method that whoever takes a call has to understand, if only some do. If nobody does, any will do: it says why not. Where a
    /// call goes by its key it goes there whoever understands it: all calls of one key are to meet.
    #[inline]
    fn needed(&self, resolved: &Resolved<M>, ask: Ask, subset: Option<&Subset>) -> Option<MethodId> {
        if !resolved.is_mixed || self.order().is_some() {
            return None;
        }
        let method = ask.method.id().salted(self.salt);
        let is_able = |known: &Offered| may_have(subset, Some(method), known);
        resolved.candidates.iter().any(is_able).then_some(method)
    }

    /// One of a subset, which takes turns.
    fn mirrored(&self, subset: Option<&Subset>) -> Option<Target<M>> {
        self.resolve(|resolved| {
            let places: Vec<_> = offer::places(&resolved.candidates, |known| !is_in(subset, known)).collect();
            let turn = usize::try_from(self.turn.load(Ordering::Relaxed)).unwrap_or_default();
            let place = places.get(turn.checked_rem(places.len())?)?;
            resolved.targets.get(*place).cloned()
        })
    }
}

fn may_have(subset: Option<&Subset>, needed: Option<MethodId>, candidate: &Offered) -> bool {
    is_in(subset, candidate) && needed.is_none_or(|method| candidate.understands(method))
}

fn is_in(subset: Option<&Subset>, candidate: &Offered) -> bool {
    subset.is_none_or(|subset| subset.contains(candidate.node(), candidate.labels()))
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
