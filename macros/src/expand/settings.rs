//! The constant that holds a service's settings. Its name is what the compiler says when there are two of them.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use crate::args::Limit;
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
    let value = value(settings, &private);
    let item = quote_spanned!(span=> pub const #constant: #private::Settings = #value;);
    Some(quote! {
        #[allow(dead_code, unreachable_pub)]
        impl #declared #self_ty #where_clause {
            #[doc(hidden)]
            #item
        }
    })
}

/// The default, changed in what is set.
fn value(settings: &Settings, private: &TokenStream) -> TokenStream {
    let Settings { name, mailbox, concurrency, overflow, queued, shed, slow, stuck, high_water, span: _ } =
        settings;
    let variant = |kind: &str, variant: &str| {
        let [kind, variant] = [kind, variant].map(|name| Ident::new(name, Span::call_site()));
        quote!(#private::#kind::#variant)
    };
    let name = name.as_ref().map(|name| quote!(.name(#name)));
    let mailbox = mailbox.map(|mailbox| quote!(.mailbox(#mailbox)));
    let concurrency = concurrency.map(|concurrency| quote!(.concurrency(#concurrency)));
    let overflow =
        overflow.map(|chosen| variant("Overflow", chosen)).map(|chosen| quote!(.overflow(#chosen)));
    let queued = queued.map(|chosen| variant("Queued", chosen)).map(|chosen| quote!(.queued(#chosen)));
    let shed = shed.then(|| quote!(.shed()));
    let slow = slow.map(limit).map(|limit| quote!(.slow(#limit)));
    let stuck = stuck.map(limit).map(|limit| quote!(.stuck(#limit)));
    let high_water = high_water.map(|percent| quote!(.high_water(#percent)));
    quote! {
        #private::Settings::DEFAULT
            #name #mailbox #concurrency #overflow #queued #shed #slow #stuck #high_water
    }
}

fn limit(limit: Limit) -> TokenStream {
    limit.map_or_else(
        || quote!(::core::option::Option::None),
        |length| quote!(::core::option::Option::Some(::core::time::Duration::from_millis(#length))),
    )
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
