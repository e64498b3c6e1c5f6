//! Where a message waits for room: in front of a full mailbox, or of a full connection.
//!
//! Invariant: a message that its instance does not take any more comes back whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::CallError;
use crate::id::Address;
use crate::port::{Link, Place};
use crate::service::handle::Remote;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Message, Method};
use crate::service::outbound::{Delivery, NotHandedOver, Sent, Waiting};
use crate::service::reroute::{self, Back};

/// What became of a message that waited.
pub(crate) enum Entered<R, M> {
    /// It was handed over.
    Done(Sent<R, M>),
    /// Its instance takes it no more, but another one of the same name may.
    Back(Back<M>),
    /// It cannot be handed over. It did not run.
    Failed(CallError),
}

/// Hands the message over when there is room.
type Entry<R, M> = dyn Future<Output = Entered<R, M>> + Send;

/// A message that waits for room. The one place where a call is boxed.
pub(crate) struct WaitingRoom<R, M> {
    entry: Pin<Box<Entry<R, M>>>,
    /// What is full.
    full: Full<M>,
}

enum Full<M> {
    /// Of this instance, to a message of this method.
    Mailbox(Arc<Local<M>>, &'static Method),
    /// The way to this instance.
    Way(Blocked, Address),
}

/// Why a message cannot go to another node now.
#[derive(Debug, Clone)]
pub(crate) enum Blocked {
    /// There is no room on this connection.
    Full(Arc<Link>),
    /// There is no credit for the instance on it.
    NoCredit(Arc<Link>),
    /// The connection was lost, and is being made again.
    Away,
}

impl Blocked {
    /// The error for who does not, or no longer, wait.
    pub(crate) fn error(&self, instance: &Address) -> CallError {
        match self {
            Self::Full(_) => {
                CallError::Overloaded(format!("the connection to node {} is full", instance.node).into())
            }
            Self::NoCredit(_) => CallError::Overloaded(
                format!("{instance} takes no more now: what it was sent is still in front of its mailbox")
                    .into(),
            ),
            Self::Away => CallError::NoRoute(
                format!("the connection to node {} was lost and does not stand again", instance.node).into(),
            ),
        }
    }
}

/// Takes the place of who waits for room on a connection. Here and not at the first poll: who comes later must not overtake.
fn place_for<M>(blocked: &Blocked, remote: &Remote<M>) -> Option<Place> {
    match blocked {
        Blocked::Full(link) | Blocked::NoCredit(link) => Some(link.wait_for(remote.address.instance)),
        Blocked::Away => {
            remote.want_node();
            None
        }
    }
}

impl<R: Send + 'static, M: Message> WaitingRoom<R, M> {
    pub(crate) fn local(local: Arc<Local<M>>, envelope: Envelope<M>, waiting: Option<Waiting<R>>) -> Self {
        let full = Full::Mailbox(Arc::clone(&local), envelope.message.method());
        let entry = Box::pin(async move {
            match local.send(envelope).await {
                Ok(()) => Entered::Done(Sent { waiting, message: None }),
                Err(Envelope { message, .. }) => {
                    let (from, error) = (local.address().clone(), local.core().stopped_error());
                    Entered::Back(Back { message, from, error })
                }
            }
        });
        Self { entry, full }
    }

    pub(crate) fn remote(
        remote: Arc<Remote<M>>,
        message: M,
        delivery: Delivery<M, R>,
        blocked: Blocked,
    ) -> Self {
        let mut place = place_for(&blocked, &remote);
        let full = Full::Way(blocked, remote.address.clone());
        let entry = Box::pin(async move {
            loop {
                if let Some(place) = &place {
                    place.turn().await;
                }
                let mut changed = std::pin::pin!(remote.node_changed());
                changed.as_mut().enable(); // before the try, so that no change after it is missed
                let blocked = match delivery.hand_over(&remote, &message, place.as_ref()) {
                    Ok(waiting) => return Entered::Done(Sent { waiting, message: Some(message) }),
                    Err(NotHandedOver::Error(error)) if reroute::may_fare_better(&error) => {
                        return Entered::Back(Back { message, from: remote.address.clone(), error });
                    }
                    Err(NotHandedOver::Error(error)) => return Entered::Failed(error),
                    Err(NotHandedOver::Blocked(blocked)) => blocked,
                };
                match (&place, &blocked) {
                    (Some(place), Blocked::Full(link) | Blocked::NoCredit(link))
                        if Arc::ptr_eq(link, place.link()) => {}
                    (None, Blocked::Away) => changed.await,
                    _ => place = place_for(&blocked, &remote),
                }
            }
        });
        Self { entry, full }
    }

    /// Ready when the message was handed over, or cannot be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Entered<R, M>> {
        self.entry.as_mut().poll(cx)
    }

    /// The error for who cannot, or can no longer, wait.
    pub(crate) fn overloaded(&self) -> CallError {
        match &self.full {
            Full::Mailbox(local, method) => local.full(method),
            Full::Way(blocked, instance) => blocked.error(instance),
        }
    }
}
