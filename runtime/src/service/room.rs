//! Where a message waits for room: in front of a full mailbox, or of a full connection.
//!
//! Invariant: a message that its instance does not take any more comes back whole.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::CallError;
use crate::id::Address;
use crate::port::Link;
use crate::service::handle::Remote;
use crate::service::mailbox::Local;
use crate::service::message::{Envelope, Message};
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
    Mailbox(Arc<Local<M>>),
    /// To this instance.
    Connection(Arc<Link>, Address),
}

impl<R: Send + 'static, M: Message> WaitingRoom<R, M> {
    pub(crate) fn local(local: Arc<Local<M>>, envelope: Envelope<M>, waiting: Option<Waiting<R>>) -> Self {
        let full = Full::Mailbox(Arc::clone(&local));
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
        link: Arc<Link>,
    ) -> Self {
        let full = Full::Connection(Arc::clone(&link), remote.address.clone());
        // Here and not at the first poll: who comes later must not overtake this.
        let place = link.wait_for(remote.address.instance);
        let entry = Box::pin(async move {
            let mut place = place;
            loop {
                let another = loop {
                    place.turn().await;
                    match delivery.hand_over(&remote, &message, Some(&place)) {
                        Ok(waiting) => return Entered::Done(Sent { waiting, message: Some(message) }),
                        Err(NotHandedOver::Full(link)) if Arc::ptr_eq(&link, place.link()) => {}
                        // The one before has ended.
                        Err(NotHandedOver::Full(another)) => break another,
                        Err(NotHandedOver::Error(error)) if reroute::may_fare_better(&error) => {
                            return Entered::Back(Back { message, from: remote.address.clone(), error });
                        }
                        Err(NotHandedOver::Error(error)) => return Entered::Failed(error),
                    }
                };
                place = another.wait_for(remote.address.instance);
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
            Full::Mailbox(local) => local.full(),
            Full::Connection(link, instance) => overloaded(link, instance),
        }
    }
}

/// The error for who finds no room on a connection, or no credit for an instance.
pub(crate) fn overloaded(link: &Link, instance: &Address) -> CallError {
    let detail = if link.has_credit(instance.instance) {
        format!("the connection to node {} is full", link.peer().node)
    } else {
        format!("{instance} takes no more now: what it was sent is still in front of its mailbox")
    };
    CallError::Overloaded(detail.into())
}
