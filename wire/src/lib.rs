//! Azure's words: identifiers, keys, tokens, topics, JSON shapes and error numbers, as types.
//!
//! A string from outside becomes one of these once, at the edge. What may not enter: I/O, async,
//! clocks, randomness, and every decision about who may do what.

pub mod api_version;
pub mod ca_certificate;
pub mod connection_string;
pub mod device_id;
pub mod enrollment;
pub mod error_code;
pub mod etag;
pub mod job;
pub mod key;
pub mod linked_hub;
mod members;
pub mod message;
pub mod percent;
pub mod policy;
pub mod registration;
pub mod registration_id;
pub mod registry;
pub mod sas;
pub mod time;
pub mod topic;
pub mod twin;
pub mod user_name;

pub use device_id::{DeviceId, Identity, ModuleId};
pub use error_code::ErrorCode;
pub use key::SymmetricKey;
pub use registration_id::{EnrollmentGroupId, IdScope, RegistrationId};
