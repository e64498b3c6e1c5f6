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
    /// `overflow = ".."`: the variant of the runtime's `Overflow`.
    pub(crate) overflow: Option<Setting<&'static str>>,
    /// `queued = ".."`: the variant of the runtime's `Queued`.
    pub(crate) queued: Option<Setting<&'static str>>,
    /// `shed`.
    pub(crate) shed: Option<Setting<()>>,
    /// `slow = ".."`.
    pub(crate) slow: Option<Setting<Limit>>,
    /// `stuck = ".."`.
    pub(crate) stuck: Option<Setting<Limit>>,
    /// `high_water = n`.
    pub(crate) high_water: Option<Setting<u8>>,
    /// `local`.
    pub(crate) local: Option<Setting<()>>,
    /// `crate = path`.
    pub(crate) krate: Option<Setting<TokenStream>>,
    /// Whether something could not be read, so that what is `None` may have been said.
    pub(crate) flawed: bool,
}

/// A setting's value and the place of its name.
#[derive(Clone, Copy)]
pub(crate) struct Setting<T> {
    /// What it is set to.
    pub(crate) value: T,
    /// Where its name stands.
    pub(crate) span: Span,
}

impl<T> Setting<T> {
    fn place(&self) -> Span {
        self.span
    }
}

/// How long something may take, in milliseconds; `None` is no limit.
pub(crate) type Limit = Option<u64>;

impl Args {
    /// Reads the tokens between the parentheses. What is wrong goes to `errors`, and what is right is kept.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let before = errors.count();
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
        args.flawed = errors.count() > before;
        args
    }

    /// The path of the runtime crate.
    pub(crate) fn krate(&self) -> TokenStream {
        self.krate.as_ref().map_or_else(|| quote!(::skyhold), |setting| setting.value.clone())
    }

    /// Where the settings stand that only an implementation takes.
    pub(crate) fn of_an_implementation(&self) -> impl Iterator<Item = Span> {
        [
            self.name.as_ref().map(Setting::place),
            self.mailbox.as_ref().map(Setting::place),
            self.concurrency.as_ref().map(Setting::place),
            self.overflow.as_ref().map(Setting::place),
            self.queued.as_ref().map(Setting::place),
            self.shed.as_ref().map(Setting::place),
            self.slow.as_ref().map(Setting::place),
            self.stuck.as_ref().map(Setting::place),
            self.high_water.as_ref().map(Setting::place),
        ]
        .into_iter()
        .flatten()
    }

    fn setting(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let name = input.call(Ident::parse_any)?;
        match names::spoken(&name).as_str() {
            "name" => store(&mut self.name, &name, |name| service_name(name, input)),
            "mailbox" => store(&mut self.mailbox, &name, |name| count(name, input)),
            "concurrency" => store(&mut self.concurrency, &name, |name| count(name, input)),
            "overflow" => store(&mut self.overflow, &name, |name| choice(name, input, OVERFLOW)),
            "queued" => store(&mut self.queued, &name, |name| choice(name, input, QUEUED)),
            "shed" => store(&mut self.shed, &name, |name| flag(name, input)),
            "slow" => store(&mut self.slow, &name, |name| limit(name, input)),
            "stuck" => store(&mut self.stuck, &name, |name| limit(name, input)),
            "high_water" => store(&mut self.high_water, &name, |name| percent(name, input)),
            "local" => store(&mut self.local, &name, |name| flag(name, input)),
            "crate" => store(&mut self.krate, &name, |_| krate(input)),
            unknown => Err(syn::Error::new(name.span(), unknown_setting(unknown))),
        }
    }
}

/// The names of the settings, in the order in which they are listed.
const SETTINGS: &[&str] = &[
    "name",
    "mailbox",
    "concurrency",
    "overflow",
    "queued",
    "shed",
    "slow",
    "stuck",
    "high_water",
    "local",
    "crate",
];

/// What `overflow` may be, each with its variant of the runtime's `Overflow`.
const OVERFLOW: &[(&str, &str)] = &[("wait", "Wait"), ("reject", "Reject"), ("drop_oldest", "DropOldest")];

/// What `queued` may be, each with its variant of the runtime's `Queued`.
const QUEUED: &[(&str, &str)] = &[("keep", "Keep"), ("refuse", "Refuse")];

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

