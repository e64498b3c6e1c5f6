//! What the macro knows about an item, in its own words: the types of `syn` stop here.
//!
//! The data stand in this file; each sibling turns one part of the syntax into them and says what is wrong with that
//! part alone. What is wrong between parts is [`crate::validate`]'s.

mod generics;
mod hook;
mod item;
mod method;
mod streams;
mod types;

use proc_macro2::{Ident, Span, TokenStream};

use crate::args::Limit;

pub(crate) use generics::Generics;
pub(crate) use item::lower;
pub(crate) use streams::{StreamPlace, StreamReply};

/// An item under `#[service]`.
pub(crate) enum Model {
    /// An inherent `impl`.
    Service(Service),
    /// A `trait`.
    Contract(Contract),
    /// An `impl` of a contract.
    Implementation(Implementation),
    /// A `struct`.
    Struct(Struct),
}

/// The messages of a service or of a contract.
pub(crate) struct Interface {
    /// The path of the runtime crate.
    pub(crate) krate: TokenStream,
    /// The visibility of what is generated.
    pub(crate) vis: TokenStream,
    /// The type or the trait whose messages they are.
    pub(crate) owner: Ident,
    /// The message enum's name.
    pub(crate) message: Ident,
    /// The handle's name.
    pub(crate) handle: Ident,
    /// The owner's parameters.
    pub(crate) generics: Generics,
    /// The messages.
    pub(crate) methods: Vec<Method>,
    /// Whether arguments and replies stay inside the process.
    pub(crate) local: bool,
}

/// A method that is a message.
pub(crate) struct Method {
    /// Its name.
    pub(crate) name: Ident,
    /// Its variant in the message enum.
    pub(crate) variant: Ident,
    /// Its `#[doc]` attributes.
    pub(crate) docs: TokenStream,
    /// The texts of these, each a string literal or a macro that gives one.
    pub(crate) says: Vec<TokenStream>,
    /// Its `#[cfg]` attributes.
    pub(crate) cfgs: TokenStream,
    /// Its `#[deprecated]` attribute.
    pub(crate) deprecated: TokenStream,
    /// How it takes the instance.
    pub(crate) receiver: Receiver,
    /// Whether it is an `async fn`.
    pub(crate) asynchronous: bool,
    /// Whether it takes the `&Context`.
    pub(crate) context: bool,
    /// What a caller gives.
    pub(crate) arguments: Vec<Argument>,
    /// The type of the reply, as a caller gets it.
    pub(crate) reply: TokenStream,
    /// That type as it is spelled, for people.
    pub(crate) spelled: String,
    /// The stream that the method gives, in the reply or as the reply.
    pub(crate) stream: Option<StreamReply>,
    /// The wire id made from its name.
    pub(crate) name_id: u32,
    /// The wire id made from its signature.
    pub(crate) signature_id: u32,
}

/// An argument of a message.
pub(crate) struct Argument {
    /// Its name, which is the name of the variant's field.
    pub(crate) name: Ident,
    /// Its type.
    pub(crate) ty: TokenStream,
}

/// How a method takes its instance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// `&mut self`.
    Exclusive,
    /// `&self`.
    Shared,
}

/// A method that the framework calls itself.
pub(crate) struct Hook {
    /// When it is called.
    pub(crate) kind: HookKind,
    /// Its name.
    pub(crate) name: Ident,
    /// Its `#[cfg]` attributes.
    pub(crate) cfgs: TokenStream,
    /// Whether it is an `async fn`.
    pub(crate) asynchronous: bool,
    /// Whether it takes the `&Context`.
    pub(crate) context: bool,
    /// Where the type of its last parameter stands: a stop's reason or what went down.
    pub(crate) event: Option<Span>,
    /// Where its reply's type stands, or its name.
    pub(crate) reply: Span,
}

/// When a hook is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    /// Before the first message.
    Start,
    /// After the last message.
    Stop,
    /// When something ended that the instance watches.
    Down,
}

