//! A device with a TPM at the desk: it shows public keys, and is sent a key that only its TPM can read.
//!
//! What may not enter: what a token signed with that key proves.

use std::sync::Arc;

use azimuth_wire::enrollment::TpmAttestation;
use azimuth_wire::registration::TpmChallenge;

use super::{Desk, Refused, Reply, bad, store, unauthorized};
use crate::attestation::tpm::{Challenge, Rejection, introduced};
use crate::error::{Error, SERVER_ERROR};
use crate::registrant::{Claims, Credential, Transport};
use crate::{answer, delivery, explain};

impl Desk {
    /// Holds what the device shows against its enrollment. Without a token it is challenged; with one it is
    /// judged by the token. A disabled enrollment challenges as well: only who proved itself is told.
    pub(super) fn challenge(
        &self,
        claims: &Claims,
        shown: &TpmAttestation,
    ) -> Result<Option<Reply>, Refused> {
        match claims.transport {
            Transport::Mqtt => return Err(unauthorized(explain::tpm_over_mqtt())),
            Transport::Https => {}
        }
        let id = &claims.registration_id;
        let enrollment = self.enrollments.individual(id);
        let enrollment = enrollment.map_err(|error| store(&error))?;
        let enrollment = enrollment.ok_or_else(|| Refused {
            code: Error::EnrollmentNotFound.code(),
            message: "Enrollment not found.",
            refusal: explain::tpm_not_enrolled(id),
        })?;
        let tpm = introduced(shown, &enrollment).map_err(|rejection| {
            let unfit = matches!(
                rejection,
                Rejection::Key { .. } | Rejection::NoStorageRootKey
            );
            let refusal = explain::tpm_rejected(id, rejection);
            if unfit {
                bad(refusal)
            } else {
                unauthorized(refusal)
            }
        })?;
        if matches!(claims.credential, Credential::Token(_)) {
            return Ok(None);
        }
        let key = delivery::new_key();
        let wrapped = delivery::wrapped(&key, &tpm, &claims.resource, &delivery::new_seeds());
        let wrapped = wrapped.map_err(|error| Refused {
            code: SERVER_ERROR,
            message: "Internal Server Error",
            refusal: explain::tpm_not_wrapped(&error),
        })?;
        let challenge = Challenge {
            tpm: Arc::new(tpm),
            key,
        };
        let now = self.clock.now();
        self.challenges.issue(claims.owner.as_str(), challenge, now);
        let body = answer::challenge(&TpmChallenge {
            message: "Authorization required, resend request using supplied key".into(),
            authentication_key: wrapped,
            unencrypted_authentication_key: None,
            key_name: "registration".into(),
        });
        Ok(Some(Reply {
            status: 401,
            retry_after: None,
            body,
        }))
    }
}
