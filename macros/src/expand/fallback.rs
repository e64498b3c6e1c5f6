//! What is emitted after a mistake: always the user's own item, and as many of the generated names as can be, so that
//! one mistake is not followed by a hundred complaints about names that are missing.

use proc_macro2::TokenStream;
use quote::quote;

use super::contract;
use crate::errors::Errors;
use crate::model::Model;

/// The item as it was written, when nothing more is known of it.
pub(super) fn bare(item: &TokenStream, errors: Errors) -> TokenStream {
    let errors = errors.into_tokens();
    quote!(#item #errors)
}

/// Tells whether the item had lifetimes, so that what would run it cannot be written.
pub(super) fn cannot_run(model: &Model) -> bool {
    match model {
        Model::Service(service) => service.interface.generics.had_lifetimes,
        Model::Contract(contract) => contract.interface.generics.had_lifetimes,
        Model::Implementation(implementation) => implementation.generics.had_lifetimes,
        Model::Struct(item) => item.generics.had_lifetimes,
    }
}

/// The item, and a message enum and a handle with nothing in them.
pub(super) fn shell(model: &Model) -> TokenStream {
    let (item, interface) = match model {
        Model::Service(service) => (service.original.clone(), Some(&service.interface)),
        Model::Contract(each) => (contract::declaration(each), Some(&each.interface)),
        Model::Implementation(implementation) => (implementation.original.clone(), None),
        Model::Struct(item) => (item.original.clone(), None),
    };
    let types = interface.map(super::types);
    quote!(#item #types)
}
