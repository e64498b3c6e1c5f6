//! Where a call waits for its reply, here or over a connection.
//!
//! Invariant: a request on a connection that nobody waits for any more is cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::CallError;
use crate::id::{Address, InstanceId, RequestId};
use crate::port::{Link, Peer};
use crate::service::ambient;
use crate::service::host::Host;
use crate::service::stub::Decode;

/// Where a call waits for its reply.
pub(crate) enum Waiting<R> {
    /// By this instance.
    Local(oneshot::Receiver<Result<R, CallError>>, InstanceId),
    Remote(RemoteWaiting<R>),
}

/// A request on a connection. Dropped before its answer it is cancelled.
pub(crate) struct RemoteWaiting<R> {
    pub(super) receiver: oneshot::Receiver<Result<Bytes, CallError>>,
    pub(super) link: Arc<Link>,
    pub(super) host: Arc<Host>,
    pub(super) id: RequestId,
    pub(super) instance: InstanceId,
    pub(super) decode: Decode<R>,
    pub(super) answered: bool,
}

impl<R> Waiting<R> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<R, CallError>> {
        let lost = || CallError::NoReply("the reply's place was dropped".into());
        match self {
            Self::Local(receiver, _) => {
                Poll::Ready(ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| Err(lost())))
            }
            Self::Remote(waiting) => {
                let answer = ready!(Pin::new(&mut waiting.receiver).poll(cx));
                waiting.answered = true;
                let payload = answer.unwrap_or_else(|_| Err(lost()));
                let (host, link) = (&waiting.host, Some(&waiting.link));
                let decode = |payload: Bytes| ambient::reading(host, link, || (waiting.decode)(&payload));
                Poll::Ready(payload.and_then(decode))
            }
        }
    }

    /// The number of the instance that has the call, if it is on this node.
    #[inline]
    pub(crate) fn local_instance(&self) -> Option<InstanceId> {
        match self {
            Self::Local(_, instance) => Some(*instance),
            Self::Remote(_) => None,
        }
    }

    /// The instance that has the call, if it is on another node.
    pub(crate) fn remote_address(&self) -> Option<Address> {
        match self {
            Self::Local(..) => None,
            Self::Remote(waiting) => {
                let Peer { node, incarnation, .. } = waiting.link.peer();
                Some(Address { node: node.clone(), incarnation: *incarnation, instance: waiting.instance })
            }
        }
    }
}

impl<R> Drop for RemoteWaiting<R> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.cancel(self.id);
        }
    }
}
