//! How records are written, and where registrations are kept.
//!
//! Beside each registration of a group stands its name in the list of that group, so that listing a
//! group costs what the group holds. Both are written in one commit.

use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::EnrollmentGroupId;
use azimuth_wire::registration::RegistrationState;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    Key::new(REGISTRATIONS, id)
}

/// The registration with this folded id.
pub fn registration(store: &dyn Store, id: &str) -> Result<Option<Record>, Error> {
    Ok(versioned(store, id)?.map(|(record, _)| record))
}

/// The same, with the version of what is stored.
pub fn versioned(store: &dyn Store, id: &str) -> Result<Option<(Record, u64)>, Error> {
    let key = registration_key(id);
    let Some(document) = store.get(&key)? else {
        return Ok(None);
    };
    Ok(Some((read(&key, &document.body)?, document.version)))
}

/// What storing `record` changes, where `before` is there.
pub fn put(id: &str, before: Option<&Record>, record: &Record) -> Vec<Change> {
    put_if(id, Expect::Anything, before, record)
}

/// The same, unless somebody else wrote since `before` was read.
pub fn put_unless_changed(
    id: &str,
    before: Option<&(Record, u64)>,
    record: &Record,
) -> Vec<Change> {
    let expect = before.map_or(Expect::Absent, |(_, version)| Expect::Version(*version));
    put_if(id, expect, before.map(|(before, _)| before), record)
}

fn put_if(id: &str, expect: Expect, before: Option<&Record>, record: &Record) -> Vec<Change> {
    let mut changes = vec![Change::put(registration_key(id), expect, write(record))];
    if let Some(left) = before.and_then(|before| before.group.as_ref())
        && Some(left) != record.group.as_ref()
    {
        changes.push(Change::delete(listed_key(left, id), Expect::Anything));
    }
    if let Some(group) = &record.group {
        changes.push(Change::put(
            listed_key(group, id),
            Expect::Anything,
            Vec::new(),
        ));
    }
    changes
}

/// What forgetting a registration changes.
pub fn delete(id: &str, before: &Record, expect: Expect) -> Vec<Change> {
    let mut changes = vec![Change::delete(registration_key(id), expect)];
    if let Some(group) = &before.group {
        changes.push(Change::delete(listed_key(group, id), Expect::Anything));
    }
    changes
}

/// Registrations of a group, by id, behind the one with the folded id `after`; and the id to go on
/// from when there are more.
pub fn of_group(
    store: &dyn Store,
    group: &EnrollmentGroupId,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<RegistrationState>, Option<String>), Error> {
    let prefix = listed_name(group, "");
    let after = after.map(|id| listed_key(group, id));
    let page = store.scan(LISTED, &prefix, after.as_ref(), limit)?;
    let id_of = |key: &Key| key.name()[prefix.len()..].to_owned();
    let mut states = Vec::with_capacity(page.documents.len());
    for (key, _) in &page.documents {
        // Forgotten, or gone to another group, since the names were read.
        let record = registration(store, &id_of(key))?;
        let record = record.filter(|record| record.group.as_ref() == Some(group));
        states.extend(record.map(|record| record.state));
    }
    Ok((states, page.next.as_ref().map(id_of)))
}

/// Lists what a store from before the lists holds; once.
pub async fn list_registrations(store: &dyn Store) -> Result<(), Error> {
    let done = Key::new("service", LISTED);
    if store.get(&done)?.is_some() {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = store.scan(REGISTRATIONS, "", after.as_ref(), 500)?;
        let mut changes = Vec::new();
        for (key, document) in &page.documents {
            let record: Record = read(key, &document.body)?;
            if let Some(group) = &record.group {
                let listed = listed_key(group, key.name());
                changes.push(Change::put(listed, Expect::Anything, Vec::new()));
            }
        }
        after = page.next;
        if after.is_none() {
            changes.push(Change::put(done, Expect::Anything, Vec::new()));
            store.commit(changes).await?;
            return Ok(());
        }
        store.commit(changes).await?;
    }
}

/// A record as it was written.
pub fn read<T: DeserializeOwned>(key: &Key, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Damaged(key.to_string()))
}

/// Every record of a room that holds few.
pub fn all<T: DeserializeOwned>(store: &dyn Store, room: &'static str) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.scan(room, "", after.as_ref(), 100)?;
        for (key, document) in &page.documents {
            found.push(read(key, &document.body)?);
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn listed_key(group: &EnrollmentGroupId, id: &str) -> Key {
    Key::new(LISTED, &listed_name(group, id))
}

/// No id holds a slash: the names of one group never begin like those of another.
fn listed_name(group: &EnrollmentGroupId, id: &str) -> String {
    format!("{}/{id}", group.folded())
}

const REGISTRATIONS: &str = "registrations";
const LISTED: &str = "registrationsOfGroups";

#[cfg(test)]
mod tests;
