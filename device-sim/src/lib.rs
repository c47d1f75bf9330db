//! Fleets of simulated devices, and what they measure.
//!
//! A [`Plan`] says how many devices, under which names and keys, how fast and for how long; a
//! [`Fleet`] carries it out against any endpoint shaped like Azure's and ends with a [`Report`].
//! What may not enter: the hub, the DPS, the front door, and how figures are shown on a screen.
//!
//! ```text
//! plan ──► fleet ──► one task per device: transport (socket, TLS, packets)
//!                        ▲ outputs   │ packets, time
//!                        └─ device (pure) ─► step ─► observer
//!                               └─► progress, latency, faults ─► report
//! ```

mod body;
mod chance;
mod descriptors;
mod device;
mod error;
mod fault;
mod fleet;
mod hello;
mod https;
mod latency;
mod life;
mod plan;
mod progress;
mod report;
mod resolve;
mod sources;
mod step;
mod transport;

pub use error::PlanError;
pub use fault::{Fault, FaultKind};
pub use fleet::Fleet;
pub use plan::{BackOff, Credential, Dps, Plan, Shard, Who};
pub use progress::{Progress, Snapshot};
pub use report::{Devices, FaultRow, HubRow, Latency, Messages, Outages, Report};
pub use sources::Sources;
pub use step::{Observer, Silent, Step};
