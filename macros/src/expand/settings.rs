//! The constant that holds a service's settings. Its name is what the compiler says when there are two of them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::model::{Generics, Settings};

/// The inherent constant on the type; nothing when nothing is set.
pub(super) fn constant(
    settings: &Settings,
    krate: &TokenStream,
    self_ty: &TokenStream,
    generics: &Generics,
) -> Option<TokenStream> {
    let span = settings.span?;
    let constant = Ident::new(CONSTANT, span);
    let (declared, where_clause) = (generics.declaration(), generics.where_clause());
    let private = quote!(#krate::__private);
    let name = settings.name.as_ref().map(|name| quote!(.name(#name)));
    let mailbox = settings.mailbox.map(|mailbox| quote!(.mailbox(#mailbox)));
    let concurrency = settings.concurrency.map(|concurrency| quote!(.concurrency(#concurrency)));
    let value = quote!(#private::Settings::DEFAULT #name #mailbox #concurrency);
    let item = quote_spanned!(span=> pub const #constant: #private::Settings = #value;);
    Some(quote! {
        #[allow(dead_code, unreachable_pub)]
        impl #declared #self_ty #where_clause {
            #[doc(hidden)]
            #item
        }
    })
}

/// The settings of the type in which this stands: its own constant if it has one, else the default.
pub(super) fn lookup(krate: &TokenStream) -> TokenStream {
    let constant = Ident::new(CONSTANT, Span::call_site());
    quote! {
        {
            #[allow(unused_imports)]
            use #krate::__private::DefaultSettings as _;
            Self::#constant
        }
    }
}

const CONSTANT: &str = "SERVICE_SETTINGS_STAND_EITHER_ON_THE_STRUCT_OR_ON_THE_IMPL";
