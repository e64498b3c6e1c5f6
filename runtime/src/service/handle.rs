//! The handle: a clonable typed address. One type leads to a local instance, a remote one, or a name.
//!
//! Invariant: a handle decides where a message goes, and does nothing with it.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::futures::Notified;

use crate::error::CallError;
use crate::id::{Address, MethodId, NodeId};
use crate::policy::balance::candidates::Balancer;
use crate::policy::balance::kinds::Balance;
use crate::policy::balance::load::Flight;
use crate::policy::budget::RetryBudget;
use crate::policy::rendezvous::Key;
use crate::port::{self, Link, Links};
use crate::proto::codec::{CodecError, Encoder};
use crate::service::call::Call;
use crate::service::deadlines::Tick;
use crate::service::host::Host;
use crate::service::mailbox::Local;
use crate::service::message::{Message, Method, WireMessage, signature_salt};
use crate::service::reroute::Refusals;
use crate::service::stub::Stub;
use crate::service::watch::Watch;

/// The part of a generated handle that is the same for every service.
pub struct Handle<M> {
    target: Target<M>,
}

/// A generated handle: `CounterHandle` for a `Counter`.
///
/// Its own methods are the service's. What this trait adds is found even where the service has methods of these names,
/// as `ServiceHandle::address(&handle)`.
pub trait ServiceHandle: Clone + Send + Sync + 'static {
    /// The service's messages.
    type Message: Message<Handle = Self>;

    /// Makes the typed handle.
    #[doc(hidden)]
    fn from_inner(inner: Handle<Self::Message>) -> Self;

    /// The untyped part.
    #[doc(hidden)]
    fn as_inner(&self) -> &Handle<Self::Message>;

    /// The instance that this handle leads to; `None` for a handle to a name, which may lead to many.
    fn address(&self) -> Option<&Address> {
        self.as_inner().target.address()
    }

    /// The name that this handle leads to; `None` for a handle to one instance.
    fn name(&self) -> Option<&str> {
        match &self.as_inner().target {
            Target::Routed(routed) => Some(routed.name()),
            Target::Local(_) | Target::Remote(_) => None,
        }
    }

    /// For a handle to a name: a handle to the one instance of the name to which `key` belongs. All nodes agree which that
    /// is, as long as they know the same instances; when an instance comes or goes, no other keys move but its own. A
    /// call that the instance certainly did not run goes on to the one to which the key would belong without it. A handle
    /// to one instance is given back as it is.
    ///
    /// It takes the place of a [`balance`](Self::balance) that was set before. An instance that fails keeps its keys.
    ///
    /// What counts is what the key's `Hash` writes, which is the same on every machine for numbers, texts and tuples of
    /// them. The algorithm is rendezvous hashing.
    #[must_use]
    fn key<K: Hash + ?Sized>(&self, key: &K) -> Self {
        match self.as_inner().target() {
            Target::Routed(routed) => {
                Self::from_inner(Handle::new(Target::Routed(routed.with(Way::Key(Key::of(key))))))
            }
            Target::Local(_) | Target::Remote(_) => self.clone(),
        }
    }

    /// For a handle to a name: a handle to the same name whose calls are spread by `balancer`, which is a
    /// [`Balance`], a [`Weighted`](crate::Weighted), or your own. Without it that is [`Balance::LeastLoaded`]. A handle to one
    /// instance is given back as it is.
    ///
    /// It takes the place of a [`key`](Self::key) that was set before, but for [`Balance::Consistent`], which keeps it. How
    /// a handle spreads its calls is no part of what it leads to: it does not count where handles are compared, and
    /// it stays on this node when the handle is sent to another.
    ///
    /// What is passed over and what begins slowly is the same for all: see [`Balance`].
    #[must_use]
    fn balance<B: Balancer>(&self, balancer: B) -> Self {
        match self.as_inner().target() {
            Target::Routed(routed) => {
                // Of the known ones it is known what they need.
                let way = match (&balancer as &dyn Any).downcast_ref::<Balance>() {
                    Some(Balance::Consistent) if routed.key().is_some() => return self.clone(),
                    Some(balance) => Way::Balance(*balance),
                    None => Way::Own(Arc::new(balancer)),
                };
                Self::from_inner(Handle::new(Target::Routed(routed.with(way))))
            }
            Target::Local(_) | Target::Remote(_) => self.clone(),
        }
    }

    /// Watches what this handle leads to: a stream of one [`Down`](crate::Down) for each instance, which then ends. For
    /// a handle to one instance that is one; for a handle to a name it is one for each instance to which the name leads
    /// now, and the stream ends at once if it leads to none. Dropping the stream ends the watching.
    ///
    /// The end comes after everything that the instance answered before. If it had ended already, if its node is not
    /// connected, or when the connection to its node ends, then that is what the stream tells. A supervised instance
    /// ends with each of its lives: the next one may be watched anew.
    ///
    /// No task is made, and none is needed: this works inside and outside of services. A service that is to be told
    /// through `#[on_down]` uses [`Context::watch`](crate::Context::watch).
    fn watch(&self) -> Watch {
        Watch::new(&self.as_inner().target.instances())
    }
}

