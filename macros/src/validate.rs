//! What can only be wrong between the parts of an item: names that collide, settings in the wrong place, hooks that
//! stand twice, nothing to say.
//!
//! It takes out of the model what the expansion could not compile, so that one mistake is one message.

use std::collections::HashMap;

use proc_macro2::Span;

use crate::args::Args;
use crate::errors::Errors;
use crate::model::{Hook, HookKind, Interface, Method, Model};
use crate::names;

/// Reports what is wrong with the whole.
pub(crate) fn validate(model: &mut Model, args: &Args, errors: &mut Errors) {
    match model {
        Model::Service(service) => {
            settings(args, errors);
            hooks(&mut service.hooks, errors);
            messages(&mut service.interface, NO_METHOD, errors);
        }
        Model::Contract(contract) => {
            on_contract(args, errors);
            messages(&mut contract.interface, NO_CONTRACT_METHOD, errors);
        }
        Model::Implementation(implementation) => {
            settings(args, errors);
            hooks(&mut implementation.hooks, errors);
            not_local(
                args,
                "put `local` on the contract's `trait`: it decides whether messages may leave",
                errors,
            );
        }
        Model::Struct(_) => {
            settings(args, errors);
            not_local(
                args,
                "put `local` on the `impl` block: it is the messages that may leave or not",
                errors,
            );
        }
    }
}

fn not_local(args: &Args, message: &str, errors: &mut Errors) {
    if let Some(local) = &args.local {
        errors.at(local.span, message);
    }
}

fn on_contract(args: &Args, errors: &mut Errors) {
    for span in args.of_an_implementation() {
        errors.at(
            span,
            "put this setting on the `impl` of the contract or on its struct: a contract takes `local` and `crate`",
        );
    }
}

/// What is wrong between settings. All of a service's stand together, so that what is not said is the default.
fn settings(args: &Args, errors: &mut Errors) {
    let slow = args.slow.map_or(Some(DEFAULT_SLOW), |setting| setting.value);
    let stuck = args.stuck.map_or(Some(DEFAULT_STUCK), |setting| setting.value);
    if args.flawed || slow.zip(stuck).is_none_or(|(slow, stuck)| slow < stuck) {
        return;
    }
    match (args.slow, args.stuck) {
        (Some(slow), Some(_)) => errors.at(
            slow.span,
            "write `slow = \"1s\", stuck = \"10s\"`: `slow` is shorter than `stuck`, because a handler is slow before \
             it is stuck",
        ),
        (Some(slow), None) => {
            errors.at(slow.span, "set `stuck` too, to more than `slow`: it is \"10s\" by default, or \"off\"");
        }
        (None, Some(stuck)) => {
            errors.at(stuck.span, "set `slow` too, to less than `stuck`: it is \"1s\" by default, or \"off\"");
        }
        (None, None) => {}
    }
}

fn hooks(hooks: &mut Vec<Hook>, errors: &mut Errors) {
    let mut seen: Vec<(HookKind, bool)> = Vec::new();
    hooks.retain(|hook| {
        let is_conditional = !hook.cfgs.is_empty();
        let is_second = seen.iter().any(|(kind, other)| *kind == hook.kind && !(is_conditional && *other));
        seen.push((hook.kind, is_conditional));
        if is_second {
            let message = format!("keep one `#[{}]`: it is called once", hook.kind.name());
            errors.at(hook.name.span(), message);
        }
        !is_second
    });
}

fn messages(interface: &mut Interface, none: &str, errors: &mut Errors) {
    if interface.methods.is_empty() && errors.count() == 0 {
        errors.at(Span::call_site(), none);
    }
    let mut seen = Seen::default();
    interface.methods.retain(|method| match seen.collision(method) {
        Some(message) => {
            errors.at(method.name.span(), message);
            false
        }
        None => true,
    });
}

/// The messages so far, by what must be unique; and whether each is there under a `#[cfg]` only.
#[derive(Default)]
struct Seen {
    names: HashMap<String, bool>,
    variants: HashMap<String, (String, bool)>,
    ids: HashMap<u32, (String, bool)>,
}

impl Seen {
    /// Says with what the method collides. Two that are both under a `#[cfg]` are taken to exclude each other.
    fn collision(&mut self, method: &Method) -> Option<String> {
        let name = names::spoken(&method.name);
        let is_conditional = !method.cfgs.is_empty();
        let collides = |other: bool| !(other && is_conditional);
        if self.names.get(&name).is_some_and(|other| collides(*other)) {
            return Some(format!("give each message its own name: `{name}` is there already"));
        }
        let is_known = self.names.insert(name.clone(), is_conditional).is_some();
        if is_known {
            return None;
        }
        let variant = method.variant.to_string();
        if let Some((other, _)) = self.variants.get(&variant).filter(|(_, other)| collides(*other)) {
            return Some(format!("rename `{name}` or `{other}`: both would be the message `{variant}`"));
        }
        if let Some((other, _)) = self.ids.get(&method.name_id).filter(|(_, other)| collides(*other)) {
            return Some(format!("rename `{name}` or `{other}`: both have the same id on the wire"));
        }
        self.variants.insert(variant, (name.clone(), is_conditional));
        self.ids.insert(method.name_id, (name, is_conditional));
        None
    }
}

const NO_METHOD: &str = "make a method with `&self` or `&mut self` `pub`: each of those is a message, and a service \
                         without one has nothing to answer";

const NO_CONTRACT_METHOD: &str = "add a method with `&self` or `&mut self`: each of those is a message, and a \
                                  contract without one has nothing to say";

/// `Settings::DEFAULT.slow` of the runtime, in milliseconds.
const DEFAULT_SLOW: u64 = 1_000;

/// `Settings::DEFAULT.stuck` of the runtime, in milliseconds.
const DEFAULT_STUCK: u64 = 10_000;
