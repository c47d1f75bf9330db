//! The table `[monitor]`: whose heartbeats are expected, and how often.
//!
//! What may not enter: what is done when one is late.

use std::collections::BTreeMap;

use azimuth_monitor::{Grace, Span};
use serde::Deserialize;

/// How devices are watched. What is absent is as flags say, or as usual.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MonitorSection {
    pub interval: Option<Span>,
    pub grace: Option<Grace>,
    /// Intervals of single devices, and of all whose ids begin alike: `"lamp-*" = "30s"`.
    pub devices: BTreeMap<String, Span>,
    /// The tag with a device's interval in seconds.
    pub tag: Option<String>,
    pub expect_all: bool,
    /// Only messages with this application property are heartbeats: `heartbeat=true`.
    pub property: Option<String>,
    pub refresh: Option<Span>,
    pub since: Option<String>,
    pub webhook: Option<String>,
}
