//! What the project promises, seen from outside. A test's name is the claim that it proves.

mod calls;
mod handshake;
mod raw;
mod concurrency;
mod gate;
