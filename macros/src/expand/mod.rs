//! Writes the code. It decides nothing: what is wrong was said before, and what is left can be written.
//!
//! Invariant: every path is absolute, so that no import and no name of the user's can change what it means; every
//! local of ours has the macro's own hygiene, so that no argument can be mistaken for it.

mod contract;
mod dispatch;
mod fallback;
mod handle;
mod message;
mod settings;

use std::collections::HashSet;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::Attribute;
use syn::parse::{ParseStream, Parser};

use crate::args::Args;
use crate::errors::Errors;
use crate::model::{
    self, Implementation, Interface, Method, Model, Service, StreamPlace, StreamReply, Struct,
};
use crate::names;
use crate::parse::Item;
use crate::validate::validate;

/// The attribute, whole: what stands in the place of the item.
pub(crate) fn service(args: &TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let parsed_args = Args::parse(args.clone(), &mut errors);
    if let Some(deferred) = defer_to_conditions(args, item, &parsed_args) {
        return deferred;
    }
    let parsed: Item = match syn::parse2(item.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            errors.push(error);
            return fallback::bare(item, errors);
        }
    };
    let Some(mut model) = model::lower(parsed, &parsed_args, &mut errors) else {
        return fallback::bare(item, errors);
    };
    validate(&mut model, &parsed_args, &mut errors);
    let code = match &model {
        model if fallback::cannot_run(model) => fallback::shell(model),
        Model::Service(service) => inherent(service),
        Model::Contract(contract) => contract::contract(contract),
        Model::Implementation(implementation) => contract_impl(implementation),
        Model::Struct(item) => structure(item),
    };
    let errors = errors.into_tokens();
    quote!(#code #errors)
}

