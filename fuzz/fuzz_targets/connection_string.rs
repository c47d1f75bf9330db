//! Connection strings. See `checks/connection_string.rs` for what is demanded.
#![no_main]

#[path = "../checks/connection_string.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
