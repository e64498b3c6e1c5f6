//! Who runs a message: the `Service` impl, which finds the method of a message and calls it, and the hooks.
//!
//! A future that runs no method of one receiver does not hold the instance: a service whose methods all take
//! `&mut self` need not be `Sync`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};

use super::{local, settings};
use crate::model::{Generics, Hook, HookKind, Implementation, Interface, Method, Receiver, StreamPlace};
use crate::names;

/// `impl Service` for a type whose methods are the messages.
pub(super) fn service(interface: &Interface, self_ty: &TokenStream, hooks: &[Hook]) -> TokenStream {
    let message = local("message");
    let run = |receiver| {
        let instance = quote!(self);
        let body = body(
            interface,
            receiver,
            &Target { owner: &quote!(Self), instance: &instance },
            &quote!(#message),
        );
        run_fn(&interface.krate, receiver, &interface.message_ty(), &body)
    };
    let methods = [run(Receiver::Exclusive), run(Receiver::Shared)];
    let message = interface.message_ty();
    let mut bounds = interface.fixed_bounds();
    if let Some(shared) = interface.methods.iter().find(|method| method.receiver == Receiver::Shared) {
        bounds.push(names::located(quote!(#self_ty: ::core::marker::Sync), shared.name.span()));
    }
    let header = Header { self_ty, generics: &interface.generics, message: &message, more: &bounds };
    service_impl(&interface.krate, &header, &methods, hooks)
}

/// `impl Service` for a type that implements a contract: the contract's messages know how to run.
pub(super) fn implementation(implementation: &Implementation) -> TokenStream {
    let Implementation { krate, message, self_ty, generics, hooks, .. } = implementation;
    let (any, scope) = (local("message"), local("scope"));
    let run = |receiver| {
        let run = contract_run(receiver);
        run_fn(krate, receiver, message, &quote!(#any.#run(self, #scope)))
    };
    let methods = [run(Receiver::Exclusive), run(Receiver::Shared)];
    let header = Header { self_ty, generics, message, more: &[] };
    service_impl(krate, &header, &methods, hooks)
}

/// The hidden method of a contract's messages that runs those of one receiver.
pub(super) fn contract_run(receiver: Receiver) -> Ident {
    match receiver {
        Receiver::Exclusive => format_ident!("__run_exclusive"),
        Receiver::Shared => format_ident!("__run_shared"),
    }
}

/// Whose methods are called, and on what.
pub(super) struct Target<'a> {
    /// The type or the trait, as a path's beginning.
    pub(super) owner: &'a TokenStream,
    /// The instance.
    pub(super) instance: &'a TokenStream,
}

/// The future that runs the messages of one receiver.
pub(super) fn body(
    interface: &Interface,
    receiver: Receiver,
    target: &Target<'_>,
    message: &TokenStream,
) -> TokenStream {
    let private = interface.private();
    let mut arms = interface
        .methods
        .iter()
        .filter(|method| method.receiver == receiver)
        .map(|method| arm(method, interface, target))
        .peekable();
    if arms.peek().is_none() {
        return quote!(async { #private::wrong_receiver() });
    }
    quote! {
        async move {
            match #message {
                #(#arms)*
                _ => #private::wrong_receiver(),
            }
        }
    }
}

/// The type of the future that runs a message.
pub(super) fn future(private: &TokenStream) -> TokenStream {
    quote!(impl ::core::future::Future<Output = #private::Outcome> + ::core::marker::Send)
}

/// One message: its arguments, its method, its answer. All of it stands at the method's name, so that a complaint about
/// the method's future points there.
fn arm(method: &Method, interface: &Interface, target: &Target<'_>) -> TokenStream {
    let Method { name, variant, cfgs, .. } = method;
    let (message, private) = (&interface.message, interface.private());
    let (fields, locals, reply_field) = (method.fields(), method.locals(), method.reply_field());
    let Target { owner, instance } = target;
    let (scope, reply, context) = (local("scope"), local("reply"), local("context"));
    let given = method.context.then(|| quote!(#context,));
    let call = quote!(#owner::#name(#instance, #given #(#locals),*));
    let call = match &method.stream {
        None => call,
        Some(stream) => {
            let wrap = match stream.place {
                StreamPlace::Whole => quote!(stream_reply),
                StreamPlace::InResult => quote!(stream_in_result),
            };
            if method.asynchronous {
                quote!(async move { #private::#wrap(#call.await) })
            } else {
                quote!(#private::#wrap(#call))
            }
        }
    };
    let reply_ty = &method.reply;
    let verdict = quote!({
        #[allow(unused_imports)]
        use #private::{JudgeAny as _, JudgeResult as _};
        (&#private::Judge::<#reply_ty>::NEW).verdict()
    });
    let run = match (method.context, method.asynchronous) {
        (false, true) => quote!(#private::answer(#scope, #reply, #verdict, #call).await),
        (false, false) => quote!(#private::answer_now(#scope, #reply, #verdict, move || #call)),
        (true, asynchronous) => {
            let handler = if asynchronous { call } else { quote!(async move { #call }) };
            quote!({
                let #context = &#scope.context();
                #private::answer_watched(#scope, #context, #reply, #verdict, #handler).await
            })
        }
    };
    let run = names::located(run, name.span());
    quote!(#cfgs #message::#variant { #(#fields: #locals,)* #reply_field: #reply } => #run,)
}

fn run_fn(krate: &TokenStream, receiver: Receiver, message: &TokenStream, body: &TokenStream) -> TokenStream {
    let private = quote!(#krate::__private);
    let (name, instance) = match receiver {
        Receiver::Exclusive => (quote!(run_exclusive), quote!(&mut self)),
        Receiver::Shared => (quote!(run_shared), quote!(&self)),
    };
    let (any, scope, future) = (local("message"), local("scope"), future(&private));
    quote! {
        fn #name(#instance, #any: #message, #scope: #private::Scope) -> #future {
            #body
        }
    }
}

/// For whom `impl Service` is, and under which bounds.
struct Header<'a> {
    self_ty: &'a TokenStream,
    generics: &'a Generics,
    message: &'a TokenStream,
    more: &'a [TokenStream],
}

fn service_impl(
    krate: &TokenStream,
    header: &Header<'_>,
    methods: &[TokenStream],
    hooks: &[Hook],
) -> TokenStream {
    let Header { self_ty, generics, message, more } = header;
    let private = quote!(#krate::__private);
    let (declared, where_clause) = (generics.declaration(), generics.where_clause_with(more));
    let settings = settings::lookup(krate);
    let hooks = hooks.iter().map(|each| hook(each, krate));
    quote! {
        #[automatically_derived]
        #[allow(deprecated, trivial_bounds, unreachable_patterns, unused_variables)]
        impl #declared #private::Service for #self_ty #where_clause {
            type Message = #message;
            const SETTINGS: #private::Settings = #settings;

            #(#methods)*
            #(#hooks)*
        }
    }
}

fn hook(hook: &Hook, krate: &TokenStream) -> TokenStream {
    let Hook { kind, name, cfgs, asynchronous, context, event, reply } = hook;
    let private = quote!(#krate::__private);
    let (context_local, event_local) = (local("context"), local("event"));
    let context = context.then(|| quote!(#context_local,));
    let event = event.map(|span| Ident::new("event", Span::mixed_site().located_at(span)));
    let wait = asynchronous.then(|| quote!(.await));
    let call = quote!(Self::#name(self, #context #event));
    let call = event.as_ref().map_or(call.clone(), |event| names::located(call, event.span()));
    let call = quote!(#call #wait);
    let (params, output, body) = match kind {
        HookKind::Start => (
            quote!(),
            quote!(::core::result::Result<(), #private::StartFailure>),
            names::located(quote!(#private::start_result(#call)), *reply),
        ),
        HookKind::Stop => (quote!(, #event_local: #krate::StopReason), quote!(()), call),
        HookKind::Down => (quote!(, #event_local: #krate::Down), quote!(()), call),
    };
    let on = Ident::new(kind.name(), Span::call_site());
    quote! {
        #cfgs
        fn #on(
            &mut self,
            #context_local: &#krate::Context
            #params
        ) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send {
            async move { #body }
        }
    }
}
