//! Names that one node alone is to have: asked for before a service starts, and given up when it turns out that another node has it.
//!
//! Who has it is decided by `cluster::directory`, on every node by the same rule.

use std::sync::Arc;

use crate::error::StartError;
use crate::node::node::{Inner, Node};
use crate::service::host::Host;
use crate::service::supervisor::child::Halt;

/// Whether a service may be started under a name, by what is known now.
///
/// # Errors
/// Another node has it, and one of the two wants to be the only one.
pub(super) fn check(inner: &Inner, name: &str, is_unique: bool) -> Result<(), StartError> {
    let names = inner.names.current();
    let mut others = names.candidates(name).iter().filter(|known| known.address.node != inner.host.node);
    match others.find(|known| is_unique || known.is_unique) {
        Some(known) => {
            let node = known.address.node.clone();
            Err(StartError::NameTakenBy { name: name.to_owned(), node, is_unique: known.is_unique })
        }
        None => Ok(()),
    }
}

/// Stops the service of a name that another node has.
pub(super) fn give_up(host: &Arc<Host>, name: &str) {
    let Some(inner) = Inner::of(host) else { return };
    let name = name.to_owned();
    host.tasks.spawn(async move {
        let _ = Node::without_owner_of(inner).end_service(&name, Halt::Stop).await; // it may have ended by itself
    });
}
