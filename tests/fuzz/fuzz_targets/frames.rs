//! See `skyhold::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skyhold::fuzzing::frames(data));
