//! Turns the signature of a method into a message, and says what keeps it from being one.
//!
//! It looks at one method at a time and never at its body.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, GenericParam, Meta, Pat, PatType, ReceiverKind, ReturnType, Safety, Signature, Type,
};

use super::types::{self, Place};
use super::{Argument, Method, Receiver, StreamReply, streams};
use crate::errors::Errors;
use crate::names;
use crate::parse::MethodItem;

/// What a method's signature may refer to.
pub(crate) struct Owner<'a> {
    /// What `Self` stands for; `None` in a contract, where it stands for nothing that a client could know.
    pub(crate) self_ty: Option<&'a TokenStream>,
    /// Whether the service is `local`.
    pub(crate) local: bool,
    /// The path of the runtime crate.
    pub(crate) krate: &'a TokenStream,
}

/// The message that the method is, unless something keeps it from being one.
pub(crate) fn lower(item: &MethodItem, owner: &Owner<'_>, errors: &mut Errors) -> Option<Method> {
    let before = errors.count();
    let sig = &item.sig;
    check_form(sig, errors);
    let receiver = receiver(sig, errors);
    let (context, arguments) = arguments(sig, owner, errors);
    let Reply { ty: reply, spelled, stream } = reply(sig, owner, errors);
    if errors.count() > before {
        return None;
    }
    Some(Method {
        name: sig.ident.clone(),
        variant: names::variant(&sig.ident),
        docs: attributes(&item.attrs, "doc"),
        says: texts(&item.attrs),
        cfgs: attributes(&item.attrs, "cfg"),
        deprecated: attributes(&item.attrs, "deprecated"),
        receiver: receiver?,
        asynchronous: sig.asyncness.is_some(),
        context,
        name_id: names::name_id(&names::spoken(&sig.ident)),
        signature_id: names::signature_id(arguments.iter().map(|argument| &argument.ty), &spelled),
        arguments,
        reply,
        spelled: names::shown(spelled),
        stream,
    })
}

/// The attributes called `name`.
pub(crate) fn attributes(attrs: &[Attribute], name: &str) -> TokenStream {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).map(ToTokens::to_token_stream).collect()
}

/// What the `#[doc]` attributes say.
fn texts(attrs: &[Attribute]) -> Vec<TokenStream> {
    let text = |attr: &Attribute| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => Some(meta.value.to_token_stream()),
        _ => None,
    };
    attrs.iter().filter_map(text).collect()
}

/// Tells whether the function has a receiver, so that it is a method.
pub(crate) fn has_receiver(sig: &Signature) -> bool {
    matches!(sig.inputs.first(), Some(FnArg::Receiver(_)))
}

/// Reports what a message must not be, whatever its arguments are.
fn check_form(sig: &Signature, errors: &mut Errors) {
    if let Safety::Unsafe(token) = &sig.safety {
        errors.on(token, "remove `unsafe`: whoever has the handle may call a message");
    }
    if let Some(abi) = &sig.abi {
        errors.on(abi, "remove `extern`: a message is called through its handle and never by its ABI");
    }
    if let Some(variadic) = &sig.variadic {
        errors.on(variadic, "take a `Vec<T>`: a message has a fixed list of arguments");
    }
    for param in &sig.generics.params {
        match param {
            GenericParam::Lifetime(lifetime) => {
                errors.on(lifetime, "take and return owned types: a message outlives the borrow of its caller");
            }
            other => errors.on(
                other,
                "name one concrete type, or move the parameter to the service, as in `impl<T> Cache<T>`: a message \
                 has no parameters of its own",
            ),
        }
    }
    if let Some(clause) = sig.generics.where_clause.as_ref().filter(|_| sig.generics.params.is_empty()) {
        errors.on(clause, "move the bound to the service itself: a message has no `where` clause of its own");
    }
}

fn receiver(sig: &Signature, errors: &mut Errors) -> Option<Receiver> {
    let Some(FnArg::Receiver(receiver)) = sig.inputs.first() else {
        errors.on(
            &sig.ident,
            "add `&self` or `&mut self`: each method of a contract is a message to an instance",
        );
        return None;
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, Some(_)) => Some(Receiver::Exclusive),
        ReceiverKind::Reference(_, _, None) => Some(Receiver::Shared),
        ReceiverKind::Value => {
            errors.on(
                receiver,
                "write `&mut self` (runs alone) or `&self` (runs beside others): a message cannot consume the \
                 service; `Context::stop` ends an instance",
            );
            None
        }
        _ => {
            errors.on(
                receiver,
                "write `&mut self` (runs alone) or `&self` (runs beside others): the framework holds the service \
                 itself and has no other pointer to give",
            );
            None
        }
    }
}

