//! The end of a message that takes the reply.
//!
//! Invariant: whoever waits is always answered: a reply that is dropped says so.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::CallError;
use crate::id::RequestId;
use crate::port::Link;
use crate::proto::codec::{CodecError, Encoder};
use crate::service::message::Wire;
use crate::service::spoken::{self, TextAnswer, TextPath};

/// Where a handler's value goes: to a caller in this process, over a connection, or nowhere (for a send).
///
/// A `Reply` that is dropped answers `NoReply` at once; one that is dropped before its message began answers `Stopped`.
pub struct Reply<T> {
    end: End<T>,
}

/// `begun`: whether a handler may have begun with the message. It is in here for the sake of the size: every message has
/// a reply.
enum End<T> {
    Nobody,
    Local { sender: oneshot::Sender<Result<T, CallError>>, begun: bool },
    Remote { link: Arc<Link>, id: RequestId, encode: Encode<T>, begun: bool },
    Text { sender: TextSender, write: fn(&T) -> TextAnswer, begun: bool },
}

type TextSender = oneshot::Sender<TextAnswer>;

type Encode<T> = fn(&T, &mut Encoder<'_>) -> Result<(), CodecError>;

/// The way back over a connection to the caller of one request; none for a send.
#[derive(Debug, Clone)]
pub struct ReplyPath(pub(crate) Option<(Arc<Link>, RequestId)>);

impl<T> Reply<T> {
    /// A reply for which nobody waits.
    pub const fn none() -> Self {
        Self { end: End::Nobody }
    }

    /// A reply that goes back over a connection, written by `encode`.
    pub fn remote(path: ReplyPath, encode: fn(&T, &mut Encoder<'_>) -> Result<(), CodecError>) -> Self {
        let end = match path.0 {
            Some((link, id)) => End::Remote { link, id, encode, begun: false },
            None => End::Nobody,
        };
        Self { end }
    }

    /// A reply that is written as JSON.
    pub fn text(path: TextPath) -> Self
    where
        T: Wire,
    {
        let end = match path.0 {
            Some(sender) => End::Text { sender, write: spoken::write, begun: false },
            None => End::Nobody,
        };
        Self { end }
    }

    /// A reply to a caller in this process.
    pub(crate) fn local(sender: oneshot::Sender<Result<T, CallError>>) -> Self {
        Self { end: End::Local { sender, begun: false } }
    }

    /// Answers. A caller that no longer waits makes this a no-op.
    pub fn send(self, value: T) {
        let _heard = self.answer(value);
    }

    /// Answers. `false` if a caller waited once and has given up.
    #[inline]
    pub(crate) fn answer(mut self, value: T) -> bool {
        match self.take() {
            End::Nobody => true,
            End::Local { sender, .. } => sender.send(Ok(value)).is_ok(),
            End::Remote { link, id, encode, .. } => link.reply(id, &|out| encode(&value, out)),
            End::Text { sender, write, .. } => !sender.is_closed() && sender.send(write(&value)).is_ok(),
        }
    }

    /// Answers with an error of delivery, as the framework does for a handler that cannot. Once the handler has begun, an
    /// error that says that it did not run becomes `NoReply`: the caller would make the call again elsewhere.
    pub fn fail(mut self, error: CallError) {
        self.answer_error(if self.end.begun() && !error.may_have_run() {
            CallError::NoReply(format!("the handler had begun, and failed with: {error}").into())
        } else {
            error
        });
    }

    /// Whether nobody waits for the value: it is a send, or the caller gave up.
    pub fn is_closed(&self) -> bool {
        match &self.end {
            End::Nobody => true,
            End::Local { sender, .. } => sender.is_closed(),
            End::Remote { link, id, .. } => link.is_cancelled(*id),
            End::Text { sender, .. } => sender.is_closed(),
        }
    }

    /// Answers nobody: the caller has gone.
    pub(crate) fn dismiss(mut self) {
        if let End::Remote { link, id, .. } = self.take() {
            link.finish_inbound(id);
        }
    }

    /// Notes that the handler begins now.
    pub(crate) fn begin(&mut self) {
        match &mut self.end {
            End::Nobody => {}
            End::Local { begun, .. } | End::Remote { begun, .. } | End::Text { begun, .. } => *begun = true,
        }
    }

    /// Whether a caller waited and has given up; never for a send.
    pub(crate) fn is_abandoned(&self) -> bool {
        !matches!(self.end, End::Nobody) && self.is_closed()
    }

    /// Ready when the caller gives up; never for a send.
    pub(crate) fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.end {
            End::Nobody => Poll::Pending,
            End::Local { sender, .. } => sender.poll_closed(cx),
            End::Remote { link, id, .. } => link.poll_cancelled(*id, cx),
            End::Text { sender, .. } => sender.poll_closed(cx),
        }
    }

    fn answer_error(&mut self, error: CallError) {
        match self.take() {
            End::Nobody => {}
            End::Local { sender, .. } => drop(sender.send(Err(error))),
            End::Remote { link, id, .. } => link.fail(id, &error),
            End::Text { sender, .. } => drop(sender.send(Err(error))),
        }
    }

    fn take(&mut self) -> End<T> {
        std::mem::replace(&mut self.end, End::Nobody)
    }
}

impl<T> End<T> {
    fn begun(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::Local { begun, .. } | Self::Remote { begun, .. } | Self::Text { begun, .. } => *begun,
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if matches!(self.end, End::Nobody) {
            return;
        }
        self.answer_error(if self.end.begun() {
            CallError::NoReply("the message was dropped without an answer".into())
        } else {
            CallError::Stopped("the instance ended before the message began".into())
        });
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.end {
            End::Nobody => "Reply(nobody)",
            End::Local { .. } => "Reply(local)",
            End::Remote { .. } => "Reply(remote)",
            End::Text { .. } => "Reply(text)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(begun: bool, error: CallError) -> CallError {
        let (sender, mut receiver) = oneshot::channel::<Result<(), CallError>>();
        let mut reply = Reply::local(sender);
        if begun {
            reply.begin();
        }
        reply.fail(error);
        receiver.try_recv().unwrap().unwrap_err()
    }

    #[test]
    fn a_handler_that_has_begun_is_never_said_not_to_have_run() {
        let (stopped, panicked) = (CallError::Stopped("a".into()), CallError::Panicked("b".into()));
        assert_eq!(told(false, stopped.clone()), stopped);
        assert!(told(true, stopped).may_have_run());
        assert_eq!(told(true, panicked.clone()), panicked);
    }
}
