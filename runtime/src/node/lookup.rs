//! From a name to a handle.

use std::future::Future;
use std::sync::Arc;

use crate::cluster::directory::Candidate;
use crate::error::LookupError;
use crate::id::NodeId;
use crate::node::instances::InstancesWatch;
use crate::node::node::{Inner, Node};
use crate::node::route::{Around, NameRoute, is_candidate};
use crate::node::travel;
use crate::port::Links;
use crate::service::handle::{Handle, ServiceHandle, Target, Way};
use crate::service::message::{Message, WireMessage};
use crate::time;

/// Finds services by name: `CounterHandle::lookup(&node, "counter").await`.
///
/// A trait, so that a service may have methods of these names; then `<CounterHandle as Lookup>::lookup(..)` is this one.
pub trait Lookup: ServiceHandle
where
    Self::Message: WireMessage,
{
    /// A handle to the name, wherever its instances are in the cluster. Each call goes to the less loaded of two of them
    /// ([`Balance::LeastLoaded`](crate::Balance)); [`ServiceHandle::balance`] and [`ServiceHandle::key`] give handles that choose otherwise.
    /// Waits until an instance is known, at most the node's `call_timeout`.
    ///
    /// # Errors
    /// [`LookupError::NotFound`] if none appeared in time, [`LookupError::Interface`] if the name belongs to another
    /// service.
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn lookup(node: &Node, name: &str) -> impl Future<Output = Result<Self, LookupError>> + Send {
        wait_for(node, name, None)
    }

    /// As [`Lookup::lookup`], for the instances on the node named `on` only.
    ///
    /// # Errors
    /// As [`Lookup::lookup`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn lookup_on(
        node: &Node,
        on: &str,
        name: &str,
    ) -> impl Future<Output = Result<Self, LookupError>> + Send {
        wait_for(node, name, Some(on.to_owned()))
    }

    /// As [`Lookup::lookup`], by what is known now, without waiting.
    ///
    /// # Errors
    /// As [`Lookup::lookup`].
    fn try_lookup(node: &Node, name: &str) -> Result<Self, LookupError> {
        find(node, name, None)
    }

    /// A handle to whatever is now where this one led, for a handle whose calls are answered `Stale` or `Stopped`. A handle to
    /// an instance becomes one to an instance of the same name, if there is one on the same node, else on any; that is this
    /// handle itself as long as its instance is there. Waits until there is one, at most the node's `call_timeout`. A
    /// handle to a name is given back as it is: it follows its name by itself.
    ///
    /// # Errors
    /// [`LookupError::Anonymous`] if the instance has, or had, no name; else as [`Lookup::lookup`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn rebind(&self) -> impl Future<Output = Result<Self, LookupError>> + Send {
        rebind(self.clone())
    }

    /// The instances of the name to which this handle leads, and each change of them. For a handle to one instance they are those of
    /// its name.
    ///
    /// # Errors
    /// [`LookupError::Anonymous`] if it leads to an instance without a name, [`LookupError::NodeStopped`].
    fn watch_instances(&self) -> Result<InstancesWatch, LookupError> {
        let handle = self.as_inner();
        let host = handle.host();
        let name = name_of(handle.target())?;
        let only_on = match handle.target() {
            Target::Routed(routed) => routed.only_on().cloned(),
            Target::Local(_) | Target::Remote(_) => None,
        };
        let inner = Inner::of(host).ok_or_else(|| LookupError::NodeStopped(host.node.clone()))?;
        Ok(InstancesWatch::new(
            name,
            <Self::Message as Message>::INTERFACE,
            only_on,
            Arc::clone(&inner.names),
        ))
    }
}

/// The name of one instance.
fn name_of<M: Message>(target: &Target<M>) -> Result<Arc<str>, LookupError> {
    let (address, name) = match target {
        Target::Local(local) => (local.address(), travel::name_of(local).map(Into::into)),
        Target::Remote(remote) => (&remote.address, remote.name.clone()),
        Target::Routed(routed) => return Ok(routed.name().into()),
    };
    name.ok_or_else(|| LookupError::Anonymous { address: address.clone() })
}

impl<H: ServiceHandle> Lookup for H where H::Message: WireMessage {}

