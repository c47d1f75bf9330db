pub mod auth;
pub mod config;
pub mod device;
pub mod error;
pub mod event;
mod keys;
pub mod policies;
pub mod registry;
mod twin;
