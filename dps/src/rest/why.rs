//! `/azimuth/why/registrations/{id}`: why a device got the hub it has, or none.
//!
//! Our own route, read-only. What may not enter: sentences; `explanation` has them.

use axum::http::Method;
use axum::response::Response;
use azimuth_wire::RegistrationId;
use serde_json::{Value, json};

use super::{Office, Refused, json as answered, parsed_id, refusals};
use crate::error::Error;
use crate::explanation::{self, Facts};
use crate::records;

impl Office {
    pub(super) fn why(&self, method: &Method, id: &str) -> Result<Response, Refused> {
        if *method != Method::GET {
            return Err(Error::MethodNotAllowed.into());
        }
        let id: RegistrationId = parsed_id(id)?;
        let folded = id.folded();
        let record = records::registration(&*self.store, &folded)?;
        let waiting = self.waiting.of(&folded);
        let individual = self.enrollments.individual(&id)?;
        let (groups, hubs) = (self.enrollments.groups(), self.hubs.live());
        let linked: Vec<_> = hubs.iter().map(|hub| hub.candidate()).collect();
        let refused = self.ledger.of(&folded, MOST_REFUSALS);
        // In the spelling of the device, where it came.
        let spelled = record.as_ref().map(|record| &record.state.registration_id);
        let explanation = explanation::of(&Facts {
            id: spelled.unwrap_or(&id),
            record: record.as_ref(),
            waiting: waiting.as_ref(),
            under_way: self.operations.under_way(&folded),
            individual: individual.as_ref(),
            groups: &groups,
            linked: &linked,
            regions: &self.regions,
            allocation: self.allocation,
            refusals: &refused,
        });
        let mut body = json!(explanation);
        body["refusals"] = refused.iter().map(refusals::line).collect::<Value>();
        Ok(answered("", &body))
    }
}

/// Refusals that are shown; `azimuth why ID` shows them all.
const MOST_REFUSALS: usize = 5;

#[cfg(test)]
mod tests;
