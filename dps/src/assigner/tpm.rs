//! What the hub is to know a device by; for a TPM, a key that is made or kept here.
//!
//! It is wrapped before the hub is written: a key that the device cannot be given is in no hub.

use azimuth_wire::DeviceId;

use super::{Assigner, Job, failed};
use crate::attestation::{Attested, HubCredential};
use crate::delivery::{self, Delivery};
use crate::error::SERVER_ERROR;
use crate::explain;
use crate::registration::{Decision, Outcome};

impl Assigner {
    pub(super) fn credential(
        &self,
        job: &Job,
        before: Option<&Delivery>,
        decision: Decision<'_>,
        device: &DeviceId,
    ) -> Result<(HubCredential, Option<Delivery>), Outcome> {
        let tpm = match &job.attested {
            Attested::Credential(credential) => return Ok((credential.clone(), None)),
            Attested::Tpm(tpm) => tpm,
        };
        let keys = Delivery::keys(before, tpm, decision, delivery::new_keys());
        let uri = format!("{}/{device}", decision.hub());
        let wrapped = Delivery::wrap(keys.clone(), tpm, &uri, &delivery::new_seeds());
        let delivery = wrapped.map_err(|error| {
            self.refuse(job, explain::tpm_not_wrapped(&error));
            failed(
                SERVER_ERROR,
                "The key of the device could not be wrapped for its TPM.",
            )
        })?;
        Ok((HubCredential::Keys(keys), Some(delivery)))
    }
}

#[cfg(test)]
mod tests;
