//! Any bytes through the MQTT decoder and the session: no panic, no endless loop, nothing held beyond
//! the limit of a packet.
#![no_main]

include!("../../broker/tests/fuzz/session.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    use azimuth_clock::Clock;
    converse(bytes, azimuth_clock::SystemClock.now());
});
