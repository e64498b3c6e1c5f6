//! The chain of handlers that wait for one another, and what it says about a new call: that it would wait for ever.
//!
//! A handler that calls is a link; the call carries the link and those behind it, locally by reference and on the
//! wire by value. A call to an instance that is already in its own chain is a circle:
//!
//! * If the link there, or the called method, takes `&mut self`, the call could never begin: it is refused with
//!   `Deadlock` before it is sent.
//! * If both take `&self`, the call is *re-entrant*. It must not wait in the mailbox, because an `&mut self` message
//!   ahead of it waits for the very handler that waits for it, and because the handlers that wait may have used up the
//!   instance's concurrency. So it begins at once, as a recursive read lock does. This is the one exception to
//!   "messages start in the order in which they arrived".
//!
//! While spans are wanted, the trace that a message or a handler is part of stands at the front: there it costs nobody else a
//! word. It is no link, and whoever looks at the links passes over it.
//!
//! Invariant: only values and comparisons; who is called is decided elsewhere. A trace stands at the front, or nowhere.

use std::sync::Arc;

use crate::error::{CallChain, ChainLink};
use crate::id::Address;
use crate::service::message::Method;
use crate::service::spans::Trace;

/// The longest chain that travels. Of a longer one the links nearest to the callee do.
pub(crate) const MAX_CHAIN: usize = 64;

/// The handlers that wait, the nearest first. Empty for a call from outside any handler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain(Option<Arc<Node>>);

#[derive(Debug)]
struct Node {
    what: What,
    behind: Chain,
}

#[derive(Debug)]
enum What {
    Link(Link),
    Trace(Trace),
}

/// A handler that waits.
#[derive(Debug)]
struct Link {
    address: Address,
    handler: Handler,
    exclusive: bool,
}

#[derive(Debug)]
enum Handler {
    Local { interface: &'static str, method: &'static str },
    Wire(Box<str>),
}

impl Drop for Node {
    /// Unlinks one by one: a long chain must not be dropped by recursion.
    fn drop(&mut self) {
        let mut next = self.behind.0.take();
        while let Some(node) = next.and_then(Arc::into_inner) {
            let mut node = node;
            next = node.behind.0.take();
        }
    }
}

/// What a chain says about a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Circle {
    /// The callee is not in the chain.
    None,
    /// The callee is in the chain, and both there and now it takes `&self`.
    Reentrant,
    /// The call could never begin.
    Deadlock,
}

impl Chain {
    /// The chain with one more link: the handler `method` of the instance at `address`.
    pub(crate) fn with(&self, address: &Address, interface: &'static str, method: &'static Method) -> Self {
        self.push(address.clone(), Handler::Local { interface, method: method.name() }, method.is_exclusive())
    }

    /// What this chain says about a call to `callee`.
    #[inline]
    pub(crate) fn circle(&self, callee: &Address, exclusive: bool) -> Circle {
        let mut found = Circle::None;
        for link in self.iter().filter(|link| link.address == *callee) {
            if link.exclusive || exclusive {
                return Circle::Deadlock;
            }
            found = Circle::Reentrant;
        }
        found
    }

    /// The chain as an error tells it: the first caller first, then the callee.
    pub(crate) fn describe(&self, callee: ChainLink) -> CallChain {
        let mut links = self.to_wire();
        links.push(callee);
        CallChain::new(links)
    }

    /// The chain as the wire carries it: the first caller first, at most [`MAX_CHAIN`] links.
    pub(crate) fn to_wire(&self) -> Vec<ChainLink> {
        let mut links: Vec<_> = self.iter().take(MAX_CHAIN).map(Link::to_wire).collect();
        links.reverse();
        links
    }

    /// The handler that called, if one did.
    pub(crate) fn nearest(&self) -> Option<ChainLink> {
        self.iter().next().map(Link::to_wire)
    }

    /// The chain that the wire carried.
    pub(crate) fn from_wire(links: Vec<ChainLink>) -> Self {
        links.into_iter().fold(Self::default(), |chain, link| {
            chain.push(link.address, Handler::Wire(link.handler), link.exclusive)
        })
    }

    /// Who waits, the first caller first.
    pub(crate) fn names(&self) -> Vec<String> {
        self.to_wire().iter().map(ToString::to_string).collect()
    }

