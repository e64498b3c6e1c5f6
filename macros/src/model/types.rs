//! The rules for the types of arguments and replies that can be told from how they are written.
//!
//! What only the compiler can know (whether a type is serializable) is left to bounds in the expansion.

use quote::ToTokens;
use syn::{GenericArgument, Lifetime, PathArguments, Type, TypeImplTrait, TypePath, TypeReference};

use crate::errors::Errors;
use crate::names;

use super::streams;

/// Where a type is used, which is what a message about it speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// An argument.
    Argument,
    /// A reply.
    Reply,
}

/// Reports what cannot be an argument or a reply. What is `'static` may stay inside one process, so that a `local`
/// service may have it.
pub(crate) fn check(ty: &Type, place: Place, local: bool, errors: &mut Errors) {
    let mut flaws = Vec::new();
    find(ty, &mut flaws);
    for flaw in flaws {
        flaw.report(place, local, errors);
    }
}

/// Tells whether the type is `&Context`: `Some(true)` for `&mut Context`.
pub(crate) fn context(ty: &Type) -> Option<bool> {
    let Type::Reference(reference) = plain(ty) else { return None };
    let Type::Path(path) = plain(&reference.elem) else { return None };
    let last = path.path.segments.last()?;
    (last.ident == "Context" && last.arguments.is_none()).then_some(reference.mutability.is_some())
}

/// The type without the parentheses and invisible groups around it.
pub(crate) fn plain(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => plain(&group.elem),
        Type::Paren(paren) => plain(&paren.elem),
        other => other,
    }
}

enum Flaw<'a> {
    Reference(&'a TypeReference),
    Impl(&'a TypeImplTrait),
    Lifetime(&'a Lifetime),
    ElidedCow(&'a TypePath),
    Never(&'a Type),
}

impl Flaw<'_> {
    fn report(&self, place: Place, local: bool, errors: &mut Errors) {
        let why = match place {
            Place::Argument => "an argument travels to another task or node, so it is owned, never borrowed",
            Place::Reply => "a reply travels to another task or node, so it is owned, never borrowed",
        };
        match self {
            Self::Reference(reference) if local && is_static(reference) => {}
            Self::Reference(reference) => {
                errors.on(reference, format!("write `{}`: {why}", owned_form(reference)));
            }
            Self::Impl(ty) => errors.on(ty, impl_trait(ty, place)),
            Self::Lifetime(lifetime) => {
                errors.on(
                    lifetime,
                    format!("write an owned type, or `'static` in place of `{lifetime}`: {why}"),
                );
            }
            Self::ElidedCow(path) => {
                errors.on(path, format!("write `Cow<'static, ..>` or the owned type: {why}"));
            }
            Self::Never(ty) => {
                errors.on(ty, "write `()` or leave the type out: a message that never returns has no reply");
            }
        }
    }
}

/// Finds what is borrowed or unnamed, at any depth but inside `Fn(..)`, function pointers and trait objects, where
/// lifetimes are bound and not borrowed.
fn find<'a>(ty: &'a Type, flaws: &mut Vec<Flaw<'a>>) {
    match ty {
        Type::Reference(reference) => flaws.push(Flaw::Reference(reference)),
        Type::ImplTrait(ty) => flaws.push(Flaw::Impl(ty)),
        Type::Never(_) => flaws.push(Flaw::Never(ty)),
        Type::Group(group) => find(&group.elem, flaws),
        Type::Paren(paren) => find(&paren.elem, flaws),
        Type::Array(array) => find(&array.elem, flaws),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|elem| find(elem, flaws)),
        Type::Path(path) => find_in_path(path, flaws),
        _ => {}
    }
}

fn find_in_path<'a>(path: &'a TypePath, flaws: &mut Vec<Flaw<'a>>) {
    let arguments = path.path.segments.iter().filter_map(|segment| match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    for argument in arguments.flatten() {
        match argument {
            GenericArgument::Type(ty) => find(ty, flaws),
            GenericArgument::Lifetime(lifetime) if lifetime.ident != "static" => {
                flaws.push(Flaw::Lifetime(lifetime));
            }
            _ => {}
        }
    }
    if is_elided_cow(path) {
        flaws.push(Flaw::ElidedCow(path));
    }
}

fn is_elided_cow(path: &TypePath) -> bool {
    let Some(last) = path.path.segments.last() else { return false };
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return false };
    last.ident == "Cow" && !arguments.args.iter().any(|arg| matches!(arg, GenericArgument::Lifetime(_)))
}

fn is_static(reference: &TypeReference) -> bool {
    reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static")
}

/// What to write in place of a reference: `String` for `&str`, `Vec<T>` for `&[T]`, else the type itself.
fn owned_form(reference: &TypeReference) -> String {
    match plain(&reference.elem) {
        Type::Path(path) if path.path.is_ident("str") => "String".to_owned(),
        Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Path") => {
            "PathBuf".to_owned()
        }
        Type::Slice(slice) => format!("Vec<{}>", names::shown(slice.elem.to_token_stream())),
        Type::TraitObject(object) => format!("Box<{}>", names::shown(object.to_token_stream())),
        Type::Reference(inner) => owned_form(inner),
        other => names::shown(other.to_token_stream()),
    }
}

fn impl_trait(ty: &TypeImplTrait, place: Place) -> &'static str {
    let is_future = names::mentions(&ty.to_token_stream(), &[quote::format_ident!("Future")]);
    match place {
        Place::Argument if streams::is_stream(ty) => {
            "write `Streaming<T>`: the message must know what it carries, and a caller makes one with \
             `Streaming::new`"
        }
        Place::Reply if streams::is_stream(ty) => {
            "write `impl Stream<Item = T>` as the whole reply or as what its `Result` holds, or write `Streaming<T>`: \
             the handle must know what comes back"
        }
        Place::Argument => {
            "name one concrete type: the message must know what it carries, and `impl Trait` is many"
        }
        Place::Reply if is_future => {
            "write `async fn` and the type of its output: the reply is a value, not a future"
        }
        Place::Reply => {
            "name one concrete type: the handle must know what comes back, and `impl Trait` hides it"
        }
    }
}
