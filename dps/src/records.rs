//! How records are written, and where registrations are kept.

use azimuth_storage::{Key, Store};
use serde::Serialize;

use crate::error::Error;
use crate::registration::Record;

/// A record as the store holds it.
pub fn write<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are structs with text keys")
}

/// Where declarations are kept, beside what was made of them.
pub const DECLARATIONS: &str = "declarations";

/// Of the registration with this folded id.
pub fn registration_key(id: &str) -> Key {
    Key::new("registrations", id)
}

/// The registration with this folded id.
pub fn registration(store: &dyn Store, id: &str) -> Result<Option<Record>, Error> {
    let key = registration_key(id);
    let Some(document) = store.get(&key)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&document.body);
    record
        .map(Some)
        .map_err(|_| Error::Damaged(key.to_string()))
}
