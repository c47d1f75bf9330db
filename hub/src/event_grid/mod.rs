//! Event Grid: events of a hub, sent to webhooks that asked for them.
//!
//! A subscription, the handshake, the queue with its retries and the JSON are pure; [`Post`] keeps what waits in the store,
//! asks the webhook and lays down what cannot be delivered. May not enter: what happens to identities.
//!
//! ```text
//!  notification ─► store, in the commit of an identity ─► Queue ─► webhook ─► gone from the store
//!                                                          │ ▲
//!                                                          ▼ └─ again after a while
//!                                                     dead letters
//! ```

mod delivery;
mod event;
mod handshake;
mod post;
mod queue;
mod subscription;

pub use event::{GridEvent, topic};
pub use post::{Post, PostOffice, Status, forget_others};
pub use queue::{Queue, Waiting};
pub use subscription::{Batch, EventType, Retry, Schema, Subscription, subject};
