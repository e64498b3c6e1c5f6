//! The message enum, and what it is to the runtime.
//!
//! Nothing here knows who runs a message.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;

use super::local;
use crate::model::{Interface, Method, Receiver};

/// The enum with its `Message` and, unless it is local, its `WireMessage`.
pub(super) fn message(interface: &Interface) -> TokenStream {
    let declaration = declaration(interface);
    let methods = methods(interface);
    let message = message_impl(interface);
    let wire = (!interface.local).then(|| wire_impl(interface));
    quote!(#declaration #methods #message #wire)
}

fn declaration(interface: &Interface) -> TokenStream {
    let Interface { krate, vis, message, generics, .. } = interface;
    let (declared, where_clause) = (generics.declaration(), generics.where_clause());
    let doc = format!(" The messages of `{}`.", interface.owner);
    let variants = interface.methods.iter().map(|method| {
        let Method { docs, cfgs, variant, reply, .. } = method;
        let (fields, reply_field) = (method.fields(), method.reply_field());
        let types = method.arguments.iter().map(|argument| &argument.ty);
        quote!(#docs #cfgs #variant { #(#fields: #types,)* #reply_field: #krate::Reply<#reply> })
    });
    let never = interface.has_never().then(|| {
        let (private, types) = (interface.private(), &generics.types);
        quote!(#[doc(hidden)] __Never(#private::Never #(, ::core::marker::PhantomData<#types>)*))
    });
    let variants = variants.chain(never);
    quote! {
        #[doc = #doc]
        #[allow(clippy::all, dead_code, missing_debug_implementations, missing_docs, private_bounds, private_interfaces, unreachable_pub)]
        #vis enum #message #declared #where_clause {
            #(#variants,)*
        }
    }
}

/// One constant a method, which the stub and the enum both refer to.
fn methods(interface: &Interface) -> TokenStream {
    let (private, message) = (interface.private(), interface.message_ty());
    let (declared, where_clause) = (interface.generics.declaration(), interface.generics.where_clause());
    let constants = interface.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let [name_id, signature_id] = [method.name_id, method.signature_id].map(Literal::u32_unsuffixed);
        let (constant, name) = (method.constant(), crate::names::spoken(&method.name));
        let receiver = match method.receiver {
            Receiver::Exclusive => quote!(Exclusive),
            Receiver::Shared => quote!(Shared),
        };
        let more = description(method);
        quote! {
            #cfgs
            const #constant: #private::Method =
                #private::Method::new(#name, #name_id, #signature_id, #private::Receiver::#receiver) #more;
        }
    });
    quote! {
        #[allow(non_upper_case_globals)]
        impl #declared #message #where_clause {
            #(#constants)*
        }
    }
}

