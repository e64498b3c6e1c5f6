//! The settings in `#[service(..)]`: reads them and says what is wrong with each.
//!
//! Which of them may stand on which item is not decided here but in [`crate::validate`].

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Lit, Path, Token};

use crate::errors::Errors;
use crate::names;

/// What stands in `#[service(..)]`; `None` is what is not said.
#[derive(Default)]
pub(crate) struct Args {
    /// `name = ".."`.
    pub(crate) name: Option<Setting<String>>,
    /// `mailbox = n`.
    pub(crate) mailbox: Option<Setting<usize>>,
    /// `concurrency = n`.
    pub(crate) concurrency: Option<Setting<usize>>,
    /// `local`.
    pub(crate) local: Option<Setting<()>>,
    /// `crate = path`.
    pub(crate) krate: Option<Setting<TokenStream>>,
}

/// A setting's value and the place of its name.
pub(crate) struct Setting<T> {
    /// What it is set to.
    pub(crate) value: T,
    /// Where its name stands.
    pub(crate) span: Span,
}

impl Args {
    /// Reads the tokens between the parentheses. What is wrong goes to `errors`, and what is right is kept.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let read = |input: ParseStream<'_>| -> syn::Result<()> {
            while !input.is_empty() {
                if let Err(error) = args.setting(input) {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        };
        if let Err(error) = read.parse2(tokens) {
            errors.push(error);
        }
        args
    }

    /// The path of the runtime crate.
    pub(crate) fn krate(&self) -> TokenStream {
        self.krate.as_ref().map_or_else(|| quote!(::skyhold), |setting| setting.value.clone())
    }

    fn setting(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let name = input.call(Ident::parse_any)?;
        match names::spoken(&name).as_str() {
            "name" => store(&mut self.name, &name, |name| service_name(name, input)),
            "mailbox" => store(&mut self.mailbox, &name, |name| count(name, input)),
            "concurrency" => store(&mut self.concurrency, &name, |name| count(name, input)),
            "local" => store(&mut self.local, &name, |_| flag(input)),
            "crate" => store(&mut self.krate, &name, |_| krate(input)),
            unknown => Err(syn::Error::new(name.span(), unknown_setting(unknown))),
        }
    }
}

fn store<T>(
    slot: &mut Option<Setting<T>>,
    name: &Ident,
    value: impl FnOnce(&Ident) -> syn::Result<T>,
) -> syn::Result<()> {
    let value = value(name)?;
    if slot.replace(Setting { value, span: name.span() }).is_some() {
        return Err(syn::Error::new(name.span(), format!("give `{name}` once: it is set twice here")));
    }
    Ok(())
}

fn service_name(name: &Ident, input: ParseStream<'_>) -> syn::Result<String> {
    let form = "write `name = \"counter\"`: a service's name is text without white space";
    match value(name, input, form)? {
        Lit::Str(text) if !text.value().is_empty() && !text.value().contains(char::is_whitespace) => {
            Ok(text.value())
        }
        other => Err(syn::Error::new_spanned(other, form)),
    }
}

fn count(name: &Ident, input: ParseStream<'_>) -> syn::Result<usize> {
    let form = format!("write `{name} = 64`: a whole number, at least 1");
    let literal = value(name, input, &form)?;
    if let Lit::Int(number) = &literal
        && matches!(number.suffix(), "" | "usize")
        && let Ok(count @ 1..) = number.base10_parse()
    {
        return Ok(count);
    }
    Err(syn::Error::new_spanned(literal, form))
}

/// The literal after `name =`. Anything else there is answered with the accepted `form`.
fn value(name: &Ident, input: ParseStream<'_>, form: &str) -> syn::Result<Lit> {
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(name.span(), form));
    }
    input.parse::<Token![=]>()?;
    let at = input.span();
    input.parse().map_err(|_| syn::Error::new(at, form))
}

fn flag(input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    Err(input.error("write `local` alone: it is a switch and takes no value"))
}

fn krate(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let form = |_| input.error("write `crate = path::to::skyhold`");
    input.parse::<Token![=]>().map_err(form)?;
    Path::parse_mod_style(input).map(ToTokens::into_token_stream).map_err(form)
}

fn unknown_setting(unknown: &str) -> String {
    let list = "the settings are `name`, `mailbox`, `concurrency`, `local` and `crate`";
    match names::nearest(unknown, &["name", "mailbox", "concurrency", "local", "crate"]) {
        Some(meant) => format!("write `{meant}`: there is no setting `{unknown}`; {list}"),
        None => format!("{list}: there is no setting `{unknown}`"),
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}
