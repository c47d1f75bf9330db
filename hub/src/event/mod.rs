//! The event log: every device-to-cloud message the hub accepted, in the order it accepted it.
//!
//! A [`Log`] is a few partitions, a partition is a folder of append-only segment files, a segment is a header and
//! records, a record holds one [`Event`] as bytes. One [`Appender`] writes, any number of [`Reader`]s read the files on
//! their own, so a slow or stopped reader costs nobody anything. What [`Appender::append`] answered `Ok` for is in the
//! operating system's hands: it survives `kill -9`. Surviving a power cut is a matter of [`Sync`].
//!
//! May not enter: topics, AMQP, routes, consumer groups, clocks. Callers bring the time and bytes, and get bytes back.

pub mod envelope;
mod error;
pub mod intake;
mod log;
mod partition;
mod reader;
mod recovery;
mod segment;
pub mod store;
mod writer;

pub use envelope::{Event, Malformed, Pairs};
pub use error::{Cut, Damage, Error};
pub use log::{Appended, Appender, Log, LogConfig, partition_for};
pub use partition::Properties;
pub use reader::{Batch, From, Reader, Record, Records};
pub use segment::MAX_ENVELOPE_BYTES;
pub use writer::Sync;
