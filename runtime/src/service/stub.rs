//! What a generated handle method knows about its method: how to find the reply's place in the message, and how to
//! read a reply that came over the wire.

use bytes::Bytes;

use crate::error::CallError;
use crate::service::message::Method;
use crate::service::reply::Reply;

/// Reads a reply that came over the wire.
pub(crate) type Decode<R> = fn(&Bytes) -> Result<R, CallError>;

/// One method of a handle. Generated code holds one per method in a constant.
pub struct Stub<M, R> {
    pub(crate) method: &'static Method,
    pub(crate) reply: fn(&mut M) -> &mut Reply<R>,
    /// `None` for a local service, whose handles never lead to another process.
    pub(crate) decode: Option<Decode<R>>,
}

impl<M, R> Stub<M, R> {
    /// A method whose reply can cross the wire.
    pub const fn wire(
        method: &'static Method,
        reply: fn(&mut M) -> &mut Reply<R>,
        decode: fn(&Bytes) -> Result<R, CallError>,
    ) -> Self {
        Self { method, reply, decode: Some(decode) }
    }

    /// A method of a `#[service(local)]`.
    pub const fn local(method: &'static Method, reply: fn(&mut M) -> &mut Reply<R>) -> Self {
        Self { method, reply, decode: None }
    }
}

impl<M, R> std::fmt::Debug for Stub<M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stub").field(&self.method.name()).finish()
    }
}
