//! Handles on their way: how one is written into a message, and what it becomes on the node where it arrives.
//!
//! A handle to an instance says where that is, by what name it is known and where its node listens, so that a third node
//! finds it. A handle to a name, or to a key of a name, leads where the name leads for the node that reads it;
//! how it spreads its calls stays behind.
//!
//! Writing a handle to an instance is what lets peers reach that instance.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{Address, NodeId, check_service_name};
use crate::node::lookup;
use crate::node::node::Inner;
use crate::policy::rendezvous::Key;
use crate::port::Links;
use crate::proto::frame::MAX_NAME;
use crate::service::ambient;
use crate::service::deliver;
use crate::service::handle::{Handle, Remote, ServiceHandle, Target, Way};
use crate::service::mailbox::Local;
use crate::service::message::{Message, WireMessage};

/// A handle in a message.
#[derive(Serialize, Deserialize)]
struct Travelling {
    /// The interface's name, so that no handle becomes one of another service.
    interface: String,
    to: To,
}

/// Where a handle leads.
#[derive(Serialize, Deserialize)]
enum To {
    Instance { address: Address, name: Option<String>, at: Option<SocketAddr> },
    Name { name: String, only_on: Option<NodeId>, key: Option<u64> },
}

/// Whether the handles of a service's messages travel, found out by method resolution: the first of the two traits below
/// that fits is taken. Generated code asks for it where a bound could not be written.
#[derive(Debug)]
pub struct Travel<M>(PhantomData<fn() -> M>);

impl<M> Travel<M> {
    /// The question.
    pub const NEW: Self = Self(PhantomData);
}

/// They do.
pub trait Travels<M> {
    /// Writes a handle.
    ///
    /// # Errors
    /// The serializer's.
    fn write<S: Serializer>(&self, handle: &Handle<M>, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads a handle.
    ///
    /// # Errors
    /// What was read is not a handle of these messages, or it is not read for a node.
    fn read<'de, D: Deserializer<'de>>(&self, deserializer: D) -> Result<Handle<M>, D::Error>;
}

/// They do not.
pub trait TravelsNot<M> {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn write<S: Serializer>(&self, _: &Handle<M>, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(NOT))
    }

    /// Refuses.
    ///
    /// # Errors
    /// Always.
    fn read<'de, D: Deserializer<'de>>(&self, _: D) -> Result<Handle<M>, D::Error> {
        Err(D::Error::custom(NOT))
    }
}

const NOT: &str = "a handle whose messages cannot cross the wire";

impl<M> TravelsNot<M> for &Travel<M> {}

impl<M: WireMessage> Travels<M> for Travel<M> {
    fn write<S: Serializer>(&self, handle: &Handle<M>, serializer: S) -> Result<S::Ok, S::Error> {
        let to = match handle.target() {
            Target::Local(local) => export(local),
            Target::Remote(remote) => To::Instance {
                address: remote.address.clone(),
                name: remote.name.as_deref().map(str::to_owned),
                at: remote.listens_at(),
            },
            Target::Routed(routed) => To::Name {
                name: routed.name().to_owned(),
                only_on: routed.only_on().cloned(),
                key: routed.key().map(|key| key.0),
            },
        };
        Travelling { interface: M::INTERFACE.to_owned(), to }.serialize(serializer)
    }

    fn read<'de, D: Deserializer<'de>>(&self, deserializer: D) -> Result<Handle<M>, D::Error> {
        let Travelling { interface, to } = Travelling::deserialize(deserializer)?;
        if interface != M::INTERFACE {
            let text = format!("a handle of `{interface}`, one of `{}` was expected", M::INTERFACE);
            return Err(D::Error::custom(text));
        }
        let reader = ambient::reader().ok_or_else(|| {
            D::Error::custom(
                "a handle is read in a message between nodes, or inside of a handler, and nowhere else",
            )
        })?;
        let inner = Inner::of(&reader.host).ok_or_else(|| D::Error::custom("the node has ended"))?;
        match to {
            To::Name { name, only_on, key } => {
                check_service_name(&name, MAX_NAME).map_err(D::Error::custom)?;
                let way = key.map_or_else(Way::default, |key| Way::Key(Key(key)));
                let routed = lookup::route::<M::Handle>(&inner, name.into(), only_on, way);
                Ok(routed.as_inner().clone())
            }
            To::Instance { address, name, at } => {
                if let Some(name) = &name {
                    check_service_name(name, MAX_NAME).map_err(D::Error::custom)?;
                }
                // Nobody but a peer makes this node dial.
                let at = at.filter(|_| reader.is_from_peer);
                Ok(lead_to(&inner, address, name.map(Into::into), at))
            }
        }
    }
}

/// Lets peers reach an instance of this node, and says where it is.
fn export<M: WireMessage>(local: &Arc<Local<M>>) -> To {
    let (host, address) = (local.host(), local.address());
    host.export(address.instance, || deliver::reachable(local));
    let name = name_of(local);
    let at = Inner::of(host).and_then(|inner| inner.address);
    To::Instance { address: address.clone(), name, at }
}

/// The name under which an instance of this node is known.
pub(super) fn name_of<M: Message>(local: &Local<M>) -> Option<String> {
    let resident = local.host().resident(local.address().instance)?;
    resident.is_named.then(|| local.core().service().to_string())
}

/// A handle on this node to an instance, here or elsewhere.
pub(super) fn lead_to<M: WireMessage>(
    inner: &Inner,
    address: Address,
    name: Option<Arc<str>>,
    at: Option<SocketAddr>,
) -> Handle<M> {
    let host = &inner.host;
    if (&address.node, address.incarnation) == (&host.node, host.incarnation)
        && let Some(here) = host.resident(address.instance).and_then(|resident| resident.core.handle())
    {
        return here;
    }
    let links = Arc::clone(&inner.table) as Arc<dyn Links>;
    Handle::new(Target::Remote(Arc::new(Remote::new(address, name, at, Arc::clone(host), links))))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::id::{Incarnation, InstanceId};
    use crate::proto::codec::{self, Encoder};

    fn check(to: To, hex: &str) {
        let mut out = BytesMut::new();
        Encoder::new(&mut out, usize::MAX).put(&Travelling { interface: "db".into(), to }).unwrap();
        let written: Vec<String> = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written.concat(), hex.replace(' ', ""));
        assert_eq!(codec::decode::<Travelling>(&out).unwrap().interface, "db");
    }

    /// Typed by hand from the written specification.
    #[test]
    fn a_handle_has_its_published_bytes() {
        let node = NodeId::new("n").unwrap();
        let address = Address { node: node.clone(), incarnation: Incarnation(1), instance: InstanceId(2) };
        let at = Some("10.0.0.2:7000".parse().unwrap());
        let to = To::Instance { address: address.clone(), name: Some("db".into()), at };
        check(to, "02 6462 00 01 6e 01 02 01 02 6462 01 00 0a000002 fb 581b");
        let at = Some("[2001:db8::1]:80".parse().unwrap());
        let to = To::Instance { address, name: None, at };
        check(to, "02 6462 00 01 6e 01 02 00 01 01 20010db8000000000000000000000001 50");
        let to = To::Name { name: "db".into(), only_on: Some(node), key: Some(300) };
        check(to, "02 6462 01 02 6462 01 01 6e 01 fb 2c01");
    }
}
