//! Who is there, and what runs where.
//!
//! `discovery` is where the first peers are found; `membership` finds out who lives; `introductions` connects those who do not know each other; `directory` holds the names;
//! `withdrawal` waits until peers have forgotten some; `coordinator` is the task that owns them all.

pub(crate) mod coordinator;
pub(crate) mod directory;
pub(crate) mod discovery;
pub(crate) mod introductions;
pub(crate) mod membership;
pub(crate) mod withdrawal;
