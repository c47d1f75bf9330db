//! Custom allocation: what the webhook is sent, and what its answer means.
//!
//! Pure. What may not enter: sockets, waiting, what becomes of the device in its hub.

use std::time::Duration;

use azimuth_certs::{Certificate, CertificateInfo};
use azimuth_webhook::masked;
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::enrollment::{
    Attestation, AttestationKind, CustomAllocationDefinition, EnrollmentGroup,
    IndividualEnrollment, TpmAttestation,
};
use azimuth_wire::registration::RegistrationState;
use azimuth_wire::{DeviceId, RegistrationId, etag};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Candidate, NoHub};
use crate::enrollment::x509;

/// What an enrollment with custom allocation hands to its webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    pub definition: CustomAllocationDefinition,
    enrollment: Enrolled,
    attestation: AttestationKind,
}

/// An enrollment as the webhook sees it: without keys.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Enrolled {
    IndividualEnrollment(Box<IndividualEnrollment>),
    EnrollmentGroup(Box<EnrollmentGroup>),
}

/// Who asks for a hub.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// In the device's own spelling.
    pub registration_id: &'a RegistrationId,
    /// What is recorded of it.
    pub before: Option<&'a RegistrationState>,
    pub payload: Option<&'a RawValue>,
    /// The certificate it proved itself with, where it did so.
    pub certificate: Option<&'a Certificate>,
    /// The keys of its TPM, where it has one.
    pub tpm: Option<&'a TpmAttestation>,
}

/// The hub that a webhook chose, and what it sends along.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// As it is linked.
    pub hub: String,
    /// In place of the enrollment's.
    pub initial_twin: Option<Value>,
    /// For the device.
    pub payload: Option<Value>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Chosen(Chosen),
    /// It is asked again after a while.
    Again(u16),
    Failed(Failure),
}

/// Why a webhook chose no hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("it answered {0}")]
    Status(u16),
    #[error("it answered 401")]
    Unauthorized,
    #[error("its answer names no iotHubHostName")]
    NoHub,
    #[error("it chose the hub `{0}`, which is not one of the linkedHubs it was sent")]
    OtherHub(String),
    #[error("its answer is not the JSON of a choice: {0}")]
    Body(String),
    #[error("it cannot be asked: {0}")]
    Unreachable(String),
}

impl Failure {
    /// Azure's number, for `registrationState.errorCode`.
    pub fn code(&self) -> u32 {
        match self {
            Self::Status(_) | Self::Body(_) | Self::Unreachable(_) => 400_207,
            Self::NoHub | Self::OtherHub(_) => 400_208,
            Self::Unauthorized => 400_209,
        }
    }

    /// For `registrationState.errorMessage`. Azure's own words are known for a status only.
    pub fn message(&self) -> String {
        match self {
            Self::Status(status) => {
                format!("Custom allocation failed with status code: {status}")
            }
            Self::Unauthorized => "Custom allocation failed with status code: 401".into(),
            Self::NoHub | Self::OtherHub(_) | Self::Body(_) | Self::Unreachable(_) => {
                format!("Custom allocation failed: the webhook did not choose a hub: {self}")
            }
        }
    }
}

impl Custom {
    /// Of an individual enrollment, where it has custom allocation.
    pub fn of_individual(entry: &IndividualEnrollment) -> Option<Self> {
        // Asked at each registration: most enrollments have none, and are not copied.
        let definition = entry.custom_allocation_definition.clone()?;
        let mut shown = entry.clone();
        let masked = shown.custom_allocation_definition.as_mut();
        hide(&mut shown.attestation, &mut shown.etag, masked);
        Some(Self {
            definition,
            attestation: entry.attestation.kind,
            enrollment: Enrolled::IndividualEnrollment(Box::new(shown)),
        })
    }

    /// Of a group, where it has custom allocation.
    pub fn of_group(entry: &EnrollmentGroup) -> Option<Self> {
        let definition = entry.custom_allocation_definition.clone()?;
        let mut shown = entry.clone();
        let masked = shown.custom_allocation_definition.as_mut();
        hide(&mut shown.attestation, &mut shown.etag, masked);
        Some(Self {
            definition,
            attestation: entry.attestation.kind,
            enrollment: Enrolled::EnrollmentGroup(Box::new(shown)),
        })
    }

