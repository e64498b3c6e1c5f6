//! The one facade over randomness: the operating system's for nonces, a seeded generator for jitter.
//!
//! Invariant: nothing else in the crate asks for randomness; cores get it as an argument.

#![expect(clippy::disallowed_methods, reason = "this file owns randomness")]

use std::io;

/// 32 bytes that nobody can foresee.
pub(crate) fn nonce() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// A generator for jitter, from a seed: the same seed gives the same numbers.
pub(crate) fn seeded(seed: u64) -> fastrand::Rng {
    fastrand::Rng::with_seed(seed)
}