fn percent(name: &Ident, input: ParseStream<'_>) -> syn::Result<u8> {
    let form = format!("write `{name} = 80`: a percentage of the mailbox, from 1 to 100");
    let literal = value(name, input, &form)?;
    if let Lit::Int(number) = &literal
        && matches!(number.suffix(), "" | "u8")
        && let Ok(percent @ 1..=100) = number.base10_parse()
    {
        return Ok(percent);
    }
    Err(syn::Error::new_spanned(literal, form))
}

/// One of the texts in `known`: what stands beside it.
fn choice(
    name: &Ident,
    input: ParseStream<'_>,
    known: &[(&'static str, &'static str)],
) -> syn::Result<&'static str> {
    let texts: Vec<_> = known.iter().map(|(text, _)| *text).collect();
    let form = |meant: &str| format!("write `{name} = \"{meant}\"`: it is {}", listed(&texts, '"', "or"));
    let literal = value(name, input, &form(texts[0]))?;
    let Lit::Str(given) = &literal else { return Err(syn::Error::new_spanned(literal, form(texts[0]))) };
    let given = given.value();
    let chosen = known.iter().find(|(text, _)| *text == given).map(|(_, variant)| *variant);
    chosen.ok_or_else(|| {
        let meant = names::nearest(&given, &texts).unwrap_or(texts[0]);
        syn::Error::new_spanned(literal, form(meant))
    })
}

fn limit(name: &Ident, input: ParseStream<'_>) -> syn::Result<Limit> {
    let example = if name == "stuck" { "10s" } else { "1s" };
    let form = format!(
        "write `{name} = \"{example}\"`: a whole number from 1 with the unit `ms`, `s` or `m`, at most a day, or \
         \"off\""
    );
    let literal = value(name, input, &form)?;
    if let Lit::Str(text) = &literal {
        match text.value().as_str() {
            "off" => return Ok(None),
            text => {
                if let Some(length) = milliseconds(text) {
                    return Ok(Some(length));
                }
            }
        }
    }
    Err(syn::Error::new_spanned(literal, form))
}

/// The length of `250ms`, `1s` or `2m`, if it is at least a millisecond and at most a day.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    // A number's own parser would take a sign as well.
    let is_whole = digits.chars().all(|digit| digit.is_ascii_digit());
    let length = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (is_whole && (1..=DAY).contains(&length)).then_some(length)
}

/// A day, in milliseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// The literal after `name =`. Anything else there is answered with the accepted `form`.
fn value(name: &Ident, input: ParseStream<'_>, form: &str) -> syn::Result<Lit> {
    if !input.peek(Token![=]) {
        return Err(syn::Error::new(name.span(), form));
    }
    input.parse::<Token![=]>()?;
    let at = input.span();
    input.parse().map_err(|_| syn::Error::new(at, form))
}

fn flag(name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.peek(Token![,]) {
        return Ok(());
    }
    Err(input.error(format!("write `{name}` alone: it is a switch and takes no value")))
}

fn krate(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let form = |_| input.error("write `crate = path::to::skyhold`");
    input.parse::<Token![=]>().map_err(form)?;
    Path::parse_mod_style(input).map(ToTokens::into_token_stream).map_err(form)
}

fn unknown_setting(unknown: &str) -> String {
    let list = format!("the settings are {}", listed(SETTINGS, '`', "and"));
    match names::nearest(unknown, SETTINGS) {
        Some(meant) => format!("write `{meant}`: there is no setting `{unknown}`; {list}"),
        None => format!("{list}: there is no setting `{unknown}`"),
    }
}

/// The words in quotes, with commas between them and `last` before the last.
fn listed(words: &[&str], quote: char, last: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<TokenTree>()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_a_whole_number_and_a_unit() {
        let check = |text: &str, length| assert_eq!(milliseconds(text), length, "{text}");
        check("1ms", Some(1));
        check("250ms", Some(250));
        check("1s", Some(1_000));
        check("2m", Some(120_000));
        check("1440m", Some(86_400_000));
        for text in ["", "s", "1", "0s", "-1s", "+1s", "1.5s", "1 s", "1h", "1S", "1_000ms", "1ss", "s1", "ä"]
        {
            check(text, None);
        }
        for text in ["1441m", "86400001ms", "18446744073709551615m", "18446744073709551616ms"] {
            check(text, None);
        }
    }

    #[test]
    fn words_are_listed_as_a_person_lists_them() {
        assert_eq!(listed(&["a"], '`', "and"), "`a`");
        assert_eq!(listed(&["a", "b"], '"', "or"), "\"a\" or \"b\"");
        assert_eq!(listed(&["a", "b", "c"], '`', "and"), "`a`, `b` and `c`");
    }
}
