//! JSON bodies of devices, back ends and webhooks. See `checks/bodies.rs` for what is demanded.
#![no_main]

#[path = "../checks/bodies.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