/// The settings of a service, as far as they are given.
#[derive(Default)]
pub(crate) struct Settings {
    /// The name under which it is registered.
    pub(crate) name: Option<String>,
    /// The bound of its mailbox.
    pub(crate) mailbox: Option<usize>,
    /// The bound of its `&self` handlers.
    pub(crate) concurrency: Option<usize>,
    /// What happens when the mailbox is full: the variant of the runtime's `Overflow`.
    pub(crate) overflow: Option<&'static str>,
    /// What happens to queued messages at a restart: the variant of the runtime's `Queued`.
    pub(crate) queued: Option<&'static str>,
    /// Whether calls are refused whose deadline cannot be met.
    pub(crate) shed: bool,
    /// After how long a handler is slow.
    pub(crate) slow: Option<Limit>,
    /// After how long a handler is stuck.
    pub(crate) stuck: Option<Limit>,
    /// At how many percent the mailbox is at its high-water mark.
    pub(crate) high_water: Option<u8>,
    /// Where the first of them stands; `None` when there is none.
    pub(crate) span: Option<Span>,
}

/// A service: its messages and what runs them.
pub(crate) struct Service {
    /// Its messages.
    pub(crate) interface: Interface,
    /// The type that runs them.
    pub(crate) self_ty: TokenStream,
    /// Its settings.
    pub(crate) settings: Settings,
    /// Its hooks.
    pub(crate) hooks: Vec<Hook>,
    /// The `impl` as it is emitted.
    pub(crate) original: TokenStream,
}

/// A contract: messages alone.
pub(crate) struct Contract {
    /// Its messages.
    pub(crate) interface: Interface,
    /// The attributes of the trait.
    pub(crate) attrs: TokenStream,
    /// The parameters of the trait as they are declared.
    pub(crate) parameters: TokenStream,
    /// The where clause of the trait.
    pub(crate) where_clause: TokenStream,
    /// The supertraits that the user gave.
    pub(crate) supertraits: Vec<TokenStream>,
    /// What stands in its braces.
    pub(crate) members: Vec<ContractMember>,
}

/// What stands in the braces of a contract.
pub(crate) enum ContractMember {
    /// An `async fn`, which is emitted as one that returns a `Send` future.
    Async(Box<AsyncMethod>),
    /// Anything else, which is emitted as it is.
    Other(TokenStream),
}

/// An `async fn` of a contract.
pub(crate) struct AsyncMethod {
    /// Its attributes.
    pub(crate) attrs: TokenStream,
    /// What stands before the arrow, without `async`.
    pub(crate) head: TokenStream,
    /// The type after the arrow.
    pub(crate) reply: TokenStream,
    /// The where clause.
    pub(crate) where_clause: TokenStream,
    /// The default body, if any.
    pub(crate) body: Option<TokenStream>,
    /// Where its name stands.
    pub(crate) span: Span,
}

/// An implementation of a contract.
pub(crate) struct Implementation {
    /// The path of the runtime crate.
    pub(crate) krate: TokenStream,
    /// The contract's message enum.
    pub(crate) message: TokenStream,
    /// The type that implements it.
    pub(crate) self_ty: TokenStream,
    /// The parameters of the `impl`.
    pub(crate) generics: Generics,
    /// Its settings.
    pub(crate) settings: Settings,
    /// Its hooks.
    pub(crate) hooks: Vec<Hook>,
    /// The `impl` as it is emitted, without the hooks.
    pub(crate) original: TokenStream,
    /// The hooks as they are emitted.
    pub(crate) hook_methods: TokenStream,
}

/// A struct that holds settings.
pub(crate) struct Struct {
    /// The path of the runtime crate.
    pub(crate) krate: TokenStream,
    /// The struct's name.
    pub(crate) ident: Ident,
    /// Its parameters.
    pub(crate) generics: Generics,
    /// Its settings.
    pub(crate) settings: Settings,
    /// The struct as it is emitted.
    pub(crate) original: TokenStream,
}
