//! See `skyhold::fuzzing::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skyhold::fuzzing::connection(data));
