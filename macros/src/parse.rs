//! Reads the item under `#[service]` as far as the macro must know it.
//!
//! The bodies of methods stay unparsed: they are the compiler's business, and reading them would only cost time.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Generics, Ident, ImplItem, ItemStruct, Path, Result, Signature, Token, TraitItem, Type,
    TypeParamBound, Visibility, braced, token,
};

/// An item that `#[service]` may stand on.
pub(crate) enum Item {
    /// `impl Counter { .. }` or `impl Bank for MemoryBank { .. }`.
    Impl(Box<ImplBlock>),
    /// `trait Bank { .. }`.
    Trait(Box<TraitBlock>),
    /// `struct Counter { .. }`.
    Struct(Box<ItemStruct>),
}

/// An `impl` block.
pub(crate) struct ImplBlock {
    /// The attributes below `#[service]`.
    pub(crate) attrs: Vec<Attribute>,
    /// The parameters and the where clause.
    pub(crate) generics: Generics,
    /// The contract it implements, if any.
    pub(crate) contract: Option<Path>,
    /// What it is for.
    pub(crate) self_ty: Type,
    /// What stands between the braces.
    pub(crate) members: Vec<Member>,
}

/// A `trait`.
pub(crate) struct TraitBlock {
    /// The attributes below `#[service]`.
    pub(crate) attrs: Vec<Attribute>,
    /// Its visibility.
    pub(crate) vis: Visibility,
    /// Its name.
    pub(crate) ident: Ident,
    /// The parameters and the where clause.
    pub(crate) generics: Generics,
    /// What stands after its colon.
    pub(crate) supertraits: Punctuated<TypeParamBound, Token![+]>,
    /// What stands between the braces.
    pub(crate) members: Vec<Member>,
}

/// What stands in the braces of an `impl` or a `trait`.
pub(crate) enum Member {
    /// A function, with a receiver or without.
    Method(Box<MethodItem>),
    /// An associated type.
    Type(TokenStream),
    /// A constant or the call of a macro.
    Other(TokenStream),
}

/// A function in an `impl` or a `trait`.
pub(crate) struct MethodItem {
    /// Its attributes.
    pub(crate) attrs: Vec<Attribute>,
    /// Its visibility.
    pub(crate) vis: Visibility,
    /// Everything before the body.
    pub(crate) sig: Signature,
    /// The body with its braces; in a trait there may be none.
    pub(crate) body: Option<TokenStream>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let ahead = input.fork();
        ahead.call(Attribute::parse_outer)?;
        ahead.parse::<Visibility>()?;
        if ahead.peek(Token![unsafe]) {
            return Err(ahead.error("remove `unsafe`: a service is safe to run"));
        }
        if ahead.peek(Token![impl]) {
            return input.parse().map(|block| Item::Impl(Box::new(block)));
        }
        if ahead.peek(Token![trait]) {
            return input.parse().map(|block| Item::Trait(Box::new(block)));
        }
        if ahead.peek(Token![struct]) {
            return input.parse().map(Item::Struct);
        }
        Err(Error::new(ahead.span(), wrong_item(ahead.parse().ok())))
    }
}

impl Parse for ImplBlock {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Token![impl]>()?;
        let mut generics: Generics = input.parse()?;
        if input.peek(Token![!]) {
            return Err(input.error("write `impl Contract for Type`: a service cannot be a negative impl"));
        }
        let first: Type = input.parse()?;
        let (contract, self_ty) = if input.parse::<Option<Token![for]>>()?.is_some() {
            (Some(contract_path(first)?), input.parse()?)
        } else {
            (None, first)
        };
        generics.where_clause = input.parse()?;
        let members = members(input, &mut attrs, other_in_impl)?;
        Ok(Self { attrs, generics, contract, self_ty, members })
    }
}

impl Parse for TraitBlock {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![trait]>()?;
        let ident = input.parse()?;
        let mut generics: Generics = input.parse()?;
        let mut supertraits = Punctuated::new();
        if input.parse::<Option<Token![:]>>()?.is_some() {
            while !input.peek(Token![where]) && !input.peek(token::Brace) {
                supertraits.push_value(input.parse()?);
                if !input.peek(Token![+]) {
                    break;
                }
                supertraits.push_punct(input.parse()?);
            }
        }
        generics.where_clause = input.parse()?;
        let members = members(input, &mut attrs, other_in_trait)?;
        Ok(Self { attrs, vis, ident, generics, supertraits, members })
    }
}

impl ToTokens for MethodItem {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.attrs.iter().map(ToTokens::to_token_stream));
        self.vis.to_tokens(tokens);
        self.sig.to_tokens(tokens);
        match &self.body {
            Some(body) => body.to_tokens(tokens),
            None => token::Semi::default().to_tokens(tokens),
        }
    }
}

fn contract_path(ty: Type) -> Result<Path> {
    match ty {
        Type::Path(path) if path.qself.is_none() => Ok(path.path),
        other => {
            Err(Error::new_spanned(other, "write the path of a contract, as in `impl Bank for MemoryBank`"))
        }
    }
}

fn members(
    input: ParseStream<'_>,
    attrs: &mut Vec<Attribute>,
    other: fn(ParseStream<'_>) -> Result<Member>,
) -> Result<Vec<Member>> {
    let content;
    braced!(content in input);
    attrs.extend(content.call(Attribute::parse_inner)?);
    let mut members = Vec::new();
    while !content.is_empty() {
        let ahead = content.fork();
        let attrs = ahead.call(Attribute::parse_outer)?;
        let vis = ahead.parse()?;
        if !starts_a_function(&ahead) {
            members.push(other(&content)?);
            continue;
        }
        content.advance_to(&ahead);
        let sig = content.parse()?;
        let body = match content.parse::<Option<Token![;]>>()? {
            Some(_) => None,
            None => Some(body(&content)?),
        };
        members.push(Member::Method(Box::new(MethodItem { attrs, vis, sig, body })));
    }
    Ok(members)
}

fn starts_a_function(input: ParseStream<'_>) -> bool {
    let has_qualifier = input.peek(Token![async]) || input.peek(Token![unsafe]) || input.peek(Token![extern]);
    let is_const_item = input.peek(Token![const]) && (input.peek2(Ident) || input.peek2(Token![_]));
    input.peek(Token![fn]) || has_qualifier || (input.peek(Token![const]) && !is_const_item)
}

fn body(input: ParseStream<'_>) -> Result<TokenStream> {
    if !input.peek(token::Brace) {
        return Err(input.error("expected a body in braces"));
    }
    input.parse::<TokenTree>().map(TokenStream::from)
}

fn other_in_impl(input: ParseStream<'_>) -> Result<Member> {
    Ok(match input.parse()? {
        ImplItem::Type(ty) => Member::Type(ty.into_token_stream()),
        other => Member::Other(other.into_token_stream()),
    })
}

fn other_in_trait(input: ParseStream<'_>) -> Result<Member> {
    Ok(match input.parse()? {
        TraitItem::Type(ty) => Member::Type(ty.into_token_stream()),
        other => Member::Other(other.into_token_stream()),
    })
}

fn wrong_item(keyword: Option<TokenTree>) -> String {
    let forms = "put `#[service]` on an `impl` block, a `trait` or a `struct`";
    match keyword.map(|keyword| keyword.to_string()).as_deref() {
        Some(kind @ ("enum" | "union")) => format!("{forms}: of this {kind}, that is its `impl` block"),
        Some("fn" | "async" | "const" | "extern") => {
            format!("{forms}: a function is a message only as a method")
        }
        Some("mod") => format!("{forms}: a module is not a service"),
        _ => forms.to_owned(),
    }
}
