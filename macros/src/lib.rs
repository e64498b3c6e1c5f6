//! The `#[service]` attribute of `skyhold`, which re-exports it: no user names this crate.
//!
//! What it writes is thin. It names the runtime only through `skyhold::{Call, CallError, Context, Reply}` and
//! `skyhold::__private`, by absolute paths, and it never looks into a method's body.
//!
//! The way is one way: `parse` reads the item, `model` turns it into our own data and says what is wrong with
//! each part, `validate` says what is wrong with the whole, `expand` writes the code.

mod args;
mod errors;
mod expand;
mod model;
mod names;
mod parse;
#[cfg(test)]
mod snapshots;
mod validate;

/// Makes a service: a message enum and a typed handle for its methods, and what runs them.
///
/// It stands on
/// * an `impl Type` block: each `pub` method with `&self` or `&mut self` is a message;
/// * a `trait`: a contract, whose methods are the messages of each service that implements it;
/// * an `impl Contract for Type` block: a service that implements a contract;
/// * a `struct`: the settings of the service, when they shall not stand on its `impl`.
///
/// # Settings
/// * `name = "counter"`: the name under which the service is registered by default; else the type's name (for a
///   contract's implementation the contract's), in snake case.
/// * `mailbox = 1024`: how many messages may wait in front of an instance.
/// * `concurrency = 64`: how many `&self` handlers of one instance may run at a time.
/// * `local`: arguments and replies need not be serializable; the service then stays inside its process.
/// * `crate = path`: where the `skyhold` crate is found, when it is not `::skyhold`.
///
/// # Hooks
/// `#[on_start]`, `#[on_stop]` and `#[on_down]` mark the methods of an `impl` that the framework calls itself.
#[proc_macro_attribute]
pub fn service(args: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::service(&args.into(), &item.into()).into()
}
