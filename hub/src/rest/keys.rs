//! `POST /devices/keys/regenerate`: new keys for up to a hundred identities, each for itself.

use axum::body::Body;
use axum::response::Response;
use azimuth_wire::registry::Authentication;
use azimuth_wire::registry::regeneration::{
    Regeneration, RegenerationBody, RegenerationError, RotatedKeys,
};
use azimuth_wire::{ErrorCode, Identity as Name};

use super::bulk::{check_count, check_once};
use super::registry::whole;
use super::{Rest, answer};
use crate::error::Error;
use crate::registry::Identity;

/// Bytes that are read; a hundred names of full length have some thirty thousand.
const BODY_LIMIT: usize = 256 << 10;

impl Rest {
    pub(super) async fn regenerate_keys(&self, body: Body) -> Result<Response, Error> {
        let body = RegenerationBody::parse(&whole(body, BODY_LIMIT).await?)?;
        check_count(body.items.len())?;
        check_once(body.items.iter().flatten())?;
        let mut result = Regeneration {
            policy_key: body.which,
            errors: Vec::new(),
            rotated_keys: Vec::new(),
        };
        for item in body.items {
            let name = match item {
                Ok(name) => name,
                Err(invalid) => {
                    result.errors.push(RegenerationError {
                        id: invalid.id,
                        module_id: invalid.module,
                        error_code: ErrorCode::ArgumentInvalid.number(),
                        error_status: invalid.why.to_string(),
                    });
                    continue;
                }
            };
            match self.registry.rekey(&name, body.which).await {
                Ok(identity) => result.rotated_keys.extend(rotated(identity)),
                Err(error) => result.errors.push(failed(&name, &error)),
            }
        }
        match result.errors.is_empty() {
            true => answer::json(&result),
            false => Err(Error::Regeneration(result.into())),
        }
    }
}

fn rotated(identity: Identity) -> Option<RotatedKeys> {
    let Authentication::Sas { primary, secondary } = identity.authentication else {
        return None;
    };
    Some(RotatedKeys {
        id: identity.device_id.to_string(),
        module_id: identity.module_id,
        primary_key: primary,
        secondary_key: secondary,
    })
}

fn failed(name: &Name, error: &Error) -> RegenerationError {
    RegenerationError {
        id: name.device.to_string(),
        module_id: name.module.as_ref().map(ToString::to_string),
        error_code: error.code().number(),
        error_status: error.to_string(),
    }
}
