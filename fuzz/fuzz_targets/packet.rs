//! MQTT packets. See `checks/packet.rs` for what is demanded.
#![no_main]

#[path = "../checks/packet.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