/// Where a handle leads.
pub(crate) enum Target<M> {
    Local(Arc<Local<M>>),
    Remote(Arc<Remote<M>>),
    Routed(Arc<dyn Routed<M>>),
}

/// What is asked of a name for a call, or for one attempt of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) method: &'static Method,
    /// A number by chance for the rules of routing, if there are any.
    pub(crate) draw: Option<u64>,
    pub(crate) now: Tick,
}

/// A name that leads to instances, and picks one for each call.
pub(crate) trait Routed<M>: Send + Sync {
    /// The name.
    fn name(&self) -> &str;
    /// The node on which the instances must be, if on one.
    fn only_on(&self) -> Option<&NodeId>;
    /// The key whose instance it is, if it is one's.
    fn key(&self) -> Option<Key>;
    /// The same name, with another way to pick.
    fn with(&self, way: Way) -> Arc<dyn Routed<M>>;
    /// The node that looks.
    fn host(&self) -> &Arc<Host>;
    /// What to ask for a call of that method, as long as it is to be decided about in the same way.
    fn ask(&self, method: &'static Method, now: Tick) -> Ask;
    /// An instance for the call that has not refused: never another `Routed`.
    fn pick(&self, ask: Ask, refusals: &Refusals) -> Result<Picked<M>, CallError>;
    /// Whether there is an instance for the call that has not refused.
    fn has_any(&self, ask: Ask, refusals: &Refusals) -> bool;
    /// Whether there is another one than `this` that has not refused.
    fn has_other(&self, ask: Ask, refusals: &Refusals, this: &Address) -> bool;
    /// An instance that is to get a copy of a message, if one is.
    fn mirror(&self, ask: Ask) -> Option<Target<M>>;
    /// A copy of a message. A stream cannot be copied.
    fn copy(&self, message: &M) -> Option<M>;
    /// How many calls may be made again.
    fn budget(&self) -> &RetryBudget;
    /// The instances now: never another `Routed`.
    fn targets(&self) -> Vec<Target<M>>;
}

/// How a name picks.
#[derive(Clone)]
pub(crate) enum Way {
    Balance(Balance),
    Key(Key),
    /// The user's own.
    Own(Arc<dyn Balancer>),
}

impl Default for Way {
    fn default() -> Self {
        Self::Balance(Balance::default())
    }
}

/// What a name has picked.
pub(crate) struct Picked<M> {
    pub(crate) target: Target<M>,
    /// What learns from the call's end, if there was a choice.
    pub(crate) flight: Option<Flight>,
}

impl<M: Message> Handle<M> {
    pub(crate) fn new(target: Target<M>) -> Self {
        Self { target }
    }

    pub(crate) fn target(&self) -> &Target<M> {
        &self.target
    }

    /// Makes a call, which does nothing until it is awaited or sent.
    pub fn call<R: Send + 'static>(&self, message: M, stub: &'static Stub<M, R>) -> Call<R, M> {
        Call::new(self.clone(), message, stub)
    }
}

impl<M> Handle<M> {
    pub(crate) fn host(&self) -> &Arc<Host> {
        match &self.target {
            Target::Local(local) => local.host(),
            Target::Remote(remote) => &remote.host,
            Target::Routed(routed) => routed.host(),
        }
    }
}

impl<M> Target<M> {
    pub(crate) fn address(&self) -> Option<&Address> {
        match self {
            Self::Local(local) => Some(local.address()),
            Self::Remote(remote) => Some(&remote.address),
            Self::Routed(_) => None,
        }
    }

    /// The instances to which it leads now.
    pub(crate) fn instances(&self) -> Vec<Self> {
        match self {
            Self::Local(_) | Self::Remote(_) => vec![self.clone()],
            Self::Routed(routed) => routed.targets(),
        }
    }

    fn identity(&self) -> Identity<'_> {
        match self {
            Self::Local(local) => Identity::Instance(local.address()),
            Self::Remote(remote) => Identity::Instance(&remote.address),
            Self::Routed(routed) => {
                Identity::Name { name: routed.name(), only_on: routed.only_on(), key: routed.key() }
            }
        }
    }
}

/// What makes two handles equal: the same instance, or the same name and key.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'a> {
    Instance(&'a Address),
    Name { name: &'a str, only_on: Option<&'a NodeId>, key: Option<Key> },
}

/// An instance on another node.
pub(crate) struct Remote<M> {
    pub(crate) address: Address,
    /// The name under which it is known, if it is.
    pub(crate) name: Option<Arc<str>>,
    /// Where its node listens, as far as whoever sent the handle knew.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) host: Arc<Host>,
    links: Arc<dyn Links>,
    /// The connection that was used last.
    cached: ArcSwapOption<Link>,
    encode: fn(&M, &mut Encoder<'_>) -> Result<(), CodecError>,
    salt: u32,
    /// Numbers the handle, whose messages keep their order.
    order: u64,
    /// Whether the last message was so long that it went in pieces.
    is_long: AtomicBool,
    /// Whether its node was to be connected for its sake.
    was_expected: AtomicBool,
}

/// Why there is no connection to an instance's node.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// It was lost, and is being made again.
    Away,
    Error(CallError),
}

