//! A reply that is a stream: `impl Stream<Item = T>`, alone or as what its `Result` holds. A caller gets `Streaming<T>`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{GenericArgument, PathArguments, ReturnType, Type, TypeImplTrait, TypeParamBound};
use syn::{parse_quote, parse_quote_spanned};

use super::types;

/// The stream that a method gives.
pub(crate) struct StreamReply {
    pub(crate) place: StreamPlace,
    /// The type of its items.
    pub(crate) item: TokenStream,
}

/// Where in its reply the stream of a method stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamPlace {
    /// It is the reply.
    Whole,
    /// It is what the reply's `Result` holds.
    InResult,
}

/// Finds the stream in a method's reply and puts `Streaming<T>` in its place, as a caller sees it.
pub(crate) fn replace(ty: &mut Type) -> Option<(StreamPlace, Type)> {
    let (place, stream) = find(ty)?;
    let item = item(stream)?;
    let streaming: Type = parse_quote!(Streaming<#item>);
    match place {
        StreamPlace::Whole => *ty = streaming,
        StreamPlace::InResult => *first_of_result(ty)? = streaming,
    }
    Some((place, item))
}

/// Lets the type of a method's stream say what a task must know of it.
pub(crate) fn bound(output: &mut ReturnType) {
    let ReturnType::Type(_, ty) = output else { return };
    if let Some((_, stream)) = find(ty)
        && item(stream).is_some()
    {
        let span = stream.impl_token.span.resolved_at(Span::call_site());
        stream.bounds.push(parse_quote_spanned!(span=> ::core::marker::Send));
        stream.bounds.push(parse_quote_spanned!(span=> 'static));
    }
}

/// Tells whether the type is some stream.
pub(crate) fn is_stream(ty: &TypeImplTrait) -> bool {
    ty.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Stream"),
        _ => false,
    })
}

/// The full path of `Streaming`, where a type of ours begins with its name.
pub(crate) fn qualified(ty: Type, place: StreamPlace, krate: &TokenStream) -> Type {
    let mut ty = ty;
    let streaming = match place {
        StreamPlace::Whole => Some(&mut ty),
        StreamPlace::InResult => first_of_result(&mut ty),
    };
    if let Some(streaming) = streaming {
        let name = streaming.clone();
        *streaming = Type::Verbatim(quote!(#krate::#name));
    }
    ty
}

fn find(ty: &mut Type) -> Option<(StreamPlace, &mut TypeImplTrait)> {
    if matches!(types::plain(ty), Type::ImplTrait(_)) {
        return impl_trait(ty).map(|stream| (StreamPlace::Whole, stream));
    }
    impl_trait(first_of_result(ty)?).map(|stream| (StreamPlace::InResult, stream))
}

fn impl_trait(ty: &mut Type) -> Option<&mut TypeImplTrait> {
    match ty {
        Type::Group(group) => impl_trait(&mut group.elem),
        Type::Paren(paren) => impl_trait(&mut paren.elem),
        Type::ImplTrait(ty) => Some(ty),
        _ => None,
    }
}

/// The `T` of a `Result<T, ..>`.
fn first_of_result(ty: &mut Type) -> Option<&mut Type> {
    let path = match ty {
        Type::Group(group) => return first_of_result(&mut group.elem),
        Type::Paren(paren) => return first_of_result(&mut paren.elem),
        Type::Path(path) => path,
        _ => return None,
    };
    let last = path.path.segments.last_mut().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &mut last.arguments else { return None };
    match arguments.args.first_mut()? {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    }
}

/// The `T` of `impl Stream<Item = T>`.
fn item(stream: &TypeImplTrait) -> Option<Type> {
    stream.bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let last = bound.path.segments.last().filter(|last| last.ident == "Stream")?;
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(item) if item.ident == "Item" => Some(item.ty.clone()),
            _ => None,
        })
    })
}
