//! The token that whoever asks has to say.
//!
//! Invariant: how long a comparison takes says nothing about it.

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::config::Secret;
use crate::error::StartError;

/// What a token may be made of beside letters and digits (RFC 6750).
const SIGNS: &[u8] = b"-._~+/=";

const BEARER: &[u8] = b"Bearer ";

/// A token's hash, so that how long a comparison takes says nothing about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct Token([u8; 32]);

impl Token {
    pub(in crate::node) fn of(secret: &Secret) -> Result<Self, StartError> {
        let bytes = secret.as_bytes();
        let is_usable = |byte: &u8| byte.is_ascii_alphanumeric() || SIGNS.contains(byte);
        if !bytes.iter().all(is_usable) {
            let problem =
                "has what cannot stand in a header; letters, digits and `-._~+/=` are expected".to_owned();
            return Err(StartError::InvalidSetting { setting: "admin_token", problem });
        }
        Ok(Self(Sha256::digest(bytes).into()))
    }

    /// Whether a request has said it.
    pub(in crate::node) fn is_in<B>(self, request: &Request<B>) -> bool {
        let said = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = said.and_then(|said| said.split_at_checked(BEARER.len()));
        token.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case(BEARER) && self == Self(Sha256::digest(token).into())
        })
    }
}