impl<M: WireMessage> Remote<M> {
    pub(crate) fn new(
        address: Address,
        name: Option<Arc<str>>,
        at: Option<SocketAddr>,
        host: Arc<Host>,
        links: Arc<dyn Links>,
    ) -> Self {
        let (encode, salt, order) = (M::encode, signature_salt::<M>(), host.next_order());
        let cached = ArcSwapOption::empty();
        let (is_long, was_expected) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { address, name, at, host, links, cached, encode, salt, order, is_long, was_expected }
    }
}

impl<M> Remote<M> {
    /// The connection to the instance's node, in the life in which the instance runs.
    pub(crate) fn link(&self) -> Result<Arc<Link>, Unreachable> {
        let cached = self.cached.load();
        if let Some(link) = &*cached
            && link.is_used()
        {
            return Ok(Arc::clone(link));
        }
        let node = &self.address.node;
        let link = match self.links.way(node) {
            port::Way::Up(link) => link.toward(self.address.instance),
            port::Way::Away => return Err(Unreachable::Away),
            port::Way::None => return Err(self.no_way()),
        };
        let (lives, lived) = (link.peer().incarnation, self.address.incarnation);
        if lives != lived {
            let detail = format!("{} was an instance of an earlier life of node {node}", self.address);
            return Err(Unreachable::Error(CallError::Stale(detail.into())));
        }
        self.cached.store(Some(Arc::clone(&link)));
        Ok(link)
    }

    /// The node is not connected. Whoever sent the handle may have said where it is.
    #[cold]
    fn no_way(&self) -> Unreachable {
        let Address { node, incarnation, .. } = &self.address;
        if *node == self.host.node {
            return Unreachable::Error(if *incarnation == self.host.incarnation {
                CallError::Stopped(format!("the instance {} has stopped", self.address).into())
            } else {
                CallError::Stale(
                    format!("{} was an instance of an earlier life of this node", self.address).into(),
                )
            });
        }
        if let Some(at) = self.at
            && !self.was_expected.swap(true, Ordering::Relaxed)
            && self.links.expect(node, *incarnation, at)
        {
            return Unreachable::Away;
        }
        Unreachable::Error(CallError::NoRoute(format!("node {node} is not connected").into()))
    }

    /// Where the node listens, as far as is known.
    pub(crate) fn listens_at(&self) -> Option<SocketAddr> {
        let link = self.links.way(&self.address.node);
        if let port::Way::Up(link) = link { link.peer().listen.or(self.at) } else { self.at }
    }

    /// Ends when the node may be reached again.
    pub(crate) fn node_changed(&self) -> Notified<'_> {
        self.links.changed()
    }

    /// Says that somebody waits for the node to be reached again.
    pub(crate) fn want_node(&self) {
        self.links.want(&self.address.node);
    }

    /// Appends the message's arguments.
    pub(crate) fn encode(&self, message: &M, out: &mut Encoder<'_>) -> Result<(), CodecError> {
        (self.encode)(message, out)
    }

    pub(crate) fn order(&self) -> u64 {
        self.order
    }

    /// Whether the next message is probably so long that it goes in pieces: the last one was.
    pub(crate) fn is_likely_long(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    pub(crate) fn was_long(&self, is_long: bool) {
        if self.is_likely_long() != is_long {
            self.is_long.store(is_long, Ordering::Relaxed);
        }
    }

    /// The method's number on the wire, for this service's type arguments.
    pub(crate) fn method_id(&self, method: &Method) -> MethodId {
        method.id().salted(self.salt)
    }
}

impl<M> Clone for Target<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Local(local) => Self::Local(Arc::clone(local)),
            Self::Remote(remote) => Self::Remote(Arc::clone(remote)),
            Self::Routed(routed) => Self::Routed(Arc::clone(routed)),
        }
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone() }
    }
}

impl<M> PartialEq for Handle<M> {
    fn eq(&self, other: &Self) -> bool {
        self.target.identity() == other.target.identity()
    }
}

impl<M> Eq for Handle<M> {}

impl<M> Hash for Handle<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.target.identity().hash(state);
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Local(local) => write!(f, "Handle({})", local.address()),
            Target::Remote(remote) => write!(f, "Handle({})", remote.address),
            Target::Routed(routed) => {
                write!(f, "Handle({}", routed.name())?;
                if let Some(node) = routed.only_on() {
                    write!(f, "@{node}")?;
                }
                if let Some(Key(key)) = routed.key() {
                    write!(f, "/{key:016x}")?;
                }
                f.write_str(")")
            }
        }
    }
}
