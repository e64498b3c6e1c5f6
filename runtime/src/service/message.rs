//! Messages: what the macro generates them from, how they cross the wire, and the envelope in which they travel.
//!
//! Invariant: no task and no queue here; a message is a value.

use std::any::Any;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::event::Down;
use crate::id::MethodId;
use crate::port::WatchId;
use crate::proto::codec::{CodecError, Encoder};
use crate::service::chain::Chain;
use crate::service::context::Caller;
use crate::service::deadlines::Tick;
use crate::service::handle::ServiceHandle;
use crate::service::payload::{DecodeError, Decoder};
use crate::service::reply::ReplyPath;
use crate::service::spoken::{ArgumentError, Arguments, Fields, TextPath};

/// How a method takes its instance, which is the concurrency rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// `&mut self`: runs alone.
    Exclusive,
    /// `&self`: runs beside other `&self` handlers.
    Shared,
}

/// One method of a service, as the macro describes it.
#[derive(Debug)]
pub struct Method {
    name: &'static str,
    id: MethodId,
    receiver: Receiver,
    /// Names and types, as the user wrote them.
    arguments: &'static [(&'static str, &'static str)],
    reply: &'static str,
    streams: bool,
    /// A text a line.
    docs: &'static [&'static str],
}

impl Method {
    /// Describes a method: its name, the hashes of its name and of its signature, and its receiver.
    pub const fn new(name: &'static str, name_hash: u32, signature_hash: u32, receiver: Receiver) -> Self {
        let id = MethodId { name: name_hash, signature: signature_hash };
        Self { name, id, receiver, arguments: &[], reply: "()", streams: false, docs: &[] }
    }

    /// With arguments: their names and types.
    #[must_use]
    pub const fn takes(self, arguments: &'static [(&'static str, &'static str)]) -> Self {
        Self { arguments, ..self }
    }

    /// With a reply of this type.
    #[must_use]
    pub const fn gives(self, reply: &'static str) -> Self {
        Self { reply, ..self }
    }

    /// Its reply is a stream, or holds one.
    #[must_use]
    pub const fn streams(self) -> Self {
        Self { streams: true, ..self }
    }

    /// With documentation, a text a line.
    #[must_use]
    pub const fn says(self, docs: &'static [&'static str]) -> Self {
        Self { docs, ..self }
    }

    pub(crate) fn arguments(&self) -> &'static [(&'static str, &'static str)] {
        self.arguments
    }

    pub(crate) fn reply(&self) -> &'static str {
        self.reply
    }

    pub(crate) fn has_stream(&self) -> bool {
        self.streams
    }

    pub(crate) fn docs(&self) -> &'static [&'static str] {
        self.docs
    }

    /// The method's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The method's number on the wire.
    pub const fn id(&self) -> MethodId {
        self.id
    }

    /// Whether the method takes `&mut self`.
    pub const fn is_exclusive(&self) -> bool {
        matches!(self.receiver, Receiver::Exclusive)
    }
}

/// The messages of one service: an enum that `#[service]` generates, a variant a method.
pub trait Message: Sized + Send + 'static {
    /// The typed handle that speaks these messages.
    type Handle: ServiceHandle<Message = Self>;
    /// The interface's name, by which a lookup checks that both sides mean the same thing.
    const INTERFACE: &'static str;
    /// Every method of the interface.
    const METHODS: &'static [Method];

    /// The method of this message.
    fn method(&self) -> &'static Method;

    /// Answers whoever waits for this message with an error of delivery. For a send it only drops the message.
    fn fail(self, error: CallError);
}

/// Messages that can cross the wire. `#[service(local)]` does not generate this.
#[diagnostic::on_unimplemented(
    message = "the messages of `{Self}` stay inside their process",
    label = "this service is `#[service(local)]`",
    note = "a `local` service can be started with `node.spawn(..)`, but not registered under a name or looked up: \
            remove `local` from its `#[service(..)]`, and let its arguments and replies implement \
            `Serialize` and `Deserialize`"
)]
pub trait WireMessage: Message {
    /// Appends the arguments, as one tuple.
    ///
    /// # Errors
    /// An argument's `Serialize` refused.
    fn encode(&self, out: &mut Encoder<'_>) -> Result<(), CodecError>;

    /// Rebuilds a message from the hash of its method's name and its arguments.
    ///
    /// # Errors
    /// The method is not known, or the arguments do not decode.
    fn decode(method: u32, payload: Decoder<'_>, reply: ReplyPath) -> Result<Self, DecodeError>;

    /// Builds a message from the hash of its method's name and its arguments as JSON.
    ///
    /// # Errors
    /// The method is not known, or an argument is missing or something else.
    fn read(method: u32, arguments: Arguments<'_>, reply: TextPath) -> Result<Self, ArgumentError>;

    /// Shows the arguments, in order.
    fn show(&self, fields: &mut Fields);

    /// The reply as JSON of the method whose name has this hash; `None` if it is none of that method, or cannot be written as JSON.
    fn show_reply(method: u32, reply: &dyn Any) -> Option<String>;

    /// The names of a generic service's type arguments, which are part of its signatures.
    fn type_arguments() -> &'static [fn() -> &'static str] {
        &[]
    }
}

/// What an argument or a reply must be to cross the wire: `Serialize + DeserializeOwned + Send + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument or a reply of a service",
    label = "not `Serialize + DeserializeOwned + Send + 'static`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it, or write `#[service(local)]` for a service \
            that stays inside its process"
)]
pub trait Wire: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Wire for T {}

/// The methods of a service as its callers number them.
pub(crate) fn method_ids<M: WireMessage>() -> Vec<MethodId> {
    let salt = signature_salt::<M>();
    M::METHODS.iter().map(|method| method.id().salted(salt)).collect()
}

