//! Topics, filters, property bags and user names. See `checks/topic.rs` for what is demanded.
#![no_main]

#[path = "../checks/topic.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
