//! An IoT hub: device identities, connection state, the event log, and the refusals of all of them.
//!
//! May not enter: anything of the Device Provisioning Service, which speaks to a hub over REST only.
//!
//! ```text
//!  MQTT ── front door ── device ──┬─ auth (who may enter)      ┌─ registry ── store
//!                                 ├─ event/intake ─► lane ─► event/store ─► event log
//!  HTTPS ─ front door ── rest ────┴─ auth, registry (with twins), event log, refusals, job ── blob
//!
//!  registry, device ─► notification ─┬─► lane ─► event log
//!                                    └─► event_grid ─► webhooks
//! ```

pub mod auth;
mod blob;
pub mod config;
pub mod device;
pub mod error;
pub mod event;
pub mod event_grid;
pub mod job;
mod keys;
pub mod notification;
pub mod policies;
pub mod query;
pub mod quota;
pub mod registry;
pub mod rest;
mod service;
mod twin;

pub use config::{ConnectionStateReports, HubConfig, PolicyKeySource};
pub use error::Error;
pub use policies::published_connection_string;
pub use quota::{Plan, Tier};
pub use registry::Row;
pub use service::{Hub, RunningHub};
