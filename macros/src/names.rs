//! Every name and number that the macro derives from what the user wrote: variants, default names, wire ids.
//!
//! Nothing here may depend on spans, on spacing or on how a compiler version prints tokens: a wire id made from
//! such a thing would change under the user's feet.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt;

/// The name as a user says it: without `r#`.
pub(crate) fn spoken(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The variant of the message enum that stands for the method `name`, spanned at the method's name.
pub(crate) fn variant(name: &Ident) -> Ident {
    let camel: String = spoken(name).split('_').map(capitalised).collect();
    let starts_badly = !camel.starts_with(|first: char| first.is_alphabetic());
    match camel.as_str() {
        "Self" => Ident::new("Self_", name.span()),
        _ if starts_badly => Ident::new(&format!("_{camel}"), name.span()),
        _ => Ident::new(&camel, name.span()),
    }
}

/// `MemoryBank` as `memory_bank`: the name under which a service runs when its settings give none.
pub(crate) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, &letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && !letters[at - 1].is_uppercase() && letters[at - 1] != '_';
        let before_lower = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        let ends_acronym = at > 0 && letters[at - 1].is_uppercase() && before_lower;
        if letter.is_uppercase() && (after_lower || ends_acronym) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// An identifier made of `base` and `suffix`, spanned at `base` so that an editor finds the user's type.
pub(crate) fn suffixed(base: &Ident, suffix: &str) -> Ident {
    Ident::new(&format!("{}{suffix}", spoken(base)), base.span())
}

/// FNV-1a, 32 bits, of `bytes`.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The wire id of the method called `name`.
pub(crate) fn name_id(name: &str) -> u32 {
    fnv1a(name.bytes())
}

/// The wire id of `(arguments) -> reply`: argument names, docs and `async` have no part in it.
pub(crate) fn signature_id<'a>(
    arguments: impl IntoIterator<Item = &'a TokenStream>,
    reply: &TokenStream,
) -> u32 {
    let mut bytes = Vec::new();
    write_token(&mut bytes, "(");
    for argument in arguments {
        write_tokens(&mut bytes, argument.clone());
        write_token(&mut bytes, ",");
    }
    write_token(&mut bytes, ")");
    write_token(&mut bytes, "->");
    write_tokens(&mut bytes, reply.clone());
    fnv1a(bytes)
}

/// `tokens` with `Self` replaced by `self_ty`; `Self::X` becomes `<self_ty>::X`.
pub(crate) fn without_self(tokens: TokenStream, self_ty: &TokenStream) -> TokenStream {
    let mut replaced = TokenStream::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                let is_prefix = matches!(rest.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                let ty = located(self_ty.clone(), ident.span());
                replaced.extend(if is_prefix { quote::quote_spanned!(ident.span()=> <#ty>) } else { ty });
            }
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_self(group.stream(), self_ty));
                inner.set_span(group.span());
                replaced.extend([TokenTree::Group(inner)]);
            }
            other => replaced.extend([other]),
        }
    }
    replaced
}

/// `tokens` at the place of `span`, with their own hygiene: what the compiler says about them points there.
pub(crate) fn located(tokens: TokenStream, span: Span) -> TokenStream {
    let at = |token: TokenTree| {
        let hygiene = token.span();
        let mut token = match token {
            TokenTree::Group(group) => Group::new(group.delimiter(), located(group.stream(), span)).into(),
            other => other,
        };
        token.set_span(span.resolved_at(hygiene));
        token
    };
    tokens.into_iter().map(at).collect()
}

/// Tells whether `tokens` say any of the names in `idents`.
pub(crate) fn mentions(tokens: &TokenStream, idents: &[Ident]) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => idents.contains(&ident),
        TokenTree::Group(group) => mentions(&group.stream(), idents),
        _ => false,
    })
}

/// `tokens` as a person writes them, for use inside a message.
pub(crate) fn shown(tokens: TokenStream) -> String {
    let mut text = String::new();
    for token in tokens {
        let piece = match token {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group.delimiter());
                format!("{open}{}{close}", shown(group.stream()))
            }
            TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => format!("{punct} "),
            TokenTree::Punct(punct) if punct.as_char() == '+' => " + ".to_owned(),
            other => other.to_string(),
        };
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        if text.ends_with(is_word) && piece.starts_with(is_word) {
            text.push(' ');
        }
        text.push_str(&piece);
    }
    text.trim_end().to_owned()
}