/// Folds the names of a generic service's type arguments, without their module paths, into one number: the same
/// service over other types has other signatures. 0 for a service without type parameters.
pub(crate) fn signature_salt<M: WireMessage>() -> u32 {
    let arguments = M::type_arguments();
    if arguments.is_empty() {
        return 0;
    }
    arguments.iter().fold(TYPE_HASH, |hash, argument| fold_type_name(hash, argument()))
}

/// Folds one more type's name, without its module paths, into a hash that began as [`TYPE_HASH`].
pub(crate) fn fold_type_name(hash: u32, type_name: &str) -> u32 {
    let bytes = without_paths(type_name).into_bytes().into_iter().chain([0]);
    bytes.fold(hash, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(FNV_PRIME))
}

/// FNV-1a, 32 bits: <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(crate) const TYPE_HASH: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// `alloc::vec::Vec<core::option::Option<u8>>` becomes `Vec<Option<u8>>`: moving a type must not change a signature.
pub(crate) fn without_paths(type_name: &str) -> String {
    let mut out = String::with_capacity(type_name.len());
    let mut segment = String::new();
    for c in type_name.chars() {
        if c.is_alphanumeric() || c == '_' {
            segment.push(c);
        } else if c == ':' {
            segment.clear();
        } else {
            out.push_str(&segment);
            segment.clear();
            out.push(c);
        }
    }
    out.push_str(&segment);
    out
}

/// What comes through a mailbox. A mailbox has places for 32 items at least, used or not: a box keeps a place as small as a
/// pointer, so that an idle instance is small too, and an item is moved about for the price of one.
pub(crate) type Parcel<M> = Box<Item<M>>;

/// What a parcel holds.
#[derive(Debug)]
pub(crate) enum Item<M> {
    /// A message.
    Envelope(Envelope<M>),
    /// Something that the instance watches has ended.
    Down(WatchId, Box<Down>),
}

impl<M: Message> Item<M> {
    /// Whether it runs alone.
    #[inline]
    pub(crate) fn is_exclusive(&self) -> bool {
        match self {
            Self::Envelope(envelope) => envelope.message.method().is_exclusive(),
            Self::Down(..) => true,
        }
    }
}

impl<M> Item<M> {
    /// When it is too late to begin, if that ever is.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Tick> {
        match self {
            Self::Envelope(envelope) => envelope.meta.deadline,
            Self::Down(..) => None,
        }
    }

    /// Whether it is a message for whose reply nobody waits.
    #[inline]
    pub(crate) fn is_send(&self) -> bool {
        matches!(self, Self::Envelope(envelope) if envelope.meta.deadline.is_none())
    }

    /// Whether it comes from this node.
    #[inline]
    pub(crate) fn is_from_here(&self) -> bool {
        match self {
            Self::Envelope(envelope) => matches!(envelope.meta.caller, Caller::Here),
            Self::Down(..) => true,
        }
    }
}

/// A message on its way to an instance, with what travels beside it.
#[derive(Debug)]
pub(crate) struct Envelope<M> {
    pub(crate) message: M,
    pub(crate) meta: Meta,
}

/// What travels beside a message.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    /// When it is too late to begin. A send has none once it is in the mailbox.
    pub(crate) deadline: Option<Tick>,
    /// The handlers that wait for this message's reply, the nearest first.
    pub(crate) chain: Chain,
    /// Who called.
    pub(crate) caller: Caller,
}

impl Meta {
    /// For a send, of whom nobody waits for a reply: of the chain only its trace goes with it.
    pub(crate) fn of_send(chain: &Chain) -> Self {
        Self { chain: chain.trace_alone(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::{Envelope, Item, Message, without_paths};
    use crate::error::CallError;
    use crate::service::reply::Reply;

    #[skyhold_macros::service(crate = crate)]
    trait Jar<T> {
        fn get(&self) -> T;
        fn put(&mut self, reply: T);
    }

    #[test]
    fn a_message_that_fails_answers_whoever_waits_for_it() {
        let (sender, receiver) = oneshot::channel();
        JarMessage::<u8>::Get { reply: Reply::local(sender) }.fail(CallError::Stopped("drained".into()));
        let answer = receiver.now_or_never().unwrap().unwrap();
        assert!(matches!(answer, Err(CallError::Stopped(_))), "{answer:?}");

        // The argument has the name that the reply would have.
        let (sender, receiver) = oneshot::channel();
        JarMessage::Put { reply: 1_u8, reply_: Reply::local(sender) }.fail(CallError::NoReply("lost".into()));
        let answer = receiver.now_or_never().unwrap().unwrap();
        assert!(matches!(answer, Err(CallError::NoReply(_))), "{answer:?}");
    }

    #[test]
    fn a_send_that_fails_is_dropped() {
        JarMessage::<u8>::Get { reply: Reply::none() }.fail(CallError::Stopped("drained".into()));
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_message_carries_three_words_and_its_reply_four() {
        let word = size_of::<usize>();
        assert_eq!(size_of::<Envelope<[usize; 4]>>(), (4 + 3) * word);
        assert_eq!(size_of::<Item<Reply<u64>>>(), (4 + 3) * word);
        assert_eq!(size_of::<Reply<u64>>(), 4 * word);
    }

    #[test]
    fn a_moved_type_keeps_its_signature() {
        for (name, expected) in [
            ("u8", "u8"),
            ("alloc::string::String", "String"),
            ("alloc::vec::Vec<core::option::Option<my::deep::Type>>", "Vec<Option<Type>>"),
            ("(u8, my::T)", "(u8, T)"),
            ("[my::T; 4]", "[T; 4]"),
        ] {
            assert_eq!(without_paths(name), expected);
        }
    }
}
