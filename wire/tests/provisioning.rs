//! Enrollments and registrations against recorded texts: the same bytes out as in.
#![allow(clippy::unwrap_used)]

use azimuth_wire::enrollment::{EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::registration::{
    ErrorBody, OperationStatus, RegistrationState, RegistrationStatus,
};
use serde_json::Value;

type Operation = OperationStatus<String, RegistrationState>;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/provisioning.json")).unwrap()
}

#[test]
fn results_come_out_as_they_went_in() {
    let vectors = vectors();
    let responses = vectors["deviceResponses"].as_object().unwrap();
    let mut seen = 0;
    for (name, response) in responses {
        let Some(body) = response
            .get("body")
            .filter(|body| body.get("status").is_some())
        else {
            continue;
        };
        let text = response["text"].as_str().unwrap();
        let operation: Operation = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&operation).unwrap(),
            text,
            "{name} {body}"
        );
        seen += 1;
    }
    assert_eq!(seen, 11);
}

#[test]
fn members_stand_in_the_order_of_the_service() {
    let text = concat!(
        r#"{"operationId":"5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","status":"assigned","#,
        r#""registrationState":{"x509":{},"registrationId":"contoso-simdevice-east","#,
        r#""createdDateTimeUtc":"2024-05-14T09:12:33.0451122Z","assignedHub":"contoso-hub-east.azure-devices.net","#,
        r#""deviceId":"contoso-simdevice-east","status":"assigned","substatus":"initialAssignment","#,
        r#""errorCode":1,"errorMessage":"m","lastUpdatedDateTimeUtc":"2024-05-14T09:12:33.2563321Z","etag":"e","#,
        r#""tpm":{"authenticationKey":"AA=="},"payload":1}}"#
    );
    let operation: Operation = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&operation).unwrap(), text);
}

#[test]
fn the_bodies_of_a_pending_registration_have_the_lengths_a_device_logged() {
    let vectors = vectors();
    let lengths = &vectors["deviceResponses"]["lengthCheck"];
    let id = "5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550";
    let assigning = RegistrationStatus::Assigning;
    let register = OperationStatus::<_, RegistrationState> {
        operation_id: id,
        status: assigning,
        registration_state: None,
    };
    let poll = OperationStatus {
        operation_id: id,
        status: assigning,
        registration_state: Some(RegistrationState::new(
            "sample-device-01".parse().unwrap(),
            assigning,
        )),
    };
    for (text, member, length) in [
        (
            serde_json::to_string(&register).unwrap(),
            "registerReply",
            94,
        ),
        (serde_json::to_string(&poll).unwrap(), "pollPending", 173),
    ] {
        assert_eq!(text, lengths[member].as_str().unwrap());
        assert_eq!(text.len(), length);
    }
}

#[test]
fn error_bodies_come_out_as_they_went_in() {
    let vectors = vectors();
    for error in vectors["deviceResponses"]["errors"].as_array().unwrap() {
        let text = error["text"].as_str().unwrap();
        let body: ErrorBody = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }
}

#[test]
fn enrollments_keep_every_member_they_were_given() {
    let vectors = vectors();
    let examples = &vectors["serviceExamples"];
    let individual = &examples["individualSymmetricPut"]["body"];
    let read: IndividualEnrollment = serde_json::from_value(individual.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&read).unwrap(), individual);

    let group = &examples["groupSymmetricPut"]["body"];
    let read: EnrollmentGroup = serde_json::from_value(group.clone()).unwrap();
    let mut expected = group.clone();
    expected["capabilities"] = serde_json::json!({ "iotEdge": false });
    expected["provisioningStatus"] = "enabled".into();
    assert_eq!(serde_json::to_value(&read).unwrap(), expected);
}
