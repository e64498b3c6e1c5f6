//! Turns a whole item into its model.
//!
//! It sorts the members into messages, hooks and the rest; the rules for each are in the siblings.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{ItemStruct, Path, ReturnType, Type, Visibility};

use super::method::{self, Owner};
use super::{AsyncMethod, Contract, ContractMember, Generics, Implementation, Interface, Method, Model};
use super::{Service, Settings, Struct, hook, streams, types};
use crate::args::{Args, Setting};
use crate::errors::Errors;
use crate::names;
use crate::parse::{ImplBlock, Item, Member, MethodItem, TraitBlock};

/// The model of the item; `None` when it has no name from which the others could be made.
pub(crate) fn lower(item: Item, args: &Args, errors: &mut Errors) -> Option<Model> {
    match item {
        Item::Impl(mut block) => match block.contract.take() {
            None => service(*block, args, errors).map(Model::Service),
            Some(contract) => implementation(*block, contract, args, errors).map(Model::Implementation),
        },
        Item::Trait(block) => Some(Model::Contract(contract(*block, args, errors))),
        Item::Struct(item) => Some(Model::Struct(structure(*item, args, errors))),
    }
}

fn service(block: ImplBlock, args: &Args, errors: &mut Errors) -> Option<Service> {
    let Some(owner) = type_name(&block.self_ty) else {
        errors.on(&block.self_ty, "write `impl Type`: a service's messages are named after its type");
        return None;
    };
    let generics = Generics::lower(&block.generics, errors);
    let self_ty = block.self_ty.to_token_stream();
    let krate = args.krate();
    let scope = Owner { self_ty: Some(&self_ty), local: args.local.is_some(), krate: &krate };
    let (mut methods, mut hooks) = (Vec::new(), Vec::new());
    let (head, mut members) = split(block);
    for member in &mut members {
        let Member::Method(item) = member else { continue };
        let kinds = hook::take_kinds(item, errors);
        if !kinds.is_empty() {
            hooks.extend(kinds.into_iter().filter_map(|kind| hook::lower(item, kind, errors)));
        } else if is_message(item) {
            let Some(method) = method::lower(item, &scope, errors) else { continue };
            methods.push(method);
            streams::bound(&mut item.sig.output);
        }
    }
    let interface = interface(quote!(pub), owner, generics, methods, args);
    Some(Service {
        interface,
        self_ty,
        settings: settings(args),
        hooks,
        original: quote!(#head { #(#members)* }),
    })
}

fn implementation(
    block: ImplBlock,
    contract: Path,
    args: &Args,
    errors: &mut Errors,
) -> Option<Implementation> {
    let message = message_path(&contract)?;
    let generics = Generics::lower(&block.generics, errors);
    let self_ty = block.self_ty.to_token_stream();
    let mut hooks = Vec::new();
    let mut hook_methods = TokenStream::new();
    let (head, members) = split(ImplBlock { contract: Some(contract), ..block });
    let mut kept = Vec::new();
    for mut member in members {
        let kinds = match &mut member {
            Member::Method(item) => hook::take_kinds(item, errors),
            _ => Vec::new(),
        };
        match &mut member {
            Member::Method(item) if !kinds.is_empty() => {
                hooks.extend(kinds.into_iter().filter_map(|kind| hook::lower(item, kind, errors)));
                member.to_tokens(&mut hook_methods);
            }
            Member::Method(item) => {
                streams::bound(&mut item.sig.output);
                kept.push(member);
            }
            _ => kept.push(member),
        }
    }
    Some(Implementation {
        krate: args.krate(),
        message,
        self_ty,
        generics,
        settings: settings(args),
        hooks,
        original: quote!(#head { #(#kept)* }),
        hook_methods,
    })
}

fn contract(block: TraitBlock, args: &Args, errors: &mut Errors) -> Contract {
    let TraitBlock { attrs, vis, ident, generics, supertraits, members } = block;
    let lowered = Generics::lower(&generics, errors);
    let krate = args.krate();
    let scope = Owner { self_ty: None, local: args.local.is_some(), krate: &krate };
    let (mut methods, mut emitted) = (Vec::new(), Vec::new());
    for member in members {
        match member {
            Member::Method(mut item) => {
                let kinds = hook::take_kinds(&mut item, errors);
                let method = if kinds.is_empty() {
                    method::lower(&item, &scope, errors)
                } else {
                    errors.on(
                        &item.sig.ident,
                        "move the hook to the `impl` of the contract: a client has no hooks",
                    );
                    None
                };
                if method.is_some() {
                    streams::bound(&mut item.sig.output);
                }
                emitted.push(contract_method(*item, method.is_some()));
                methods.extend(method);
            }
            Member::Type(tokens) => {
                errors.on(
                    &tokens,
                    "name a concrete type, or give the contract a parameter, as in `trait Store<T>`: a \
                    client of the contract does not know which type implements it",
                );
                emitted.push(ContractMember::Other(tokens));
            }
            Member::Other(tokens) => emitted.push(ContractMember::Other(tokens)),
        }
    }
    Contract {
        interface: interface(vis.to_token_stream(), ident, lowered, methods, args),
        attrs: quote!(#(#attrs)*),
        parameters: generics.to_token_stream(),
        where_clause: generics.where_clause.to_token_stream(),
        supertraits: supertraits.iter().map(ToTokens::to_token_stream).collect(),
        members: emitted,
    }
}

fn structure(item: ItemStruct, args: &Args, errors: &mut Errors) -> Struct {
    Struct {
        krate: args.krate(),
        ident: item.ident.clone(),
        generics: Generics::lower(&item.generics, errors),
        settings: settings(args),
        original: item.into_token_stream(),
    }
}

fn interface(
    vis: TokenStream,
    owner: Ident,
    generics: Generics,
    methods: Vec<Method>,
    args: &Args,
) -> Interface {
    let methods = if generics.had_lifetimes { Vec::new() } else { methods };
    Interface {
        krate: args.krate(),
        vis,
        message: names::suffixed(&owner, "Message"),
        handle: names::suffixed(&owner, "Handle"),
        owner,
        generics,
        methods,
        local: args.local.is_some(),
    }
}

fn settings(args: &Args) -> Settings {
    Settings {
        name: args.name.as_ref().map(|setting| setting.value.clone()),
        mailbox: value(args.mailbox),
        concurrency: value(args.concurrency),
        overflow: value(args.overflow),
        queued: value(args.queued),
        shed: args.shed.is_some(),
        slow: value(args.slow),
        stuck: value(args.stuck),
        high_water: value(args.high_water),
        span: args.of_an_implementation().next(),
    }
}

fn value<T>(setting: Option<Setting<T>>) -> Option<T> {
    setting.map(|setting| setting.value)
}

/// The block as it is emitted, up to its braces, and what stood between them.
fn split(block: ImplBlock) -> (TokenStream, Vec<Member>) {
    let ImplBlock { attrs, generics, contract, self_ty, members } = block;
    let contract = contract.map(|path| quote!(#path for));
    let where_clause = &generics.where_clause;
    (quote!(#(#attrs)* impl #generics #contract #self_ty #where_clause), members)
}

fn contract_method(item: MethodItem, is_message: bool) -> ContractMember {
    let MethodItem { attrs, mut sig, body, vis } = item;
    if sig.asyncness.take().is_none() {
        return ContractMember::Other(MethodItem { attrs, vis, sig, body }.into_token_stream());
    }
    let reply = match std::mem::replace(&mut sig.output, ReturnType::Default) {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, ty) => ty.into_token_stream(),
    };
    let where_clause = match sig.generics.where_clause.take() {
        // What is no message was reported; its future shall not be reported too, for a `Self` that has no size.
        None if !is_message => quote!(where Self: ::core::marker::Sized),
        clause => clause.into_token_stream(),
    };
    ContractMember::Async(Box::new(AsyncMethod {
        attrs: quote!(#(#attrs)*),
        span: sig.ident.span(),
        head: sig.into_token_stream(),
        reply,
        where_clause,
        body,
    }))
}

/// `pub` alone makes a message: what is visible to a part of the crate is not the protocol.
fn is_message(item: &MethodItem) -> bool {
    matches!(item.vis, Visibility::Public(_)) && method::has_receiver(&item.sig)
}

fn type_name(ty: &Type) -> Option<Ident> {
    match types::plain(ty) {
        Type::Path(path) if path.qself.is_none() => Some(path.path.segments.last()?.ident.clone()),
        _ => None,
    }
}

/// `bank::Bank<T>` as `bank::BankMessage<T>`.
fn message_path(contract: &Path) -> Option<TokenStream> {
    let mut path = contract.clone();
    let last = path.segments.last_mut()?;
    last.ident = names::suffixed(&last.ident, "Message");
    Some(path.into_token_stream())
}

impl ToTokens for Member {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Method(item) => item.to_tokens(tokens),
            Self::Type(other) | Self::Other(other) => other.to_tokens(tokens),
        }
    }
}
