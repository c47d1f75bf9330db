//! The front door of a hub and of a DPS: TLS, MQTT 3.1.1, HTTPS, keep-alive, sessions,
//! acknowledgements, wills, takeover, limits.
//!
//! A service is a [`Backend`] behind it and decides who may enter and what a topic means. What may
//! not enter: Azure's topics, shared access signatures, documents.
//!
//! ```text
//!  socket ─ tls ─ connection ── session (pure) ── Backend::publish ─► router lane ─► Consumer (stores)
//!                     ▲                                                                    │
//!                     └───────────────── acknowledged once stored ◄────────────────────────┘
//!  Line::deliver ─────┘   what a service sends to one device goes straight to its connection
//! ```

pub mod backend;
mod connection;
mod delay;
mod distant;
pub mod error;
pub mod filter;
pub mod front_door;
mod https;
pub mod inflight;
pub mod line;
mod listener;
pub mod packet;
pub mod presence;
pub mod refusal;
pub mod region;
mod request_body;
mod router;
pub mod session;
mod sessions;
mod storing;
mod stream;
mod upgrade;
mod websocket;

pub use backend::{
    Admission, Backend, Consumer, Envelopes, Granted, Hello, Inward, Lane, Outbound, Owner, Peer,
    Principal, Publish, QoS, Secret, Will,
};
pub use error::Error;
pub use front_door::{Behind, FrontDoor, FrontDoorConfig, Limits};
pub use line::{CloseReason, Line};
pub use presence::Presence;
pub use refusal::{Answer, Ledger, Operation, Record, Refusal};
pub use region::{RegionalDelay, Regions};
pub use router::RouterFigures;
pub use storing::{Storing, UnderWay};