/// The one of `known` that `word` was probably meant to be: at most every third letter is another, as in rustc's
/// `find_best_match_for_name`.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, name) = known.iter().map(|name| (edits(word, name), *name)).min()?;
    (distance <= word.chars().count().max(3) / 3).then_some(name)
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn write_tokens(bytes: &mut Vec<u8>, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = delimiters(group.delimiter());
                write_token(bytes, open);
                write_tokens(bytes, group.stream());
                write_token(bytes, close);
            }
            TokenTree::Ident(ident) => write_token(bytes, &ident.to_string()),
            TokenTree::Punct(punct) => write_token(bytes, punct.as_char().encode_utf8(&mut [0; 4])),
            TokenTree::Literal(literal) => write_token(bytes, &literal.to_string()),
        }
    }
}

/// Invisible groups come from `macro_rules` and are not part of what the user wrote: they leave no bytes.
fn write_token(bytes: &mut Vec<u8>, token: &str) {
    if !token.is_empty() {
        bytes.extend_from_slice(token.as_bytes());
        bytes.push(0); // a separator, so that `ab c` and `a bc` differ
    }
}

fn delimiters(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::None => ("", ""),
    }
}

/// Levenshtein's distance, one row at a time.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::{format_ident, quote};

    #[test]
    fn wire_ids_are_fnv_1a() {
        let check = |name: &str, id: u32| assert_eq!(name_id(name), id, "{name}");
        check("", 0x811c_9dc5);
        check("a", 0xe40c_292c);
        check("foobar", 0xbf9c_f968);
        assert_eq!(name_id("costarring"), name_id("liquid"), "the collision that the compile-fail case uses");
    }

    #[test]
    fn signature_id_ignores_spacing_and_groups_but_not_types() {
        let id = |arguments: &[TokenStream], reply: TokenStream| signature_id(arguments, &reply);
        let invisible = TokenTree::Group(Group::new(Delimiter::None, quote!(u64)));
        assert_eq!(id(&[quote!(u64)], quote!(())), id(&[quote!(#invisible)], quote!(())));
        assert_eq!(id(&[quote!(Vec<Vec<u8>>)], quote!(())), id(&[quote!(Vec<Vec<u8>>)], quote!(())));
        assert_ne!(id(&[quote!(u64)], quote!(())), id(&[quote!(u32)], quote!(())));
        assert_ne!(id(&[quote!(u64)], quote!(())), id(&[], quote!(u64)));
        assert_ne!(id(&[quote!(a), quote!(b)], quote!(())), id(&[quote!(ab)], quote!(())));
    }

    #[test]
    fn a_signature_id_never_changes() {
        // The value is part of the wire: a node of another version must compute the same.
        assert_eq!(signature_id(&[quote!(u64), quote!(String)], &quote!(Result<u64, String>)), 0x2f7d_04b4);
    }

    #[test]
    fn variants_are_camel_case_identifiers() {
        let check = |name: Ident, expected: &str| assert_eq!(variant(&name).to_string(), expected);
        check(format_ident!("add"), "Add");
        check(format_ident!("get_or_insert"), "GetOrInsert");
        check(Ident::new_raw("type", Span::call_site()), "Type");
        check(format_ident!("self_"), "Self_");
        check(format_ident!("_1"), "_1");
        check(format_ident!("URL_of"), "URLOf");
    }

    #[test]
    fn default_names_are_snake_case() {
        let check = |name: &str, expected: &str| assert_eq!(snake(name), expected);
        check("Counter", "counter");
        check("MemoryBank", "memory_bank");
        check("HTTPServer", "http_server");
        check("KvV2", "kv_v2");
        check("Already_Split", "already_split");
    }

    #[test]
    fn self_is_replaced_wherever_it_stands() {
        let check = |from: TokenStream, to: TokenStream| {
            assert_eq!(shown(without_self(from, &quote!(Cache<K>))), shown(to));
        };
        check(quote!(Self), quote!(Cache<K>));
        check(quote!(Option<(Self, u8)>), quote!(Option<(Cache<K>, u8)>));
        check(quote!(Self::Item), quote!(<Cache<K>>::Item));
        check(quote!([u8; Self::N]), quote!([u8; <Cache<K>>::N]));
    }

    #[test]
    fn types_are_shown_as_a_person_writes_them() {
        let check = |tokens: TokenStream, text: &str| assert_eq!(shown(tokens), text);
        check(quote!(Vec<(u8, String)>), "Vec<(u8, String)>");
        check(quote!(std::path::Path), "std::path::Path");
        check(quote!([u8; 4]), "[u8; 4]");
        check(quote!(dyn Fn() + Send), "dyn Fn() + Send");
    }

    #[test]
    fn nearest_guesses_only_when_it_is_near() {
        let known = ["name", "mailbox", "concurrency"];
        assert_eq!(nearest("mailbx", &known), Some("mailbox"));
        assert_eq!(nearest("nam", &known), Some("name"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("thread", &["shed"]), None);
        assert_eq!(nearest("", &known), None);
    }
}
