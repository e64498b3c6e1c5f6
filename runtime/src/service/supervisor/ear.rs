//! What a supervisor listens to: the lives of its children, and those who add some.
//!
//! Invariant: an ear hears one thing, and is gone.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::StartError;
use crate::policy::restart::Key;
use crate::service::life::Ended;

/// Listens to one thing.
pub(super) enum Ear {
    /// Whether a life is up, and where its end will be heard.
    Start(Key, oneshot::Receiver<Result<(), StartError>>, Option<oneshot::Receiver<Ended>>),
    /// The end of a life.
    End(Key, oneshot::Receiver<Ended>),
    /// A child that waits for the life of this number.
    Wait(Key, u64, oneshot::Receiver<()>),
    /// Whether an addition stays.
    Stay(u64, oneshot::Receiver<()>),
}

/// What was heard.
pub(super) enum Heard {
    /// A life is up or not (`Err(None)`: it ended before it could say why), and where its end will be heard.
    Started(Key, Result<(), Option<StartError>>, oneshot::Receiver<Ended>),
    /// A life is over; `None` if no other can follow.
    Ended(Key, Option<Ended>),
    /// A child does not wait any more for the life of this number.
    Left(Key, u64),
    /// Who asked for an addition has taken it, or has gone.
    Stays(u64, bool),
}

impl Future for Ear {
    type Output = Heard;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Heard> {
        match &mut *self {
            Self::Start(key, started, ended) => Pin::new(started).poll(cx).map(|heard| {
                let result = heard.map_or(Err(None), |result| result.map_err(Some));
                // Polled to its end once: the receiver is still there.
                let ended = ended.take().unwrap_or_else(|| oneshot::channel().1);
                Heard::Started(*key, result, ended)
            }),
            Self::End(key, ended) => Pin::new(ended).poll(cx).map(|heard| Heard::Ended(*key, heard.ok())),
            Self::Wait(key, life, waits) => Pin::new(waits).poll(cx).map(|_| Heard::Left(*key, *life)),
            Self::Stay(addition, stay) => {
                Pin::new(stay).poll(cx).map(|heard| Heard::Stays(*addition, heard.is_ok()))
            }
        }
    }
}
