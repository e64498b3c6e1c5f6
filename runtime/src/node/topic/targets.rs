//! Which other nodes an item goes to, and how it is handed to their connections.
//!
//! Invariant: a node gets an item once, however many subscribers it has, and nothing waits for it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::event::DeadLetterReason;
use crate::id::{Address, MethodId};
use crate::node::node::Inner;
use crate::port::{Head, Refused};
use crate::proto::codec::Encoder;
use crate::proto::frame::{MAX_INTERFACE, PIECE};
use crate::service::message::{TYPE_HASH, fold_type_name, without_paths};

/// The nodes that have subscribers, as far as a version of the directory knows.
#[derive(Debug)]
pub(super) struct Targets {
    item: &'static str,
    method: MethodId,
    order: u64,
    known: ArcSwapOption<Known>,
}

#[derive(Debug)]
pub(super) struct Known {
    version: u64,
    /// One for each node but this one.
    pub(super) nodes: Vec<Target>,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: Address,
    /// Whether its items are of the type that is published here.
    pub(super) has_same_type: bool,
}

/// What came of handing an item to one node's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way.
    Done,
    /// The node has subscribers that do not get it.
    Lost(DeadLetterReason),
    /// The node is not there any more.
    Gone,
}

impl Targets {
    /// `order` numbers the topic, whose items keep their order.
    pub(super) fn new(item: &'static str, order: u64) -> Self {
        Self { item, method: item_method(item), order, known: ArcSwapOption::empty() }
    }

    /// The nodes now. The work is done once for each version of the directory.
    pub(super) fn resolve(&self, inner: &Inner, name: &str) -> Arc<Known> {
        // Read before the names: should they change meanwhile, the next item looks again.
        let version = inner.names.version();
        if let Some(known) = &*self.known.load()
            && known.version == version
        {
            return Arc::clone(known);
        }
        let own = without_paths(as_told(self.item));
        let names = inner.names.current();
        let mut nodes: Vec<Target> = Vec::new();
        for candidate in names.candidates(name) {
            let address = &candidate.address;
            if address.node == inner.host.node || nodes.last().is_some_and(|t| t.address.node == address.node)
            {
                continue;
            }
            let has_same_type = without_paths(&candidate.interface) == own;
            nodes.push(Target { address: address.clone(), has_same_type });
        }
        let known = Arc::new(Known { version, nodes });
        self.known.store(Some(Arc::clone(&known)));
        known
    }

    /// Hands an encoded item to one node's connection, if there is room.
    pub(super) fn send(&self, inner: &Inner, target: &Target, payload: &Bytes) -> Sent {
        if !target.has_same_type {
            return Sent::Lost(DeadLetterReason::Undecodable);
        }
        let address = &target.address;
        let Some(link) = inner.table.link(&address.node) else { return Sent::Gone };
        if link.peer().incarnation != address.incarnation {
            return Sent::Gone;
        }
        let link = link.toward(address.instance);
        let head = Head {
            instance: address.instance,
            method: self.method,
            remaining: None,
            chain: Vec::new(),
            trace: None,
            is_ahead: false,
            is_impatient: false,
            order: self.order,
            is_likely_long: payload.len() > PIECE,
        };
        let copy = |out: &mut Encoder<'_>| {
            out.share(payload);
            out.put_bytes(payload)
        };
        match link.request(head, None, &copy, None) {
            Ok(_) => Sent::Done,
            Err(Refused::Full | Refused::NoCredit) => Sent::Lost(DeadLetterReason::Overloaded),
            Err(Refused::Closed | Refused::Gone) => Sent::Gone,
            Err(Refused::Unsendable(_)) => Sent::Lost(DeadLetterReason::TooLarge),
        }
    }
}

/// The one method that a topic has on the wire, for its items' type.
pub(super) fn item_method(item: &str) -> MethodId {
    MethodId { name: fold_type_name(TYPE_HASH, "item"), signature: fold_type_name(TYPE_HASH, item) }
}

/// A type's name as it comes to a peer: cut at a character's boundary.
fn as_told(item: &str) -> &str {
    let end = (0..=item.len().min(MAX_INTERFACE)).rev().find(|&end| item.is_char_boundary(end));
    &item[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_item_type_keeps_its_number_and_another_type_has_another() {
        assert_eq!(item_method("app::chat::Line"), item_method("other::Line"));
        assert_ne!(item_method("app::Line"), item_method("app::Lines"));
        assert_ne!(item_method("u8"), item_method("u16"));
    }

    #[test]
    fn a_long_type_name_is_cut_as_the_wire_cuts_it() {
        let long = "ä".repeat(MAX_INTERFACE);
        assert_eq!(as_told(&long).len(), MAX_INTERFACE);
        let odd = format!("x{long}");
        assert_eq!(as_told(&odd).len(), MAX_INTERFACE - 1);
        assert_eq!(as_told("short"), "short");
    }
}
