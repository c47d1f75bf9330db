//! The event log through its public face, on a real disk, with made-up time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod damage;
mod folder;
mod kill;
mod model;
mod rows;
