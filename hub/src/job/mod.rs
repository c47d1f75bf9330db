//! Import and export of the registry: one job at a time, on a thread of its own.
//!
//! ```text
//!  POST /jobs/create ──► desk ── checks the containers ──► enqueued ─► running ─► completed
//!                                                                        ├──────► failed
//!                        blob ◄── lines, import_line, export_line ◄──────┴──────► cancelled
//! ```
//!
//! A job never waits on the hub's thread and the hub never on a job's. What a job was told of containers is
//! nowhere but in the memory of that thread. May not enter: HTTP, how blobs are read and written.

mod desk;
mod export;
pub mod export_line;
mod import;
pub mod import_line;
pub mod lines;
mod record;
mod work;

pub use desk::{JobConfig, Jobs};
pub use record::Job;
