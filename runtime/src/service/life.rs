//! What a supervisor and what it supervises tell each other: when a life is up, how it ended, and that another begins.
//!
//! Both ends hold oneshots, so that each word is said once, and the end of either is seen by the other: a supervisor that
//! drops `next` says that no other life follows; a child that drops `ended` says that none can.

use tokio::sync::oneshot;

use crate::error::StartError;
use crate::event::StopReason;

/// The word that begins a life.
#[derive(Debug)]
pub(crate) struct NextLife {
    /// Told whether it is up.
    pub(crate) started: oneshot::Sender<Result<(), StartError>>,
    /// Told when it is over.
    pub(crate) ended: oneshot::Sender<Ended>,
}

/// The end of a life.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reason: StopReason,
    /// Where the child waits for the word.
    pub(crate) next: oneshot::Sender<NextLife>,
    /// Ends when the child does not wait any more: because the word was heard, or because it is gone for good.
    pub(crate) waits: oneshot::Receiver<()>,
}

/// A life, as its supervisor hears of it.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) started: oneshot::Receiver<Result<(), StartError>>,
    pub(crate) ended: oneshot::Receiver<Ended>,
}

/// Makes both sides of a life.
pub(crate) fn life() -> (NextLife, Life) {
    let (started, hears_started) = oneshot::channel();
    let (ended, hears_ended) = oneshot::channel();
    (NextLife { started, ended }, Life { started: hears_started, ended: hears_ended })
}
