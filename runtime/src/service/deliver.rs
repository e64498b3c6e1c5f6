//! Takes a request off the wire into the same mailbox as a local call's: the same enum, the same dispatch.
//!
//! Invariant: it never waits, and always answers a request that wants a reply.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::error::CallError;
use crate::event::{DeadLetterReason, Down, Phase};
use crate::id::MethodId;
use crate::port::{Intake, Link, WatchId};
use crate::proto::frame::{Request, RequestHead};
use crate::service::ambient;
use crate::service::by_name::{self, ByName};
use crate::service::chain::{Chain, Circle};
use crate::service::context::Caller;
use crate::service::dispatch::panic_message;
use crate::service::mailbox::{Local, Refused};
use crate::service::message::{Envelope, Message, Meta, Method, WireMessage, signature_salt, without_paths};
use crate::service::outbound::deadlock;
use crate::service::parking::Parking;
use crate::service::payload::Decoder;
use crate::service::reply::ReplyPath;
use crate::service::spans::{self, Origin, Trace};
use crate::service::spoken::TextAnswer;
use crate::service::tap::{self, Show};

/// An instance that can be reached over the network.
pub(crate) trait Deliver: Send + Sync + fmt::Debug {
    /// Takes a request in.
    fn deliver(self: Arc<Self>, link: &Arc<Link>, request: Request, now: Instant) -> Intake;

    /// Lets the end of an instance of a peer wait behind what waits of that peer. Gives it back if nothing does.
    fn hold_back(&self, watch: WatchId, down: Down) -> Option<Down>;

    /// Makes a call, or a send, by the name of its method.
    fn by_name(self: Arc<Self>, call: ByName) -> BoxFuture<'static, TextAnswer>;

    /// The names of a generic service's type arguments.
    fn type_arguments(&self) -> Vec<String>;

    /// How its messages are shown.
    fn show(&self) -> Show;
}

/// How little time a request has left for the clock to be read once more after its arguments were.
const HURRIED: Duration = Duration::from_secs(10);

/// From how many bytes on arguments are not read by the connection's driver: others wait for that one.
const LONG: usize = 64 * 1024;

/// Makes the erased form of an instance whose messages can cross the wire.
pub(crate) fn reachable<M: WireMessage>(local: &Arc<Local<M>>) -> Arc<dyn Deliver> {
    let parked = Parking::default();
    Arc::new(Reachable { local: Arc::clone(local), salt: signature_salt::<M>(), parked })
}

/// An instance as the connections see it.
pub(super) struct Reachable<M> {
    pub(super) local: Arc<Local<M>>,
    salt: u32,
    /// What has come and found no room.
    pub(super) parked: Parking<M>,
}

impl<M> fmt::Debug for Reachable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reachable").field(&self.local).finish()
    }
}

impl<M: WireMessage> Deliver for Reachable<M> {
    fn deliver(self: Arc<Self>, link: &Arc<Link>, request: Request, now: Instant) -> Intake {
        let head = &request.head;
        let answer = Answer { link, head, local: &self.local };
        let Some(method) = self.method(head.method) else {
            answer.refuse(&self.unknown(head.method), DeadLetterReason::Undecodable);
            return Intake::Done;
        };
        let chain = Chain::from_wire(head.chain.clone());
        let circle = chain.circle(self.local.address(), method.is_exclusive());
        if head.wants_reply && circle == Circle::Deadlock {
            answer.fail(&deadlock::<M>(&chain, self.local.address(), method));
            return Intake::Done;
        }
        let is_reentrant = head.wants_reply && circle == Circle::Reentrant;
        // What its sender takes for re-entrant came without credit. Where that is a mistake, or a lie, nobody counts how much
        // of it would wait.
        let (is_long, never_waits) =
            (request.payload.len() > LONG && !head.is_ahead, head.is_impatient || head.is_ahead);
        let arrival = Arrival { link: Arc::clone(link), request, method, chain, now };
        if !is_reentrant && link.has_flow() {
            let others_wait = self.parked.has(link.peer());
            if others_wait && never_waits {
                arrival
                    .answer(&self.local)
                    .refuse(&self.local.full(arrival.method), DeadLetterReason::Overloaded);
                return Intake::Done;
            }
            if is_long || others_wait {
                self.park(arrival.into());
                return Intake::Waits;
            }
        }
        let Some(envelope) = self.read(&arrival) else { return Intake::Done };
        let taken =
            if is_reentrant { self.local.push_reentrant(envelope) } else { self.local.try_send(envelope) };
        match taken {
            Ok(()) => Intake::Done,
            Err(Refused::Full(envelope))
                if !is_reentrant && !never_waits && link.has_flow() && self.local.waits_for_room() =>
            {
                self.park(arrival.with(envelope));
                Intake::Waits
            }
            Err(refused) => {
                let is_closed = matches!(refused, Refused::Closed(_));
                self.refuse(&arrival, refused);
                if is_closed { Intake::Gone } else { Intake::Done }
            }
        }
    }

