//! The hub through its two doors, without sockets, in made-up time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod at_once;
mod bad_bodies;
mod bulk;
mod ca_certificates;
mod certificates;
mod desk;
mod device_tokens;
mod edge;
mod jobs;
mod keys;
mod layer;
mod lines;
mod messages;
mod modules;
mod notifications;
mod preconditions;
mod query;
mod refusals;
mod registry;
mod service_tokens;
mod storage_account;
mod tiers;
mod twins;
mod webhooks;
