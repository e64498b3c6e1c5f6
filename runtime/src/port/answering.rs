//! The link as handlers use it: answers to the peer's requests, and whether these are still wanted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::error::CallError;
use crate::id::{InstanceId, RequestId};
use crate::proto::frame::{self, PutError};
use crate::proto::lanes::Order;

use super::streams::Given;
use super::{Encode, Link};

impl Link {
    /// Answers a request of the peer. `false` if nobody waits for it any more.
    pub(crate) fn reply(&self, id: RequestId, payload: Encode<'_>) -> bool {
        let mut state = self.state();
        let Some(instance) = state.inbound.finish(id) else { return false };
        if !self.is_open() {
            return false;
        }
        // A `Serialize` of the user's may panic: the caller is answered all the same.
        let put = catch_unwind(AssertUnwindSafe(|| {
            self.writing(|| {
                state.lanes.put_reply(instance, |out| frame::put_reply(out, id, self.whole(), payload))
            })
        }));
        let (put, given) = apart(put);
        match put {
            Ok(Ok(())) => {
                state.streams.add(&given);
                self.added(state);
                self.begin_streams(given);
            }
            Ok(Err(PutError::TooLarge { .. })) if self.has_flow => {
                drop(state);
                self.reply_long(id, instance, payload);
            }
            put => {
                drop(state);
                self.fail_to_reply(id, instance, &problem(put));
            }
        }
        true
    }

    /// As [`Link::reply`], for what does not fit in one frame. Not under the lock: it takes as long as it is.
    #[cold]
    fn reply_long(&self, id: RequestId, instance: InstanceId, payload: Encode<'_>) {
        let put = || self.writing(|| frame::long_reply(id, self.limit, payload));
        let (long, given) = apart(catch_unwind(AssertUnwindSafe(put)));
        match long {
            Ok(Ok(message)) => {
                let mut state = self.state();
                if self.is_open() {
                    state.streams.add(&given);
                    state.lanes.put_long(Order::Reply(id), instance, message, None);
                    self.added(state);
                    self.begin_streams(given);
                }
            }
            long => self.fail_to_reply(id, instance, &problem(long)),
        }
    }

    #[cold]
    fn fail_to_reply(&self, id: RequestId, instance: InstanceId, problem: &str) {
        let error = CallError::BadReply(problem.into());
        self.put_answer(instance, |out| frame::put_failure(out, id, &error));
    }

    /// Answers a request of the peer with an error.
    pub(crate) fn fail(&self, id: RequestId, error: &CallError) {
        let finished = self.state().inbound.finish(id);
        if let Some(instance) = finished {
            self.put_answer(instance, |out| frame::put_failure(out, id, error));
        }
    }

    /// Answers a request that was never taken in.
    pub(crate) fn refuse(&self, id: RequestId, instance: InstanceId, error: &CallError) {
        self.put_answer(instance, |out| frame::put_failure(out, id, error));
    }

    /// Notes that a request of the peer needs no answer any more.
    pub(crate) fn finish_inbound(&self, id: RequestId) {
        self.state().inbound.finish(id);
    }

    /// Whether the peer has cancelled a request.
    pub(crate) fn is_cancelled(&self, id: RequestId) -> bool {
        !self.is_open() || (self.any_cancel.load(Ordering::Acquire) && self.state().inbound.is_cancelled(id))
    }

    /// Ready when the peer cancels a request, or the connection ends.
    pub(crate) fn poll_cancelled(&self, id: RequestId, cx: &mut Context<'_>) -> Poll<()> {
        let cancelled = self.state().inbound.register(id, cx.waker());
        if cancelled || !self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A request that waited here has left, into its mailbox or with an answer: the peer may send another.
    pub(crate) fn release(&self, instance: InstanceId, bytes: usize) {
        let mut state = self.state();
        if self.is_open() {
            state.released.push((instance, bytes));
            self.added(state);
        }
    }

    /// An instance has ended, for which requests of the peer waited.
    pub(crate) fn instance_gone(&self, instance: InstanceId) {
        let mut state = self.state();
        if self.is_open() {
            state.gone.push(instance);
            self.added(state);
        }
    }

    fn put_answer(&self, instance: InstanceId, put: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state();
        if !self.is_open() {
            return;
        }
        let put = |out: &mut BytesMut| -> Result<(), std::convert::Infallible> {
            put(out);
            Ok(())
        };
        let Ok(()) = state.lanes.put_reply(instance, put);
        self.added(state);
    }
}

/// What came of writing, and the streams in what was written.
fn apart<T>(written: std::thread::Result<(T, Vec<Given>)>) -> (std::thread::Result<T>, Vec<Given>) {
    match written {
        Ok((written, given)) => (Ok(written), given),
        Err(panic) => (Err(panic), Vec::new()),
    }
}

/// Why a reply could not be written.
fn problem<T>(put: std::thread::Result<Result<T, PutError>>) -> String {
    match put {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the reply's `Serialize` panicked".to_owned(),
    }
}
