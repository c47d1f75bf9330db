//! MQTT topics of a hub and of a DPS. `FromStr`-like parsers and `Display` undo each other; no other
//! file writes `$iothub/` or `$dps/`.

pub mod dps;
pub mod hub;
