//! Who is there, and what runs where.
//!
//! Today a node knows the peers that it is connected with, and what each says of itself. `introductions` is the place
//! of a membership protocol; `directory` holds the names; `withdrawal` waits until peers have forgotten some; `coordinator`
//! is the task that owns them all.

pub(crate) mod coordinator;
pub(crate) mod directory;
pub(crate) mod introductions;
pub(crate) mod withdrawal;
