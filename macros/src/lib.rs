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
///
/// | setting | what it sets | unit | default |
/// |---|---|---|---|
/// | `name = "counter"` | the name under which it is registered | text without white space | the type's |
/// | `mailbox = 1024` | how much may wait in front of an instance | messages, at least 1 | 1024 |
/// | `concurrency = 64` | how many `&self` handlers run at a time | handlers, at least 1 | 64 |
/// | `overflow = "wait"` | what happens when the mailbox is full | `wait`, `reject`, `drop_oldest` | `"wait"` |
/// | `queued = "keep"` | what a restart does to queued messages | `keep`, `refuse` | `"keep"` |
/// | `shed` | whether calls without hope are refused | a switch | off |
/// | `slow = "1s"` | when a running handler raises a first event | `ms`, `s`, `m`; or `off` | `"1s"` |
/// | `stuck = "10s"` | when it raises a second one | `ms`, `s`, `m`; or `off` | `"10s"` |
/// | `high_water = 80` | how full a mailbox raises an event | percent of `mailbox`, 1 to 100 | 80 |
/// | `local` | whether messages stay inside the process | a switch | off |
/// | `crate = path` | where the `skyhold` crate is found | a path | `::skyhold` |
///
/// * `name` is by default the type's name in snake case, and the contract's for a contract's implementation.
/// * `overflow`: with `"wait"` the caller waits for room, with `"reject"` the message is answered `Overloaded`, and with
///   `"drop_oldest"` the oldest send in the mailbox makes room; a call never does.
/// * `queued`: when a supervisor restarts an instance, `"keep"` leaves the messages in its mailbox to its next life, and
///   `"refuse"` answers them `Stopped`.
/// * `shed` refuses a call whose deadline cannot be met, judged by how long messages wait in the mailbox now.
/// * `slow` and `stuck` are a whole number with its unit, as in `"250ms"`, `"1s"` or `"2m"`, and at most a day; `"off"`
///   raises no event. `slow` must be less than `stuck`, also where one of them is the default.
/// * `local`: the arguments and replies need not be serializable, and the service cannot be reached from other nodes.
///
/// The settings of a service stand together, on its `struct` or on its `impl`. `local` stands where the messages are
/// declared, and `crate` on each `#[service]` that needs it; a contract's `trait` takes those two alone.
///
/// # Hooks
/// `#[on_start]`, `#[on_stop]` and `#[on_down]` mark the methods of an `impl` that the framework calls itself.
///
/// * `#[on_start]` runs before the first message of a life; an error is a start that failed.
/// * `#[on_stop]` runs after the last one, unless a handler panicked. It may take the `StopReason`.
/// * `#[on_down]` takes a `Down` and runs once for each instance that this one watches with `Context::watch`, when that
///   ends: alone, as an `&mut self` message does, in its place among the messages. It does not run for a watch that was
///   given up, nor for one of an earlier life, nor for a link.
#[proc_macro_attribute]
pub fn service(args: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::service(&args.into(), &item.into()).into()
}
