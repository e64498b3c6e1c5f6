//! The queue of a mailbox, in one of two forms: a channel, or where the oldest send may have to make room, a ring.
//!
//! Invariant: both forms keep the order, and give everything out that got in.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::config::Overflow;
use crate::service::message::Parcel;
use crate::service::ring::{NotTaken, Ring};

/// The senders' end.
pub(crate) enum Entrance<M> {
    Channel(Sender<Parcel<M>>),
    Ring(Arc<Ring<Parcel<M>>>),
}

/// The instance's end.
pub(crate) enum Exit<M> {
    Channel(Receiver<Parcel<M>>),
    Ring(Arc<Ring<Parcel<M>>>),
}

/// Makes a queue for `capacity` items.
pub(crate) fn queue<M>(capacity: usize, overflow: Overflow) -> (Entrance<M>, Exit<M>) {
    match overflow {
        Overflow::Wait | Overflow::Reject => {
            let (sender, receiver) = mpsc::channel(capacity);
            (Entrance::Channel(sender), Exit::Channel(receiver))
        }
        Overflow::DropOldest => {
            let ring = Arc::new(Ring::new(capacity, |parcel: &Parcel<M>| parcel.is_send()));
            (Entrance::Ring(Arc::clone(&ring)), Exit::Ring(ring))
        }
    }
}

impl<M> Entrance<M> {
    /// Puts an item in if there is room.
    pub(crate) fn push_if_room(&self, item: Parcel<M>) -> Result<(), NotTaken<Parcel<M>>> {
        match self {
            Self::Channel(sender) => push(sender, item),
            Self::Ring(ring) => ring.push_if_room(item),
        }
    }

    /// How many items wait, with the places that senders have taken.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Channel(sender) => sender.max_capacity() - sender.capacity(),
            Self::Ring(ring) => ring.len(),
        }
    }

    /// Puts an item in when there is room; gives it back if there never will be. Nobody waits for room in a ring. Cancel
    /// safe: an item that did not get in is dropped.
    pub(crate) async fn wait_and_push(&self, item: Parcel<M>) -> Result<(), Parcel<M>> {
        match self {
            Self::Channel(sender) => sender.send(item).await.map_err(|refused| refused.0),
            Self::Ring(ring) => match ring.push_if_room(item) {
                Ok(()) => Ok(()),
                Err(NotTaken::Full(item) | NotTaken::Closed(item)) => Err(item),
            },
        }
    }
}

/// Puts an item into a channel, if there is room.
#[inline]
pub(crate) fn push<M>(sender: &Sender<Parcel<M>>, item: Parcel<M>) -> Result<(), NotTaken<Parcel<M>>> {
    sender.try_send(item).map_err(|refused| match refused {
        TrySendError::Full(item) => NotTaken::Full(item),
        TrySendError::Closed(item) => NotTaken::Closed(item),
    })
}

impl<M> Exit<M> {
    /// Takes up to `limit` items. Ready without any when nothing more will come.
    #[inline]
    pub(crate) fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Parcel<M>>,
        limit: usize,
    ) -> Poll<()> {
        match self {
            Self::Channel(receiver) => receiver.poll_recv_many(cx, into, limit).map(|_| ()),
            Self::Ring(ring) => ring.poll_take(cx, into, limit),
        }
    }

    /// How many items wait.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Channel(receiver) => receiver.len(),
            Self::Ring(ring) => ring.len(),
        }
    }

    /// Takes the oldest item, if there is one.
    pub(crate) fn pop(&mut self) -> Option<Parcel<M>> {
        match self {
            Self::Channel(receiver) => receiver.try_recv().ok(),
            Self::Ring(ring) => ring.pop(),
        }
    }

    /// Lets nothing more in. What is in it still comes out.
    pub(crate) fn close(&mut self) {
        match self {
            Self::Channel(receiver) => receiver.close(),
            Self::Ring(ring) => ring.close(),
        }
    }

    /// Takes all that is in a closed queue. Gives back the channel if there are senders that have a place in it and have
    /// not put their item there; a ring has no places.
    pub(crate) fn empty(self, mut take: impl FnMut(Parcel<M>)) -> Option<Receiver<Parcel<M>>> {
        match self {
            Self::Channel(mut receiver) => loop {
                match receiver.try_recv() {
                    Ok(item) => take(item),
                    Err(TryRecvError::Disconnected) => break None,
                    Err(TryRecvError::Empty) => break Some(receiver),
                }
            },
            Self::Ring(ring) => {
                while let Some(item) = ring.pop() {
                    take(item);
                }
                None
            }
        }
    }
}