    /// Whether nobody waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.untraced().0.is_none()
    }

    /// The chain with that trace at its front, and no other.
    pub(crate) fn traced(&self, trace: Trace) -> Self {
        Self(Some(Arc::new(Node { what: What::Trace(trace), behind: self.untraced().clone() })))
    }

    /// The trace at its front.
    #[inline]
    pub(crate) fn trace(&self) -> Option<&Trace> {
        match &self.0.as_deref()?.what {
            What::Trace(trace) => Some(trace),
            What::Link(_) => None,
        }
    }

    /// The trace of a message at its front, without the links: nobody waits for a send.
    pub(crate) fn trace_alone(&self) -> Self {
        match self.trace() {
            Some(Trace::Message(origin, since)) => {
                Self::default().traced(Trace::Message(origin.clone(), *since))
            }
            Some(Trace::Handler(_)) | None => Self::default(),
        }
    }

    /// The links alone.
    #[inline]
    pub(crate) fn untraced(&self) -> &Self {
        match self.0.as_deref() {
            Some(Node { what: What::Trace(_), behind }) => behind,
            _ => self,
        }
    }

    fn push(&self, address: Address, handler: Handler, exclusive: bool) -> Self {
        let what = What::Link(Link { address, handler, exclusive });
        Self(Some(Arc::new(Node { what, behind: self.untraced().clone() })))
    }

    fn iter(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(self.0.as_deref(), |node| node.behind.0.as_deref()).filter_map(|node| {
            match &node.what {
                What::Link(link) => Some(link),
                What::Trace(_) => None,
            }
        })
    }
}

impl Link {
    fn to_wire(&self) -> ChainLink {
        let handler = match &self.handler {
            Handler::Local { interface, method } => format!("{interface}.{method}").into(),
            Handler::Wire(text) => text.clone(),
        };
        ChainLink { address: self.address.clone(), handler, exclusive: self.exclusive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, InstanceId, NodeId};
    use crate::service::deadlines::Tick;
    use crate::service::message::Receiver;
    use crate::service::spans::Origin;

    static ADD: Method = Method::new("add", 1, 1, Receiver::Exclusive);
    static TOTAL: Method = Method::new("total", 2, 2, Receiver::Shared);

    fn at(instance: u64) -> Address {
        Address {
            node: NodeId::new("a").unwrap(),
            incarnation: Incarnation(1),
            instance: InstanceId(instance),
        }
    }

    #[test]
    fn a_circle_is_a_deadlock_unless_every_visit_takes_a_shared_receiver() {
        let shared = Chain::default().with(&at(1), "Counter", &TOTAL).with(&at(2), "Other", &ADD);
        assert_eq!(shared.circle(&at(1), false), Circle::Reentrant);
        assert_eq!(shared.circle(&at(1), true), Circle::Deadlock);
        assert_eq!(shared.circle(&at(2), false), Circle::Deadlock);
        assert_eq!(shared.circle(&at(3), true), Circle::None);
        assert_eq!(Chain::default().circle(&at(1), true), Circle::None);
    }

    #[test]
    fn a_chain_reads_from_the_first_caller_to_the_callee_also_after_the_wire() {
        let chain = Chain::default().with(&at(1), "Counter", &ADD).with(&at(2), "Other", &TOTAL);
        let chain = Chain::from_wire(chain.to_wire());
        let callee = ChainLink { address: at(1), handler: "Counter.add".into(), exclusive: true };
        assert_eq!(
            chain.describe(callee).to_string(),
            "Counter.add@a#1 -> Other.total@a#2 -> Counter.add@a#1"
        );
    }

    #[test]
    fn a_trace_at_the_front_is_no_link_and_stays_behind_when_the_chain_grows() {
        let trace = || Trace::Message(Origin::Unknown, Tick::of(1).unwrap());
        let nobody = Chain::default().traced(trace());
        assert!(nobody.is_empty() && nobody.trace().is_some());
        assert_eq!(nobody.to_wire(), []);

        let one = Chain::default().with(&at(1), "Counter", &ADD);
        let traced = one.traced(trace()).traced(trace());
        assert_eq!(traced.to_wire(), one.to_wire());
        assert_eq!(traced.nearest(), one.nearest());
        assert_eq!(traced.circle(&at(1), false), Circle::Deadlock);
        assert!(!traced.is_empty() && traced.untraced().trace().is_none());
        let alone = traced.trace_alone();
        assert!(alone.is_empty() && alone.trace().is_some());
        assert!(one.trace_alone().trace().is_none());

        let longer = traced.with(&at(2), "Other", &TOTAL);
        assert!(longer.trace().is_none());
        assert_eq!(longer.to_wire().len(), 2);
    }

    #[test]
    fn a_chain_of_a_million_links_is_dropped_without_recursion() {
        let mut chain = Chain::default();
        for _ in 0..1_000_000 {
            chain = chain.with(&at(1), "Counter", &ADD);
        }
        assert_eq!(chain.to_wire().len(), MAX_CHAIN);
        drop(chain);
    }
}
