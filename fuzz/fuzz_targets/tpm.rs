//! TPM structures. See `checks/tpm.rs` for what is demanded.
#![no_main]

#[path = "../checks/tpm.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