async fn wait_for<H>(node: &Node, name: &str, on: Option<String>) -> Result<H, LookupError>
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let limit = node.inner().host.call_timeout();
    let search = until_known(node.inner(), || find::<H>(node, name, on.as_deref()));
    match time::timeout(limit, search).await {
        Some(found) => found,
        None => Err(not_found(node.id(), name, on.as_deref(), format!(" after waiting {limit:?}"))),
    }
}

async fn rebind<H>(handle: H) -> Result<H, LookupError>
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let host = Arc::clone(handle.as_inner().host());
    let stopped = || LookupError::NodeStopped(host.node.clone());
    let target = handle.as_inner().target();
    let Some(address) = target.address().cloned() else { return Ok(handle) };
    let name = name_of(target)?;
    let inner = Inner::of(&host).ok_or_else(stopped)?;
    let search = until_known(&inner, || {
        let names = inner.names.current();
        let known = names.candidates(&name).iter().filter(|known| is_candidate::<H::Message>(known, None));
        // This very instance before others of its node, and those before any.
        let rank = |known: &&Candidate| {
            (known.address != address, known.address.node != address.node, known.is_away)
        };
        let best = known.min_by_key(rank).map(|known| known.address.clone());
        best.ok_or_else(|| not_found(&host.node, &name, None, String::new()))
    });
    let limit = host.call_timeout();
    let Some(found) = time::timeout(limit, search).await else {
        let waited = format!(" after waiting {limit:?}");
        return Err(not_found(&host.node, &name, None, waited));
    };
    let found = found?;
    if found == address {
        return Ok(handle);
    }
    Ok(H::from_inner(travel::lead_to(&inner, found, Some(name), None)))
}

/// Looks again at every change of the names, until `look` finds something or says that it never will.
async fn until_known<T>(
    inner: &Inner,
    mut look: impl FnMut() -> Result<T, LookupError>,
) -> Result<T, LookupError> {
    let mut changes = inner.names.changes();
    loop {
        changes.borrow_and_update();
        match look() {
            Err(LookupError::NotFound { .. }) => {}
            settled => return settled,
        }
        tokio::select! {
            () = inner.host.tasks.aborted() => return Err(LookupError::NodeStopped(inner.host.node.clone())),
            changed = changes.changed() => if changed.is_err() {
                return Err(LookupError::NodeStopped(inner.host.node.clone()));
            },
        }
    }
}

fn find<H>(node: &Node, name: &str, on: Option<&str>) -> Result<H, LookupError>
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let inner = node.inner();
    if inner.host.is_shutting_down() {
        return Err(LookupError::NodeStopped(node.id().clone()));
    }
    let Ok(only_on) = on.map(NodeId::new).transpose() else {
        return Err(not_found(node.id(), name, on, String::new())); // no node can have that name
    };
    let names = inner.names.current();
    let here = |candidate: &&_| is_on(candidate, only_on.as_ref());
    let mut candidates = names.candidates(name).iter().filter(here).peekable();
    let Some(first) = candidates.peek() else {
        return Err(not_found(node.id(), name, on, String::new()));
    };
    let found = first.interface.to_string();
    if !candidates.any(|candidate| is_candidate::<H::Message>(candidate, only_on.as_ref())) {
        let expected = <H::Message as Message>::INTERFACE;
        return Err(LookupError::Interface { name: name.to_owned(), expected, found });
    }
    Ok(route::<H>(node.inner(), name.into(), only_on, Way::default()))
}

/// A handle to a name, whether or not an instance is known.
pub(crate) fn route<H>(inner: &Inner, name: Arc<str>, only_on: Option<NodeId>, way: Way) -> H
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let links = Arc::clone(&inner.table) as Arc<dyn Links>;
    let (host, names) = (Arc::clone(&inner.host), Arc::clone(&inner.names));
    let (routing, pools) = (Arc::clone(&inner.in_force.routing), Arc::clone(&inner.pools));
    let around = Around { host, names, links, routing, pools };
    let pool = around.pool(&name);
    let route = NameRoute::new(name, only_on, way, around, pool);
    H::from_inner(Handle::new(Target::Routed(Arc::new(route))))
}

fn is_on(candidate: &Candidate, only_on: Option<&NodeId>) -> bool {
    only_on.is_none_or(|node| *node == candidate.address.node)
}

fn not_found(node: &NodeId, name: &str, on: Option<&str>, waited: String) -> LookupError {
    let place = on.map(|on| format!(" on node {on:?}")).unwrap_or_default();
    LookupError::NotFound { name: name.to_owned(), place, node: node.clone(), waited }
}
