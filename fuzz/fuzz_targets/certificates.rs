//! Certificates, chains and proofs of possession. See `checks/certificates.rs` for what is demanded.
#![no_main]

#[path = "../checks/certificates.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