fn arguments(sig: &Signature, owner: &Owner<'_>, errors: &mut Errors) -> (bool, Vec<Argument>) {
    let mut context = false;
    let mut arguments = Vec::new();
    let typed = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    for (position, input) in typed.enumerate() {
        match types::context(&input.ty) {
            Some(true) => errors.on(&input.ty, "write `&Context`: the context is shared"),
            Some(false) if position > 0 => {
                errors.on(
                    input,
                    "make the `&Context` the first parameter after `self`: the framework fills it in",
                );
            }
            Some(false) => context = true,
            None => arguments.extend(argument(input, owner, errors)),
        }
    }
    if let Some(extra) = sig.inputs.iter().nth(1 + usize::from(context) + MAX_ARGUMENTS) {
        let message = format!("group arguments in a struct: a message has at most {MAX_ARGUMENTS}");
        errors.on(extra, message);
    }
    (context, arguments)
}

fn argument(input: &PatType, owner: &Owner<'_>, errors: &mut Errors) -> Option<Argument> {
    types::check(&input.ty, Place::Argument, owner.local, errors);
    if let Some(attr) = input.attrs.first() {
        errors.on(attr, "put the attribute on the method: an argument of a message has none");
    }
    let name = argument_name(input, errors)?;
    Some(Argument { name, ty: type_tokens(input.ty.to_token_stream(), owner, errors) })
}

fn argument_name(input: &PatType, errors: &mut Errors) -> Option<Ident> {
    let shown = names::shown(input.ty.to_token_stream());
    match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => return Some(pat.ident.clone()),
        Pat::Wild(wild) => {
            errors.on(wild, format!("write `_unused: {shown}`: the name becomes a field of the message"));
        }
        other => errors.on(
            other,
            format!(
                "write one name, as in `value: {shown}`, and take it apart in the body: it is a field's name"
            ),
        ),
    }
    None
}

/// What a method gives back.
struct Reply {
    /// The type that a caller gets.
    ty: TokenStream,
    /// As it is spelled, for the wire id.
    spelled: TokenStream,
    stream: Option<StreamReply>,
}

fn reply(sig: &Signature, owner: &Owner<'_>, errors: &mut Errors) -> Reply {
    let ReturnType::Type(_, ty) = &sig.output else {
        return Reply { ty: quote!(()), spelled: quote!(()), stream: None };
    };
    let mut ty = (**ty).clone();
    let stream = streams::replace(&mut ty);
    types::check(&ty, Place::Reply, owner.local, errors);
    let spelled = type_tokens(ty.to_token_stream(), owner, errors);
    let Some((place, item)) = stream else { return Reply { ty: spelled.clone(), spelled, stream: None } };
    let again = |ty: Type| type_tokens(ty.into_token_stream(), owner, &mut Errors::default()); // said already
    let stream = Some(StreamReply { place, item: again(item) });
    Reply { ty: again(streams::qualified(ty, place, owner.krate)), spelled, stream }
}

/// The type's tokens, with `Self` replaced by what it stands for.
fn type_tokens(ty: TokenStream, owner: &Owner<'_>, errors: &mut Errors) -> TokenStream {
    if let Some(self_ty) = owner.self_ty {
        return names::without_self(ty, self_ty);
    }
    if let Some(span) = self_span(&ty) {
        errors.at(
            span,
            "name a concrete type: a client of the contract does not know which type implements it, so `Self` \
             cannot be in a message",
        );
    }
    ty
}

fn self_span(tokens: &TokenStream) -> Option<Span> {
    tokens.clone().into_iter().find_map(|token| match token {
        proc_macro2::TokenTree::Ident(ident) if ident == "Self" => Some(ident.span()),
        proc_macro2::TokenTree::Group(group) => self_span(&group.stream()),
        _ => None,
    })
}

/// The place of a signature's reply type, or of its name when it has none.
pub(crate) fn reply_span(sig: &Signature) -> Span {
    match &sig.output {
        ReturnType::Default => sig.ident.span(),
        ReturnType::Type(_, ty) => ty.span(),
    }
}

/// Arguments travel as one tuple, and serde's tuples end at 16.
const MAX_ARGUMENTS: usize = 16;
