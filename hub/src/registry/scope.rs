//! Which device stands behind which edge device: scopes, and what a write may do to them. Pure.
//!
//! An edge device has a scope of its own from the day it becomes one; a device behind it has that as its
//! `deviceScope`, an edge device behind another has it in its `parentScopes`. May not enter: sessions on
//! behalf of another, look-ups.

use azimuth_wire::DeviceId;

use super::Identity;
use crate::error::Error;

/// What a body says of it.
pub(super) struct Asked<'a> {
    pub iot_edge: bool,
    pub device_scope: Option<&'a str>,
    pub parent_scopes: &'a [String],
}

impl Asked<'_> {
    /// `deviceScope` and `parentScopes` after the write. `ticks` are of now; `is_edge` says whether a scope is
    /// that of an edge device.
    pub fn of(
        &self,
        present: &Identity,
        ticks: &str,
        is_edge: impl Fn(&str) -> Result<bool, Error>,
    ) -> Result<(Option<String>, Vec<String>), Error> {
        let said = self.device_scope.filter(|scope| !scope.is_empty());
        let own = present.own_scope();
        let known = |scope: &String| {
            // A scope that stands already is not asked for again: its device may be gone.
            let stands = present.parent_scopes.contains(scope);
            match stands || (Some(scope.as_str()) != own && is_edge(scope)?) {
                true => Ok(()),
                false => Err(Error::DeviceScope(
                    "the scope names no other edge device of this hub",
                )),
            }
        };
        match (own, self.iot_edge) {
            (Some(own), true) if said != Some(own) => Err(immutable()),
            (Some(own), false) if said.is_some_and(|scope| scope != own) => Err(immutable()),
            // One that is brought along from another hub, where other devices name it.
            (None, true)
                if said
                    .is_some_and(|scope| device_of(scope).as_ref() != Some(&present.device_id)) =>
            {
                Err(immutable())
            }
            (own, true) => {
                if self.parent_scopes.len() > 1 {
                    return Err(Error::DeviceScope("an edge device has one parent at most"));
                }
                self.parent_scopes.iter().try_for_each(known)?;
                let new = || format!("{PREFIX}{}-{ticks}", present.device_id);
                let scope = own.or(said).map_or_else(new, ToOwned::to_owned);
                Ok((Some(scope), self.parent_scopes.to_vec()))
            }
            // What it was a child of is lost with its own scope.
            (Some(_), false) => Ok((None, Vec::new())),
            (None, false) => match said.map(ToOwned::to_owned) {
                // `parentScopes` alone attach nothing.
                None => Ok((None, Vec::new())),
                Some(scope) => {
                    known(&scope)?;
                    Ok((Some(scope.clone()), vec![scope]))
                }
            },
        }
    }
}

/// The device whose scope this is, if it is one.
pub(super) fn device_of(scope: &str) -> Option<DeviceId> {
    let (id, _ticks) = scope.strip_prefix(PREFIX)?.rsplit_once('-')?;
    id.parse().ok()
}

fn immutable() -> Error {
    Error::Argument("Device scope is immutable".into())
}

const PREFIX: &str = "ms-azure-iot-edge://";
