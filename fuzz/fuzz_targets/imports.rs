//! See `auditor_tests::hostile`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| auditor_tests::hostile::imports(bytes));
