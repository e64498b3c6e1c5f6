//! The parameters of a service, in the pieces in which the expansion repeats them.
//!
//! A lifetime is never among them: a service owns its data.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{GenericParam, WherePredicate};

use crate::errors::Errors;

/// The parameters of a service.
#[derive(Default)]
pub(crate) struct Generics {
    /// The declarations, each with its bounds and without its default.
    declared: Vec<TokenStream>,
    /// The names, in the same order.
    names: Vec<TokenStream>,
    /// The user's where clause, and what every service asks of its type parameters.
    predicates: Vec<TokenStream>,
    /// The type parameters alone.
    pub(crate) types: Vec<Ident>,
    /// Whether there were lifetimes, so that nothing can run: they are left out.
    pub(crate) had_lifetimes: bool,
}

impl Generics {
    /// Takes the parameters over. Lifetimes are reported; a service that has one is left without parameters.
    pub(crate) fn lower(generics: &syn::Generics, errors: &mut Errors) -> Self {
        let mut lowered = Self::default();
        for param in &generics.params {
            match param {
                GenericParam::Lifetime(lifetime) => {
                    lowered.had_lifetimes = true;
                    errors.on(
                        lifetime,
                        "store owned data, such as `String` or `Arc<T>`: a service owns its data and has no \
                         lifetime parameters",
                    );
                }
                GenericParam::Type(param) => lowered.push_type(param),
                GenericParam::Const(param) => {
                    let (ident, ty) = (&param.ident, &param.ty);
                    lowered.declared.push(quote!(const #ident: #ty));
                    lowered.names.push(quote!(#ident));
                }
            }
        }
        if lowered.had_lifetimes {
            return Self { had_lifetimes: true, ..Self::default() };
        }
        let user = generics.where_clause.iter().flat_map(|clause| &clause.predicates);
        lowered.predicates.splice(0..0, user.map(WherePredicate::to_token_stream));
        lowered
    }

    /// Tells whether there are no parameters.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// `<K: Hash, const N: usize>`, or nothing.
    pub(crate) fn declaration(&self) -> TokenStream {
        let declared = &self.declared;
        if self.is_empty() { TokenStream::new() } else { quote!(<#(#declared),*>) }
    }

    /// `<'a, K: Hash, const N: usize>`.
    pub(crate) fn declaration_with_lifetime(&self, lifetime: &TokenStream) -> TokenStream {
        let declared = &self.declared;
        quote!(<#lifetime #(, #declared)*>)
    }

    /// `<K, N>`, or nothing.
    pub(crate) fn arguments(&self) -> TokenStream {
        let names = &self.names;
        if self.is_empty() { TokenStream::new() } else { quote!(<#(#names),*>) }
    }

    /// The where clause, or nothing.
    pub(crate) fn where_clause(&self) -> TokenStream {
        self.where_clause_with(&[])
    }

    /// The where clause with `more` predicates, or nothing.
    pub(crate) fn where_clause_with(&self, more: &[TokenStream]) -> TokenStream {
        let predicates: Vec<_> = self.predicates.iter().chain(more).collect();
        if predicates.is_empty() { TokenStream::new() } else { quote!(where #(#predicates),*) }
    }

    fn push_type(&mut self, param: &syn::TypeParam) {
        let (ident, bounds) = (&param.ident, &param.bounds);
        let colon = &param.colon_token;
        self.declared.push(quote!(#ident #colon #bounds));
        self.names.push(quote!(#ident));
        self.predicates.push(quote!(#ident: ::core::marker::Send + 'static));
        self.types.push(ident.clone());
    }
}
