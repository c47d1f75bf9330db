//! Shared access signatures. See `checks/sas.rs` for what is demanded.
#![no_main]

#[path = "../checks/sas.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
