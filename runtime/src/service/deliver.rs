//! Takes a request off the wire into the same mailbox as a local call's: the same enum, the same dispatch.
//!
//! Invariant: it never waits, and always answers a request that wants a reply.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{CallError, ChainLink};
use crate::event::{DeadLetterReason, Phase};
use crate::id::MethodId;
use crate::port::Link;
use crate::proto::frame::{Request, RequestHead};
use crate::service::chain::{Chain, Circle};
use crate::service::context::Caller;
use crate::service::dispatch::panic_message;
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Decoder, Envelope, Message, Meta, Method, WireMessage, signature_salt};
use crate::service::reply::ReplyPath;

/// An instance that can be reached over the network.
pub(crate) trait Deliver: Send + Sync + fmt::Debug {
    /// Takes a request in.
    fn deliver(&self, link: &Arc<Link>, request: Request, now: Instant);
}

/// How little time a request has left for the clock to be read once more after its arguments were.
const HURRIED: Duration = Duration::from_secs(10);

/// Makes the erased form of an instance whose messages can cross the wire.
pub(crate) fn reachable<M: WireMessage>(local: &Arc<Local<M>>) -> Arc<dyn Deliver> {
    Arc::new(Reachable { local: Arc::clone(local), salt: signature_salt::<M>() })
}

struct Reachable<M> {
    local: Arc<Local<M>>,
    salt: u32,
}

impl<M> fmt::Debug for Reachable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reachable").field(&self.local).finish()
    }
}

impl<M: WireMessage> Deliver for Reachable<M> {
    fn deliver(&self, link: &Arc<Link>, request: Request, now: Instant) {
        let Request { head, payload } = request;
        let answer = Answer { link, head: &head, local: &self.local };
        let Some(method) = self.method(head.method) else {
            return answer.refuse(&self.unknown(head.method), DeadLetterReason::Undecodable);
        };
        let path = head.wants_reply.then(|| (Arc::clone(link), head.id));
        // A `Deserialize` of the user's may panic: that is one request's matter, not the connection's.
        let decode = || M::decode(head.method.name, Decoder::new(&payload), ReplyPath(path));
        let message = match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(message)) => message,
            Ok(Err(error)) => {
                let detail = format!("the arguments of `{}`: {error}", name::<M>(method));
                return answer.refuse(&CallError::Codec(detail.into()), DeadLetterReason::Undecodable);
            }
            Err(panic) => {
                let text = panic_message(&*panic);
                let detail =
                    format!("the arguments of `{}` panicked in `Deserialize`: {text}", name::<M>(method));
                return answer.refuse(&CallError::Codec(detail.into()), DeadLetterReason::Undecodable);
            }
        };
        let chain = Chain::from_wire(head.chain.clone());
        let circle = chain.circle(self.local.address(), method.is_exclusive());
        if head.wants_reply && circle == Circle::Deadlock {
            let callee = ChainLink {
                address: self.local.address().clone(),
                handler: name::<M>(method).into(),
                exclusive: method.is_exclusive(),
            };
            return answer.fail(&CallError::Deadlock(chain.describe(callee)));
        }
        let deadlines = &self.local.host().deadlines;
        let arrived = deadlines.tick(now);
        let deadline = head.remaining.map(|remaining| arrived.after(remaining));
        // Long arguments take their time. Nobody reads the clock for those who have a lot of it.
        if head.remaining.is_some_and(|remaining| remaining <= HURRIED)
            && deadline.is_some_and(|deadline| deadline <= deadlines.now())
        {
            self.local.host().count_expired(Phase::Receive);
            let detail = format!("the deadline of `{}` passed while it was read", name::<M>(method));
            return answer.refuse(&CallError::Expired(detail.into()), DeadLetterReason::Expired);
        }
        if circle == Circle::None
            && let Some(error) = deadline.and_then(|deadline| self.local.hopeless(method, deadline))
        {
            return answer.refuse(&error, DeadLetterReason::Overloaded);
        }
        let meta = Meta { deadline, chain, caller: Caller::Peer(Arc::clone(link)) };
        let envelope = Envelope { message, meta };
        let taken = if head.wants_reply && circle == Circle::Reentrant {
            self.local.push_reentrant(envelope)
        } else {
            self.local.try_send(envelope)
        };
        match taken {
            Ok(()) => {}
            // The answer goes first: what the dropped message answers then comes too late.
            Err(Refused::Full(_envelope)) => {
                answer.refuse(&self.local.full(), DeadLetterReason::Overloaded);
            }
            Err(Refused::Closed(_envelope)) => {
                answer.refuse(&self.local.core().stopped_error(), DeadLetterReason::Stopped);
            }
        }
    }
}

impl<M: WireMessage> Reachable<M> {
    fn method(&self, id: MethodId) -> Option<&'static Method> {
        M::METHODS.iter().find(|method| {
            let own = method.id();
            own.name == id.name && own.signature ^ self.salt == id.signature
        })
    }

    /// Why there is no such method: it never was, or its signature differs.
    fn unknown(&self, id: MethodId) -> CallError {
        let same_name = M::METHODS.iter().find(|method| method.id().name == id.name);
        let detail = match same_name {
            Some(method) => format!(
                "`{}` at {} has another signature than its caller expects",
                name::<M>(method),
                self.local.address()
            ),
            None => {
                format!("`{}` at {} has no such method ({:08x})", M::INTERFACE, self.local.address(), id.name)
            }
        };
        CallError::Incompatible(detail.into())
    }
}

/// The way back for a request that is not taken in.
struct Answer<'a, M> {
    link: &'a Arc<Link>,
    head: &'a RequestHead,
    local: &'a Local<M>,
}

impl<M: Message> Answer<'_, M> {
    fn refuse(&self, error: &CallError, reason: DeadLetterReason) {
        let known = M::METHODS.iter().find(|method| method.id().name == self.head.method.name);
        let handler =
            known.map_or_else(|| format!("{}.{:08x}", M::INTERFACE, self.head.method.name), |m| name::<M>(m));
        self.local.host().dead_letter(handler, self.head.wants_reply, reason);
        self.fail(error);
    }

    fn fail(&self, error: &CallError) {
        if self.head.wants_reply {
            self.link.fail(self.head.id, error);
        }
    }
}

fn name<M: Message>(method: &Method) -> String {
    format!("{}.{}", M::INTERFACE, method.name())
}