/// What a method says to people, behind its constructor.
fn description(method: &Method) -> TokenStream {
    let Method { says, arguments, spelled, stream, .. } = method;
    let takes = (!arguments.is_empty()).then(|| {
        let arguments = arguments.iter().map(|argument| {
            let (name, ty) = (crate::names::spoken(&argument.name), crate::names::shown(argument.ty.clone()));
            quote!((#name, #ty))
        });
        quote!(.takes(&[#(#arguments),*]))
    });
    let gives = (spelled != "()").then(|| quote!(.gives(#spelled)));
    let streams = stream.is_some().then(|| quote!(.streams()));
    let says = (!says.is_empty()).then(|| quote!(.says(&[#(#says),*])));
    quote!(#takes #gives #streams #says)
}

fn message_impl(interface: &Interface) -> TokenStream {
    let (private, message, handle) = (interface.private(), interface.message_ty(), interface.handle_ty());
    let (declared, where_clause) =
        (interface.generics.declaration(), interface.generics.where_clause_with(&interface.fixed_bounds()));
    let name = crate::names::snake(&crate::names::spoken(&interface.owner));
    let list = interface.methods.iter().map(|method| {
        let (cfgs, constant) = (&method.cfgs, method.constant());
        quote!(#cfgs Self::#constant)
    });
    let arms = interface.methods.iter().map(|method| {
        let Method { cfgs, variant, .. } = method;
        let constant = method.constant();
        quote!(#cfgs Self::#variant { .. } => const { &Self::#constant })
    });
    let arms = arms.chain(never_arm(interface));
    let krate = &interface.krate;
    let error = local("error");
    let failures =
        interface.methods.iter().map(|each| failure_arm(each, &error)).chain(never_arm_owned(interface));
    quote! {
        #[automatically_derived]
        #[allow(trivial_bounds, unused_variables)]
        impl #declared #private::Message for #message #where_clause {
            type Handle = #handle;
            const INTERFACE: &'static str = #name;
            const METHODS: &'static [#private::Method] = &[#(#list),*];

            fn method(&self) -> &'static #private::Method {
                match self {
                    #(#arms,)*
                }
            }

            fn fail(self, #error: #krate::CallError) {
                match self {
                    #(#failures,)*
                }
            }
        }
    }
}

fn failure_arm(method: &Method, error: &Ident) -> TokenStream {
    let Method { cfgs, variant, .. } = method;
    let (reply, reply_field) = (local("reply"), method.reply_field());
    quote!(#cfgs Self::#variant { #reply_field: #reply, .. } => #reply.fail(#error))
}

fn wire_impl(interface: &Interface) -> TokenStream {
    let (private, message) = (interface.private(), interface.message_ty());
    let (declared, where_clause) =
        (interface.generics.declaration(), interface.generics.where_clause_with(&interface.bounds()));
    let (out, method, payload, reply) = (local("out"), local("method"), local("payload"), local("reply"));
    let encode = interface.methods.iter().map(|each| encode_arm(each, &out)).chain(never_arm(interface));
    let decode = interface.methods.iter().map(|each| decode_arm(each, &private, &payload, &reply));
    let (arguments, fields) = (local("arguments"), local("fields"));
    let read = interface.methods.iter().map(|each| read_arm(each, &private, &arguments, &reply));
    let show = interface.methods.iter().map(|each| show_arm(each, &fields)).chain(never_arm(interface));
    let shown = local("shown");
    let show_reply = interface.methods.iter().map(|each| show_reply_arm(each, &private, &shown));
    let type_arguments = type_arguments(interface);
    quote! {
        #[automatically_derived]
        #[allow(trivial_bounds, unused_mut, unused_variables)]
        impl #declared #private::WireMessage for #message #where_clause {
            fn encode(
                &self,
                #out: &mut #private::Encoder<'_>,
            ) -> ::core::result::Result<(), #private::CodecError> {
                match self {
                    #(#encode,)*
                }
            }

            fn decode(
                #method: u32,
                mut #payload: #private::Decoder<'_>,
                #reply: #private::ReplyPath,
            ) -> ::core::result::Result<Self, #private::DecodeError> {
                match #method {
                    #(#decode)*
                    _ => ::core::result::Result::Err(#private::DecodeError::unknown()),
                }
            }

            fn read(
                #method: u32,
                mut #arguments: #private::Arguments<'_>,
                #reply: #private::TextPath,
            ) -> ::core::result::Result<Self, #private::ArgumentError> {
                match #method {
                    #(#read)*
                    _ => ::core::result::Result::Err(#private::ArgumentError::unknown()),
                }
            }

            fn show(&self, #fields: &mut #private::Fields) {
                match self {
                    #(#show,)*
                }
            }

            fn show_reply(
                #method: u32,
                #shown: &dyn ::core::any::Any,
            ) -> ::core::option::Option<::std::string::String> {
                match #method {
                    #(#show_reply)*
                    _ => ::core::option::Option::None,
                }
            }

            #type_arguments
        }
    }
}

fn encode_arm(method: &Method, out: &Ident) -> TokenStream {
    let Method { cfgs, variant, .. } = method;
    let (fields, locals) = (method.fields(), method.locals());
    quote!(#cfgs Self::#variant { #(#fields: #locals,)* .. } => {
        #(#out.announce(#locals);)*
        #out.put(&(#(#locals,)*))
    })
}

fn decode_arm(method: &Method, private: &TokenStream, payload: &Ident, reply: &Ident) -> TokenStream {
    let Method { cfgs, variant, reply: reply_ty, .. } = method;
    let (value, out, form) = (local("value"), local("out"), reply_form(private));
    let name_id = Literal::u32_unsuffixed(method.name_id);
    let (fields, locals, reply_field) = (method.fields(), method.locals(), method.reply_field());
    quote! {
        #cfgs
        #name_id => {
            #(let #locals = #payload.take()?;)*
            #payload.end()?;
            ::core::result::Result::Ok(Self::#variant {
                #(#fields: #locals,)*
                #reply_field: #private::Reply::remote(#reply, |#value, #out| {
                    #form
                    (&#private::ReplyForm::<#reply_ty>::NEW).write(#value, #out)
                }),
            })
        }
    }
}

fn read_arm(method: &Method, private: &TokenStream, arguments: &Ident, reply: &Ident) -> TokenStream {
    let Method { cfgs, variant, .. } = method;
    let name_id = Literal::u32_unsuffixed(method.name_id);
    let (fields, locals, reply_field) = (method.fields(), method.locals(), method.reply_field());
    quote! {
        #cfgs
        #name_id => {
            #(let #locals = #arguments.take()?;)*
            ::core::result::Result::Ok(Self::#variant {
                #(#fields: #locals,)*
                #reply_field: #private::Reply::text(#reply),
            })
        }
    }
}

fn show_arm(method: &Method, shown: &Ident) -> TokenStream {
    let Method { cfgs, variant, .. } = method;
    let (fields, locals) = (method.fields(), method.locals());
    quote!(#cfgs Self::#variant { #(#fields: #locals,)* .. } => { #(#shown.add(#locals);)* })
}

fn show_reply_arm(method: &Method, private: &TokenStream, shown: &Ident) -> TokenStream {
    let Method { cfgs, reply, .. } = method;
    let name_id = Literal::u32_unsuffixed(method.name_id);
    quote!(#cfgs #name_id => #private::show_reply::<#reply>(#shown),)
}

/// The traits of which one says how a reply is written and read.
pub(super) fn reply_form(private: &TokenStream) -> TokenStream {
    quote!(#[allow(unused_imports)] use #private::{PlainForm as _, ResultForm as _};)
}

fn type_arguments(interface: &Interface) -> Option<TokenStream> {
    let types = &interface.generics.types;
    (!types.is_empty()).then(|| {
        quote! {
            fn type_arguments() -> &'static [fn() -> &'static str] {
                const { &[#(::core::any::type_name::<#types> as fn() -> &'static str),*] }
            }
        }
    })
}

/// The arm for the variant that nobody can make, behind a reference.
fn never_arm(interface: &Interface) -> Option<TokenStream> {
    let never = local("never");
    interface.has_never().then(|| quote!(Self::__Never(#never, ..) => match *#never {}))
}

/// The arm for the variant that nobody can make, owned.
fn never_arm_owned(interface: &Interface) -> Option<TokenStream> {
    let never = local("never");
    interface.has_never().then(|| quote!(Self::__Never(#never, ..) => match #never {}))
}
