//! See `skyhold::fuzzing::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skyhold::fuzzing::handshake(data));
