//! The typed handle: a method a message, each no more than its message and what the runtime must know of it.

use proc_macro2::TokenStream;
use quote::quote;

use super::local;
use super::message::reply_form;
use crate::model::{Interface, Method};

/// The handle with its methods and its trait impls.
pub(super) fn handle(interface: &Interface) -> TokenStream {
    let declaration = declaration(interface);
    let methods = methods(interface);
    let service_handle = service_handle(interface);
    let common = common(interface);
    let travel = (!interface.local).then(|| travel(interface));
    quote!(#declaration #methods #service_handle #common #travel)
}

fn declaration(interface: &Interface) -> TokenStream {
    let Interface { vis, handle, generics, owner, .. } = interface;
    let (private, message) = (interface.private(), interface.message_ty());
    let (declared, where_clause) = (generics.declaration(), generics.where_clause());
    let doc = format!(" The typed handle of `{owner}`: it calls one wherever it runs.");
    quote! {
        #[doc = #doc]
        #[allow(dead_code, missing_docs, private_bounds, private_interfaces, unreachable_pub)]
        #vis struct #handle #declared (#private::Handle<#message>) #where_clause;
    }
}

fn methods(interface: &Interface) -> TokenStream {
    let handle = interface.handle_ty();
    let (declared, where_clause) =
        (interface.generics.declaration(), interface.generics.where_clause_with(&interface.fixed_bounds()));
    let methods = interface.methods.iter().map(|method| stub(method, interface));
    quote! {
        #[allow(dead_code, missing_docs, private_bounds, private_interfaces, trivial_bounds, unreachable_patterns, unreachable_pub)]
        impl #declared #handle #where_clause {
            #(#methods)*
        }
    }
}

fn stub(method: &Method, interface: &Interface) -> TokenStream {
    let Method { name, variant, docs, cfgs, deprecated, reply, arguments, .. } = method;
    let Interface { krate, message, .. } = interface;
    let (private, message_ty) = (interface.private(), interface.message_ty());
    let (constant, fields, reply_field) = (method.constant(), method.fields(), method.reply_field());
    let types = arguments.iter().map(|argument| &argument.ty);
    let path = if interface.generics.is_empty() { quote!(#message) } else { quote!(<#message_ty>) };
    let (any, found, payload) = (local("message"), local("reply"), local("payload"));
    let kind = if interface.local { quote!(local) } else { quote!(wire) };
    let decode = (!interface.local).then(|| {
        let form = reply_form(&private);
        quote! {
            |#payload| {
                #form
                (&#private::ReplyForm::<#reply>::NEW).read(#payload)
            },
        }
    });
    let waiting = interface.waiting_bounds(method);
    let where_clause = (!waiting.is_empty()).then(|| quote!(where #(#waiting),*));
    quote! {
        #docs
        #cfgs
        #deprecated
        pub fn #name(&self #(, #fields: #types)*) -> #krate::Call<#reply, #message_ty> #where_clause {
            self.0.call(
                #message::#variant { #(#fields,)* #reply_field: #krate::Reply::none() },
                const {
                    &#private::Stub::#kind(const { &#path::#constant }, |#any| match #any {
                        #message::#variant { #reply_field: #found, .. } => #found,
                        _ => #private::wrong_variant(),
                    }, #decode)
                },
            )
        }
    }
}

fn service_handle(interface: &Interface) -> TokenStream {
    let (private, message, handle) = (interface.private(), interface.message_ty(), interface.handle_ty());
    let (declared, where_clause) =
        (interface.generics.declaration(), interface.generics.where_clause_with(&interface.fixed_bounds()));
    let inner = local("inner");
    quote! {
        #[automatically_derived]
        #[allow(trivial_bounds)]
        impl #declared #private::ServiceHandle for #handle #where_clause {
            type Message = #message;

            fn from_inner(#inner: #private::Handle<#message>) -> Self {
                Self(#inner)
            }

            fn as_inner(&self) -> &#private::Handle<#message> {
                &self.0
            }
        }
    }
}

/// What every handle is, whatever its parameters are: a derive would ask the same of them.
fn common(interface: &Interface) -> TokenStream {
    let handle = interface.handle_ty();
    let (declared, where_clause) = (interface.generics.declaration(), interface.generics.where_clause());
    let (f, other, state, hasher) = (local("f"), local("other"), local("state"), local("H"));
    quote! {
        #[automatically_derived]
        impl #declared ::core::clone::Clone for #handle #where_clause {
            fn clone(&self) -> Self {
                Self(::core::clone::Clone::clone(&self.0))
            }
        }

        #[automatically_derived]
        impl #declared ::core::fmt::Debug for #handle #where_clause {
            fn fmt(&self, #f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Debug::fmt(&self.0, #f)
            }
        }

        #[automatically_derived]
        impl #declared ::core::cmp::PartialEq for #handle #where_clause {
            fn eq(&self, #other: &Self) -> bool {
                ::core::cmp::PartialEq::eq(&self.0, &#other.0)
            }
        }

        #[automatically_derived]
        impl #declared ::core::cmp::Eq for #handle #where_clause {}

        #[automatically_derived]
        impl #declared ::core::hash::Hash for #handle #where_clause {
            fn hash<#hasher: ::core::hash::Hasher>(&self, #state: &mut #hasher) {
                ::core::hash::Hash::hash(&self.0, #state)
            }
        }
    }
}

/// A handle that may be an argument, a reply, or a part of one.
fn travel(interface: &Interface) -> TokenStream {
    let (private, handle) = (interface.private(), interface.handle_ty());
    let serde = quote!(#private::serde);
    let generics = &interface.generics;
    // Bounds would be a circle where handles of two services are arguments of each other. Without them `Travel` finds out
    // whether the messages can cross the wire: if not, the compiler has said so elsewhere.
    let bounds = if generics.is_empty() { vec![] } else { interface.bounds() };
    let (declared, where_clause) = (generics.declaration(), generics.where_clause_with(&bounds));
    let with_lifetime = generics.declaration_with_lifetime(&quote!('de));
    let (serializer, deserializer) = (local("serializer"), local("deserializer"));
    let message = interface.message_ty();
    let travel = quote!((&#private::Travel::<#message>::NEW));
    let traits = quote! {
        #[allow(unused_imports)]
        use #private::{Travels as _, TravelsNot as _};
    };
    let (s, d) = (local("S"), local("D"));
    quote! {
        #[automatically_derived]
        #[allow(trivial_bounds)]
        impl #declared #serde::Serialize for #handle #where_clause {
            fn serialize<#s: #serde::Serializer>(
                &self,
                #serializer: #s,
            ) -> ::core::result::Result<#s::Ok, #s::Error> {
                #traits
                #travel.write(&self.0, #serializer)
            }
        }

        #[automatically_derived]
        #[allow(trivial_bounds)]
        impl #with_lifetime #serde::Deserialize<'de> for #handle #where_clause {
            fn deserialize<#d: #serde::Deserializer<'de>>(
                #deserializer: #d,
            ) -> ::core::result::Result<Self, #d::Error> {
                #traits
                ::core::result::Result::map(#travel.read(#deserializer), Self)
            }
        }
    }
}
