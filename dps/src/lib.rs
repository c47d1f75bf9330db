//! A Device Provisioning Service: who may register, which hub a device gets, and the device's
//! identity in that hub.
//!
//! It reaches hubs as Azure's does, over their service REST API with a linked hub's connection
//! string. What may not enter: anything of the hub's crate, and sockets of devices (the front door
//! has them).
//!
//! ```text
//!  device ─ front door ─► device ── attestation ◄── enrollment ◄── rest ◄─ back end
//!                           │ register                  │ store
//!                           ▼                           ▼
//!                        assigner ── allocation, registration (pure) ── linked_hub ─► hub
//!                           │ record, then result
//!                           ▼
//!              poll ──► operation
//! ```

pub mod allocation;
mod answer;
mod assigner;
mod attempt;
pub mod attestation;
mod challenges;
pub mod config;
mod delivery;
mod device;
pub mod enrollment;
pub mod error;
mod explain;
mod explanation;
mod fingerprint;
mod linked_hub;
mod linked_hubs;
pub mod operation;
mod policies;
pub mod quota;
mod records;
mod registrant;
pub mod registration;
mod rest;
mod service;
#[cfg(test)]
mod stub_hub;

pub use azimuth_broker::Regions;
pub use config::{
    AssignedHubForm, DpsConfig, LinkedHubConfig, Pace, PolicyConfig, PolicyKeySource,
};
pub use error::Error;
pub use service::{Dps, RunningDps};