    fn hold_back(&self, watch: WatchId, down: Down) -> Option<Down> {
        self.park_end(watch, down)
    }

    fn by_name(self: Arc<Self>, call: ByName) -> BoxFuture<'static, TextAnswer> {
        Box::pin(by_name::call(Arc::clone(&self.local), call))
    }

    fn type_arguments(&self) -> Vec<String> {
        M::type_arguments().iter().map(|name| without_paths(name())).collect()
    }

    fn show(&self) -> Show {
        tap::show::<M>()
    }
}

/// A request that has come for a method that there is.
pub(super) struct Arrival {
    pub(super) link: Arc<Link>,
    pub(super) request: Request,
    method: &'static Method,
    chain: Chain,
    now: Instant,
}

impl Arrival {
    fn answer<'a, M>(&'a self, local: &'a Local<M>) -> Answer<'a, M> {
        Answer { link: &self.link, head: &self.request.head, local }
    }

    /// `service.method`, for errors.
    pub(super) fn handler<M: Message>(&self) -> String {
        name::<M>(self.method)
    }
}

impl<M: WireMessage> Reachable<M> {
    /// Reads the arguments. `None` if the request is refused, and answered.
    pub(super) fn read(&self, arrival: &Arrival) -> Option<Envelope<M>> {
        let Arrival { link, request, method, chain, now } = arrival;
        let head = &request.head;
        let answer = Answer { link, head, local: &self.local };
        let path = head.wants_reply.then(|| (Arc::clone(link), head.id));
        // A `Deserialize` of the user's may panic: that is one request's matter, not the connection's.
        let decode = || {
            let decode = || M::decode(head.method.name, Decoder::new(&request.payload), ReplyPath(path));
            ambient::reading(self.local.host(), Some(link), decode)
        };
        let message = match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(Ok(message)) => message,
            Ok(Err(error)) => {
                let detail = format!("the arguments of `{}`: {error}", name::<M>(method));
                answer.refuse(&CallError::Codec(detail.into()), DeadLetterReason::Undecodable);
                return None;
            }
            Err(panic) => {
                let text = panic_message(&*panic);
                let detail =
                    format!("the arguments of `{}` panicked in `Deserialize`: {text}", name::<M>(method));
                answer.refuse(&CallError::Codec(detail.into()), DeadLetterReason::Undecodable);
                return None;
            }
        };
        let deadlines = &self.local.host().deadlines;
        let deadline = head.remaining.map(|remaining| deadlines.tick(*now).after(remaining));
        // Long arguments take their time. Nobody reads the clock for those who have a lot of it.
        if head.remaining.is_some_and(|remaining| remaining <= HURRIED)
            && deadline.is_some_and(|deadline| deadline <= deadlines.now())
        {
            self.local.host().count_expired(Phase::Receive);
            let detail = format!("the deadline of `{}` passed while it was read", name::<M>(method));
            answer.refuse(&CallError::Expired(detail.into()), DeadLetterReason::Expired);
            return None;
        }
        let in_circle = chain.circle(self.local.address(), method.is_exclusive()) != Circle::None;
        if !in_circle && let Some(error) = deadline.and_then(|deadline| self.local.hopeless(method, deadline))
        {
            answer.refuse(&error, DeadLetterReason::Overloaded);
            return None;
        }
        let chain = if spans::are_wanted(self.local.host()) {
            let origin = Origin::of_peer(head.trace, link.has_trace());
            chain.traced(Trace::Message(origin, deadlines.tick(*now)))
        } else {
            chain.clone()
        };
        let meta = Meta { deadline, chain, caller: Caller::Peer(Arc::clone(link)) };
        Some(Envelope { message, meta })
    }

    /// Answers a request that its mailbox did not take.
    pub(super) fn refuse(&self, arrival: &Arrival, refused: Refused<M>) {
        let answer = arrival.answer(&self.local);
        // The answer goes first: what the dropped message answers then comes too late.
        match refused {
            Refused::Full(_envelope) => {
                answer.refuse(&self.local.full(arrival.method), DeadLetterReason::Overloaded);
            }
            Refused::Closed(_envelope) => self.refuse_stopped(arrival),
        }
    }

    /// Answers a request whose instance has stopped.
    pub(super) fn refuse_stopped(&self, arrival: &Arrival) {
        let answer = arrival.answer(&self.local);
        answer.refuse(&self.local.core().stopped_error(), DeadLetterReason::Stopped);
    }

    fn method(&self, id: MethodId) -> Option<&'static Method> {
        M::METHODS.iter().find(|method| method.id().salted(self.salt) == id)
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
