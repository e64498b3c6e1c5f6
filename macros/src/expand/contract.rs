//! A contract: the trait with its `async fn`s as functions that return `Send` futures, and messages that run on any
//! implementation of it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use super::dispatch::{self, Target};
use super::{local, types};
use crate::model::{AsyncMethod, Contract, ContractMember, Interface, Receiver};

/// The trait, the messages, the handle, and how the messages run.
pub(super) fn contract(contract: &Contract) -> TokenStream {
    let declaration = declaration(contract);
    let types = types(&contract.interface);
    let run = run(&contract.interface);
    quote!(#declaration #types #run)
}

/// The trait as it is emitted. Its implementations are sent to a task, so that it asks for that itself.
pub(super) fn declaration(contract: &Contract) -> TokenStream {
    let Contract { interface, attrs, parameters, where_clause, supertraits, members } = contract;
    let Interface { vis, owner, methods, .. } = interface;
    let is_shared = methods.iter().any(|method| method.receiver == Receiver::Shared);
    let sync = is_shared.then(|| quote!(+ ::core::marker::Sync));
    let members = members.iter().map(member);
    quote! {
        #attrs
        #[allow(clippy::manual_async_fn)]
        #vis trait #owner #parameters: #(#supertraits +)* ::core::marker::Send #sync + 'static #where_clause {
            #(#members)*
        }
    }
}

fn member(member: &ContractMember) -> TokenStream {
    let AsyncMethod { attrs, head, reply, where_clause, body, span } = match member {
        ContractMember::Async(method) => &**method,
        ContractMember::Other(tokens) => return tokens.clone(),
    };
    let span = span.resolved_at(proc_macro2::Span::call_site());
    let future = quote_spanned!(span=> impl ::core::future::Future<Output = #reply> + ::core::marker::Send);
    let body = body.as_ref().map_or_else(|| quote!(;), |body| quote!({ async move #body }));
    quote!(#attrs #head -> #future #where_clause #body)
}

fn run(interface: &Interface) -> TokenStream {
    let (private, message, owner) = (interface.private(), interface.message_ty(), &interface.owner);
    let (generics, arguments) = (&interface.generics, interface.generics.arguments());
    let (declared, where_clause) = (generics.declaration(), generics.where_clause());
    let (service, instance, scope) = (local("S"), local("service"), local("scope"));
    let future = dispatch::future(&private);
    let methods = [(Receiver::Exclusive, quote!(&mut #service)), (Receiver::Shared, quote!(&#service))].map(
        |(receiver, reference)| {
            let name = dispatch::contract_run(receiver);
            let target =
                Target { owner: &quote!(<#service as #owner #arguments>), instance: &quote!(#instance) };
            let body = dispatch::body(interface, receiver, &target, &quote!(self));
            quote! {
                #[doc(hidden)]
                pub fn #name<#service: #owner #arguments>(
                    self,
                    #instance: #reference,
                    #scope: #private::Scope,
                ) -> #future {
                    #body
                }
            }
        },
    );
    quote! {
        #[allow(deprecated, private_bounds, private_interfaces, unreachable_patterns, unreachable_pub, unused_variables)]
        impl #declared #message #where_clause {
            #(#methods)*
        }
    }
}
