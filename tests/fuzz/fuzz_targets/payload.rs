//! See `skyhold::fuzzing::payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skyhold::fuzzing::payload(data));