fn inherent(service: &Service) -> TokenStream {
    let Service { interface, self_ty, settings, hooks, original } = service;
    let settings = settings::constant(settings, &interface.krate, self_ty, &interface.generics);
    let types = types(interface);
    let run = dispatch::service(interface, self_ty, hooks);
    // `pub` is what makes a message, also in a module that nobody else sees.
    quote!(#[allow(unreachable_pub)] #original #settings #types #run)
}

fn contract_impl(implementation: &Implementation) -> TokenStream {
    let Implementation { krate, self_ty, generics, settings, original, hook_methods, .. } = implementation;
    let settings = settings::constant(settings, krate, self_ty, generics);
    let (declaration, where_clause) = (generics.declaration(), generics.where_clause());
    let hooks = (!hook_methods.is_empty())
        .then(|| quote!(impl #declaration #self_ty #where_clause { #hook_methods }));
    let run = dispatch::implementation(implementation);
    quote!(#original #hooks #settings #run)
}

fn structure(item: &Struct) -> TokenStream {
    let Struct { krate, ident, generics, settings, original } = item;
    let arguments = generics.arguments();
    let settings = settings::constant(settings, krate, &quote!(#ident #arguments), generics);
    quote!(#original #settings)
}

/// The message enum and the handle, with all that makes them what they are.
fn types(interface: &Interface) -> TokenStream {
    let message = message::message(interface);
    let handle = handle::handle(interface);
    quote!(#message #handle)
}

impl Interface {
    /// The module of the runtime that is for generated code.
    fn private(&self) -> TokenStream {
        let krate = &self.krate;
        quote!(#krate::__private)
    }

    /// The message enum with its arguments.
    fn message_ty(&self) -> TokenStream {
        with_arguments(&self.message, self)
    }

    /// The handle with its arguments.
    fn handle_ty(&self) -> TokenStream {
        with_arguments(&self.handle, self)
    }

    /// What each type that a message carries must be, placed at the user's type, so that the compiler's complaint points
    /// there. Every impl that rests on it repeats it: then it is said once, and no impl says more.
    fn bounds(&self) -> Vec<TokenStream> {
        self.bounds_of(&self.methods)
    }

    /// The bounds on types without parameters. The others wait until the parameters are known.
    fn fixed_bounds(&self) -> Vec<TokenStream> {
        self.bounds().into_iter().filter(|bound| !self.depends(bound)).collect()
    }

    /// The bounds of one method that wait until the parameters are known.
    fn waiting_bounds(&self, method: &Method) -> Vec<TokenStream> {
        self.bounds_of([method]).into_iter().filter(|bound| self.depends(bound)).collect()
    }

    fn bounds_of<'a>(&self, methods: impl IntoIterator<Item = &'a Method>) -> Vec<TokenStream> {
        let private = self.private();
        let bound = if self.local { quote!(::core::marker::Send + 'static) } else { quote!(#private::Wire) };
        let mut seen = HashSet::new();
        let types = methods.into_iter().flat_map(|method| {
            let reply = match &method.stream {
                // The compiler's complaint shall speak of what the user wrote.
                Some(StreamReply { place: StreamPlace::Whole, item }) => item,
                _ => &method.reply,
            };
            let types = method.arguments.iter().map(|argument| &argument.ty).chain([reply]);
            // A type under a `#[cfg]` may not exist; one with a parameter must be known to the impls.
            types.filter(|ty| method.cfgs.is_empty() || self.depends(ty))
        });
        types
            .filter(|ty| {
                let text = names::shown((*ty).clone());
                !PLAIN.contains(&&*text) && seen.insert(text)
            })
            .map(|ty| {
                let span = ty.clone().into_iter().next().map_or_else(Span::call_site, |first| first.span());
                let bound = names::located(quote!(: #bound), span);
                quote!(#ty #bound)
            })
            .collect()
    }

    fn depends(&self, tokens: &TokenStream) -> bool {
        names::mentions(tokens, &self.generics.types)
    }

    /// Whether the enum has the variant that nobody can make: it uses the parameters, and keeps an enum whose methods
    /// are all under a `#[cfg]` from being without variants.
    fn has_never(&self) -> bool {
        !self.generics.is_empty() || self.methods.iter().all(|method| !method.cfgs.is_empty())
    }
}

impl Method {
    /// The constant on the message enum that describes the method.
    fn constant(&self) -> Ident {
        format_ident!("METHOD_{}", names::spoken(&self.name), span = Span::call_site())
    }

    /// The field that holds the reply: `reply`, unless an argument has that name.
    fn reply_field(&self) -> Ident {
        let mut name = "reply".to_owned();
        while self.arguments.iter().any(|argument| argument.name == name) {
            name.push('_');
        }
        Ident::new(&name, Span::call_site())
    }

    /// Our own names for the arguments, which no name of the user's can meet.
    fn locals(&self) -> Vec<Ident> {
        (0..self.arguments.len()).map(|position| local(&format!("arg{position}"))).collect()
    }

    /// The names of the fields that hold the arguments.
    fn fields(&self) -> Vec<&Ident> {
        self.arguments.iter().map(|argument| &argument.name).collect()
    }
}

/// A local variable of ours.
fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Types of which nobody needs to be told that they may be in a message.
const PLAIN: &[&str] = &[
    "()", "bool", "char", "f32", "f64", "i128", "i16", "i32", "i64", "i8", "isize", "u128", "u16", "u32",
    "u64", "u8", "usize", "String",
];

fn with_arguments(name: &Ident, interface: &Interface) -> TokenStream {
    let arguments = interface.generics.arguments();
    quote!(#name #arguments)
}

/// An item under `#[cfg]` once more, with the `#[cfg]` in front: the compiler decides about it before it comes back to
/// us, so that it need not be on all that we write.
fn defer_to_conditions(args: &TokenStream, item: &TokenStream, parsed_args: &Args) -> Option<TokenStream> {
    let split =
        |input: ParseStream<'_>| Ok((input.call(Attribute::parse_outer)?, input.parse::<TokenStream>()?));
    let (attrs, rest) = split.parse2(item.clone()).ok()?;
    let (conditions, others): (Vec<_>, Vec<_>) =
        attrs.into_iter().partition(|attr| attr.path().is_ident("cfg"));
    let krate = parsed_args.krate();
    (!conditions.is_empty()).then(|| quote!(#(#conditions)* #[#krate::service(#args)] #(#others)* #rest))
}
