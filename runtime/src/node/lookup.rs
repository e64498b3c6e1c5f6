//! From a name to a handle.

use std::future::Future;
use std::sync::Arc;

use crate::cluster::directory::Candidate;
use crate::error::LookupError;
use crate::id::NodeId;
use crate::node::node::Node;
use crate::node::router::{NameRoute, is_candidate};
use crate::port::Links;
use crate::service::handle::{Handle, ServiceHandle, Target};
use crate::service::message::{Message, WireMessage};
use crate::time;

/// Finds services by name: `CounterHandle::lookup(&node, "counter").await`.
///
/// A trait, so that a service may have methods of these names; then `<CounterHandle as Lookup>::lookup(..)` is this one.
pub trait Lookup: ServiceHandle
where
    Self::Message: WireMessage,
{
    /// A handle to the name, wherever its instances are in the cluster. Its calls take turns over all of them. Waits
    /// until an instance is known, at most the node's `call_timeout`.
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
}

impl<H: ServiceHandle> Lookup for H where H::Message: WireMessage {}

async fn wait_for<H>(node: &Node, name: &str, on: Option<String>) -> Result<H, LookupError>
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let mut changes = node.inner().names.changes();
    let limit = node.inner().host.call_timeout;
    let search = async {
        loop {
            changes.borrow_and_update();
            match find::<H>(node, name, on.as_deref()) {
                Err(LookupError::NotFound { .. }) => {}
                settled => return settled,
            }
            tokio::select! {
                () = node.inner().host.tasks.aborted() => return Err(LookupError::NodeStopped(node.id().clone())),
                changed = changes.changed() => if changed.is_err() {
                    return Err(LookupError::NodeStopped(node.id().clone()));
                },
            }
        }
    };
    match time::timeout(limit, search).await {
        Some(found) => found,
        None => Err(not_found(node, name, on.as_deref(), format!(" after waiting {limit:?}"))),
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
        return Err(not_found(node, name, on, String::new())); // no node can have that name
    };
    let names = inner.names.current();
    let here = |candidate: &&_| is_on(candidate, only_on.as_ref());
    let mut candidates = names.candidates(name).iter().filter(here).peekable();
    let Some(first) = candidates.peek() else {
        return Err(not_found(node, name, on, String::new()));
    };
    let found = first.interface.to_string();
    if !candidates.any(|candidate| is_candidate::<H::Message>(candidate, only_on.as_ref())) {
        let expected = <H::Message as Message>::INTERFACE;
        return Err(LookupError::Interface { name: name.to_owned(), expected, found });
    }
    Ok(route::<H>(node, name.into(), only_on))
}

/// A handle to a name, whether or not an instance is known.
pub(crate) fn route<H>(node: &Node, name: Arc<str>, only_on: Option<NodeId>) -> H
where
    H: ServiceHandle,
    H::Message: WireMessage,
{
    let inner = node.inner();
    let links = Arc::clone(&inner.table) as Arc<dyn Links>;
    let route = NameRoute::new(name, only_on, Arc::clone(&inner.host), Arc::clone(&inner.names), links);
    H::from_inner(Handle::new(Target::Routed(Arc::new(route))))
}

fn is_on(candidate: &Candidate, only_on: Option<&NodeId>) -> bool {
    only_on.is_none_or(|node| *node == candidate.address.node)
}

fn not_found(node: &Node, name: &str, on: Option<&str>, waited: String) -> LookupError {
    let place = on.map(|on| format!(" on node {on:?}")).unwrap_or_default();
    LookupError::NotFound { name: name.to_owned(), place, node: node.id().clone(), waited }
}
