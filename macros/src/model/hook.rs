//! Turns a method with a hook's attribute into a [`Hook`], and says what keeps it from being one.

use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Pat, ReceiverKind, ReturnType, Safety, Signature, Type};

use super::{Hook, HookKind, method, types};
use crate::errors::Errors;
use crate::parse::MethodItem;

/// Takes the hooks' attributes away from the method, so that the compiler does not look for them.
pub(crate) fn take_kinds(item: &mut MethodItem, errors: &mut Errors) -> Vec<HookKind> {
    let mut kinds = Vec::new();
    item.attrs.retain(|attr| {
        let Some(kind) = HookKind::of(attr) else { return true };
        if attr.meta.require_path_only().is_err() {
            errors.on(attr, format!("write `#[{}]`: a hook has no settings", kind.name()));
        }
        kinds.push(kind);
        false
    });
    kinds
}

/// The hook that the method is, unless something keeps it from being one.
pub(crate) fn lower(item: &MethodItem, kind: HookKind, errors: &mut Errors) -> Option<Hook> {
    let sig = &item.sig;
    let mut params = sig.inputs.iter().peekable();
    let has_receiver = params.next().is_some_and(is_exclusive);
    let context = params.next_if(|param| is_context(param)).is_some();
    let event = params.next();
    let is_plain = sig.generics.params.is_empty() && sig.abi.is_none() && sig.variadic.is_none();
    let fits = has_receiver
        && is_plain
        && matches!(sig.safety, Safety::Default)
        && kind.takes(event)
        && params.next().is_none()
        && (kind == HookKind::Start || is_unit(sig));
    if !fits {
        errors.on(sig, kind.form());
        return None;
    }
    Some(Hook {
        kind,
        name: sig.ident.clone(),
        cfgs: method::attributes(&item.attrs, "cfg"),
        asynchronous: sig.asyncness.is_some(),
        context,
        event: event.map(event_span),
        reply: method::reply_span(sig),
    })
}

impl HookKind {
    /// The name of the attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::Stop => "on_stop",
            Self::Down => "on_down",
        }
    }

    fn of(attr: &Attribute) -> Option<Self> {
        let name = &attr.path().segments.last()?.ident;
        [Self::Start, Self::Stop, Self::Down].into_iter().find(|kind| name == kind.name())
    }

    fn takes(self, event: Option<&FnArg>) -> bool {
        let is_owned = event.is_none_or(|event| match event {
            FnArg::Typed(typed) => {
                !matches!(types::plain(&typed.ty), Type::Reference(_) | Type::ImplTrait(_))
            }
            FnArg::Receiver(_) => false,
        });
        is_owned
            && match self {
                Self::Start => event.is_none(),
                Self::Stop => true,
                Self::Down => event.is_some(),
            }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Start => {
                "write `fn start(&mut self)`, with `context: &Context` after `self` if you want it, `async` if you \
                 want it, and returning nothing or a `Result<(), E>`: that is what `#[on_start]` calls"
            }
            Self::Stop => {
                "write `fn stop(&mut self)`, with `context: &Context` and then `reason: StopReason` after `self` if \
                 you want them, `async` if you want it, and returning nothing: that is what `#[on_stop]` calls"
            }
            Self::Down => {
                "write `fn down(&mut self, down: Down)`, with `context: &Context` after `self` if you want it, \
                 `async` if you want it, and returning nothing: that is what `#[on_down]` calls"
            }
        }
    }
}

fn is_exclusive(param: &FnArg) -> bool {
    let FnArg::Receiver(receiver) = param else { return false };
    matches!(receiver.kind, ReceiverKind::Reference(_, _, Some(_)))
}

fn is_context(param: &FnArg) -> bool {
    let FnArg::Typed(typed) = param else { return false };
    types::context(&typed.ty) == Some(false) && matches!(*typed.pat, Pat::Ident(_) | Pat::Wild(_))
}

fn is_unit(sig: &Signature) -> bool {
    match &sig.output {
        ReturnType::Default => true,
        ReturnType::Type(_, ty) => matches!(types::plain(ty), Type::Tuple(tuple) if tuple.elems.is_empty()),
    }
}

fn event_span(event: &FnArg) -> proc_macro2::Span {
    match event {
        FnArg::Typed(typed) => typed.ty.span(),
        FnArg::Receiver(receiver) => receiver.span(),
    }
}