    /// The body of the request. `linked` are the hubs to choose from.
    pub fn request(&self, asking: Asking<'_>, linked: &[String]) -> Vec<u8> {
        let mut enrollment = self.enrollment.clone();
        if let Enrolled::IndividualEnrollment(entry) = &mut enrollment {
            entry.registration_state = asking.before.cloned();
        }
        let keys = self.attestation == AttestationKind::SymmetricKey;
        let assigned = asking.before.filter(|state| state.assigned_hub.is_some());
        let request = Request {
            enrollment: &enrollment,
            device_runtime_context: Context {
                registration_id: asking.registration_id,
                current_iot_hub_host_name: assigned.and_then(|state| state.assigned_hub.as_deref()),
                current_device_id: assigned.and_then(|state| state.device_id.as_ref()),
                symmetric_key: keys.then_some(Nothing {}),
                x509: asking.certificate.map(|certificate| Shown {
                    client_certificate: certificate.info(),
                }),
                tpm: asking.tpm,
                payload: asking.payload,
            },
            linked_hubs: linked,
        };
        serde_json::to_vec(&request).expect("requests are structs with text keys")
    }
}

/// Reads an answer. `linked` are the hubs that were to choose from.
pub fn verdict(status: u16, body: &[u8], linked: &[String]) -> Verdict {
    match status {
        200 => match choice(body, linked) {
            Ok(chosen) => Verdict::Chosen(chosen),
            Err(failure) => Verdict::Failed(failure),
        },
        401 => Verdict::Failed(Failure::Unauthorized),
        429.. => Verdict::Again(status),
        _ => Verdict::Failed(Failure::Status(status)),
    }
}

fn choice(body: &[u8], linked: &[String]) -> Result<Chosen, Failure> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| Failure::Body(error.to_string()))?;
    let named = answer.iot_hub_host_name.unwrap_or_default();
    if named.is_empty() {
        return Err(Failure::NoHub);
    }
    let found = linked.iter().find(|hub| hub.eq_ignore_ascii_case(&named));
    let hub = found.ok_or_else(|| Failure::OtherHub(named.chars().take(128).collect()))?;
    Ok(Chosen {
        hub: hub.clone(),
        initial_twin: answer.initial_twin,
        payload: answer.payload,
    })
}

/// The hubs a webhook may choose from: those the enrollment names, or all. Hubs that are kept out of
/// allocation are among them, since nothing is allocated here.
pub fn to_choose_from(linked: &[Candidate<'_>], named: &[String]) -> Result<Vec<String>, NoHub> {
    if linked.is_empty() {
        return Err(NoHub::NoneLinked);
    }
    let may = |hub: &&Candidate<'_>| {
        named.is_empty() || named.iter().any(|name| name.eq_ignore_ascii_case(hub.host))
    };
    let hubs: Vec<_> = linked.iter().filter(may).collect();
    if hubs.is_empty() {
        return Err(NoHub::NoneOfTheNamed);
    }
    Ok(hubs.iter().map(|hub| hub.host.to_owned()).collect())
}

/// How long to wait before the webhook is asked for the `again`th time again, 0 being the first;
/// `None`: it was asked often enough. Azure waits 1 s and then 9 s more each time.
pub fn wait(again: u32, first: Duration) -> Option<Duration> {
    (again < MOST_AGAIN).then(|| first * (1 + 9 * again))
}

/// Why a definition is not acceptable.
pub fn check(definition: &CustomAllocationDefinition) -> Result<(), String> {
    azimuth_webhook::check(&definition.webhook_url).map_err(|why| format!("webhookUrl {why}"))?;
    let version: Result<ApiVersion, _> = definition.api_version.parse();
    match (version, FIRST.parse()) {
        (Ok(version), Ok(first)) if version >= first => Ok(()),
        _ => Err(format!(
            "apiVersion of customAllocationDefinition must be {FIRST} or later"
        )),
    }
}

/// What of an enrollment the webhook is not to see, or sees in another form than REST shows it.
fn hide(
    attestation: &mut Attestation,
    etag: &mut Option<String>,
    definition: Option<&mut CustomAllocationDefinition>,
) {
    attestation.symmetric_key = None;
    x509::show(attestation);
    *etag = etag.take().map(quoted);
    if let Some(definition) = definition {
        definition.webhook_url = masked(&definition.webhook_url);
    }
}

/// The webhook sees the quoted GUID, where REST shows the base64 of it.
fn quoted(etag: String) -> String {
    etag::guid_of(&etag).map_or(etag, |guid| format!("\"{guid}\""))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(flatten)]
    enrollment: &'a Enrolled,
    device_runtime_context: Context<'a>,
    linked_hubs: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    registration_id: &'a RegistrationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_iot_hub_host_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_device_id: Option<&'a DeviceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symmetric_key: Option<Nothing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x509: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tpm: Option<&'a TpmAttestation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    client_certificate: CertificateInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    iot_hub_host_name: Option<String>,
    #[serde(default)]
    initial_twin: Option<Value>,
    #[serde(default)]
    payload: Option<Value>,
}

/// Times a webhook that is overloaded or broken is asked again.
const MOST_AGAIN: u32 = 10;
/// The first version with custom allocation.
const FIRST: &str = "2018-09-01-preview";

#[cfg(test)]
mod tests;
