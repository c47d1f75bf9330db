#![allow(clippy::unwrap_used)]
use azimuth_wire::registration::RegistrationStatus;
use serde_json::json;

use super::*;

fn examples() -> Value {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/dps.json")).unwrap();
    vectors["serviceExamples"].clone()
}

fn linked() -> Vec<String> {
    ["east", "west"]
        .map(|name| format!("contoso-hub-{name}.azure-devices.net"))
        .into()
}

fn group() -> EnrollmentGroup {
    let mut body = examples()["customAllocationRequest"]["enrollmentGroup"].clone();
    body["etag"] = json!(etag::of_guid("13003fea-0000-0300-0000-5d0ab0b40000"));
    body["customAllocationDefinition"]["webhookUrl"] =
        json!("https://alloc.example/api/f?code=secret");
    body["attestation"]["symmetricKey"] =
        json!({ "primaryKey": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" });
    serde_json::from_value(body).unwrap()
}

fn registered(hub: &str) -> RegistrationState {
    let id = "contoso-simdevice-east".parse().unwrap();
    let mut state = RegistrationState::new(id, RegistrationStatus::Assigned);
    state.assigned_hub = Some(hub.into());
    state.device_id = Some("contoso-simdevice-east".parse().unwrap());
    state
}

#[test]
fn the_request_of_a_group_is_that_of_azure() {
    let id = "contoso-simdevice-east".parse().unwrap();
    let before = registered("contoso-hub-west.azure-devices.net");
    let payload: Box<RawValue> = serde_json::from_str(r#"{"model":"x"}"#).unwrap();
    let asking = Asking {
        registration_id: &id,
        before: Some(&before),
        payload: Some(&payload),
        certificate: None,
        tpm: None,
    };
    let custom = Custom::of_group(&group()).unwrap();
    let request = custom.request(asking, &linked());
    let request: Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(request, examples()["customAllocationRequest"]);
    assert!(!request.to_string().contains("secret"));
}

#[test]
fn a_device_of_its_own_enrollment_that_never_registered_has_no_hub_in_the_request() {
    let entry: IndividualEnrollment = serde_json::from_value(json!({
        "registrationId": "dev-1", "attestation": { "type": "symmetricKey" },
        "allocationPolicy": "custom",
        "customAllocationDefinition": { "webhookUrl": "http://localhost:7071/api/f", "apiVersion": "2021-10-01" } }))
    .unwrap();
    let id = "Dev-1".parse().unwrap();
    let mut asking = Asking {
        registration_id: &id,
        before: None,
        payload: None,
        certificate: None,
        tpm: None,
    };
    let custom = Custom::of_individual(&entry).unwrap();
    let sent =
        |asking| -> Value { serde_json::from_slice(&custom.request(asking, &linked())).unwrap() };
    let request = sent(asking);
    assert_eq!(
        request["deviceRuntimeContext"],
        json!({ "registrationId": "Dev-1", "symmetricKey": {} })
    );
    let definition = &request["individualEnrollment"]["customAllocationDefinition"];
    assert_eq!(definition["webhookUrl"], "http://localhost:7071/api/f");
    // A device that failed so far is recorded, and in no hub.
    let mut before = registered("a.net");
    before.assigned_hub = None;
    asking.before = Some(&before);
    let request = sent(asking);
    assert!(
        request["deviceRuntimeContext"]
            .get("currentDeviceId")
            .is_none()
    );
    assert_eq!(
        request["individualEnrollment"]["registrationState"]["status"],
        "assigned"
    );
}

#[test]
fn a_certificate_is_told_by_what_it_says_and_not_as_it_is() {
    let made = azimuth_certs::self_signed_leaf(azimuth_certs::Wish {
        common_name: "cert-1",
        key: azimuth_certs::KeyKind::P256,
        days: 1,
        now: std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000),
    });
    let leaf = made.unwrap().certificate().unwrap();
    let enrolled = json!({ "primary": { "certificate": leaf.base64() } });
    let entry: IndividualEnrollment = serde_json::from_value(json!({
        "registrationId": "cert-1", "allocationPolicy": "custom",
        "attestation": { "type": "x509", "x509": { "clientCertificates": enrolled } },
        "customAllocationDefinition": { "webhookUrl": "http://localhost:7071/api/f", "apiVersion": "2021-10-01" } }))
    .unwrap();
    let asking = Asking {
        registration_id: &"cert-1".parse().unwrap(),
        before: None,
        payload: None,
        certificate: Some(&leaf),
        tpm: None,
    };
    let request = Custom::of_individual(&entry)
        .unwrap()
        .request(asking, &linked());
    let request: Value = serde_json::from_slice(&request).unwrap();
    let info = serde_json::to_value(leaf.info()).unwrap();
    assert_eq!(info["subjectName"], "CN=cert-1");
    assert_eq!(
        request["deviceRuntimeContext"],
        json!({ "registrationId": "cert-1", "x509": { "clientCertificate": info } })
    );
    assert_eq!(
        request["individualEnrollment"]["attestation"]["x509"],
        json!({ "clientCertificates": { "primary": { "info": info } } })
    );
}

#[test]
fn a_tpm_is_named_by_its_keys() {
    let attestation = json!({ "type": "tpm", "tpm": { "endorsementKey": "AAAA" } });
    let entry: IndividualEnrollment = serde_json::from_value(json!({
        "registrationId": "tpm-1", "attestation": attestation, "allocationPolicy": "custom",
        "customAllocationDefinition": { "webhookUrl": "http://localhost:7071/api/f", "apiVersion": "2021-10-01" } }))
    .unwrap();
    let shown = json!({ "endorsementKey": "AAAA", "storageRootKey": "AAEA" });
    let tpm = serde_json::from_value(shown.clone()).unwrap();
    let asking = Asking {
        registration_id: &"tpm-1".parse().unwrap(),
        before: None,
        payload: None,
        certificate: None,
        tpm: Some(&tpm),
    };
    let request = Custom::of_individual(&entry)
        .unwrap()
        .request(asking, &linked());
    let request: Value = serde_json::from_slice(&request).unwrap();
    assert_eq!(
        request["deviceRuntimeContext"],
        json!({ "registrationId": "tpm-1", "tpm": shown })
    );
    assert_eq!(request["individualEnrollment"]["attestation"], attestation);
}

#[test]
fn answers_mean_what_azure_says() {
    let good = examples()["customAllocationResponse"].clone();
    let chosen = Chosen {
        hub: linked()[0].clone(),
        initial_twin: Some(good["initialTwin"].clone()),
        payload: Some(good["payload"].clone()),
    };
    let bare = Chosen {
        initial_twin: None,
        payload: None,
        ..chosen.clone()
    };
    let good = good.to_string();
    let failed = |code| Err(Some(code));
    let shouted = r#"{"iotHubHostName":"CONTOSO-HUB-EAST.azure-devices.net","initialTwin":null}"#;
    type Row<'a> = (u16, &'a str, Result<&'a Chosen, Option<u32>>);
    let rows: [Row<'_>; 13] = [
        (200, &good, Ok(&chosen)),
        (200, shouted, Ok(&bare)),
        (200, "{}", failed(400_208)),
        (200, r#"{"iotHubHostName":""}"#, failed(400_208)),
        (200, r#"{"iotHubHostName":"other.net"}"#, failed(400_208)),
        (200, r#"{"iotHubHostName":7}"#, failed(400_207)),
        (200, "nonsense", failed(400_207)),
        (201, &good, failed(400_207)),
        (302, "", failed(400_207)),
        (401, &good, failed(400_209)),
        (404, "", failed(400_207)),
        (429, &good, Err(None)),
        (503, "", Err(None)),
    ];
    for (status, body, expected) in rows {
        let got = match verdict(status, body.as_bytes(), &linked()) {
            Verdict::Chosen(chosen) => Ok(chosen),
            Verdict::Failed(failure) => Err(Some(failure.code())),
            Verdict::Again(again) => {
                assert_eq!(again, status);
                Err(None)
            }
        };
        assert_eq!(
            got.as_ref().map_err(|code| *code),
            expected,
            "{status} {body}"
        );
    }
    assert_eq!(
        Failure::Status(404).message(),
        "Custom allocation failed with status code: 404"
    );
}

#[test]
fn it_is_asked_ten_times_again_after_1_10_19_seconds_and_so_on() {
    let second = Duration::from_secs(1);
    let waits: Vec<_> = (0..).map_while(|again| wait(again, second)).collect();
    assert_eq!(waits.len(), 10);
    let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
    assert_eq!(&seconds[..3], [1, 10, 19]);
    assert_eq!(seconds[9], 82);
}

#[test]
fn a_definition_names_a_url_of_http_and_a_version_that_knows_webhooks() {
    for (url, version, words) in [
        ("https://alloc.example/api/f?code=k", "2021-10-01", None),
        ("http://localhost:7071/api/f", "2018-09-01-preview", None),
        ("ftp://alloc.example/", "2021-10-01", Some("https://")),
        ("alloc.example", "2021-10-01", Some("not a URL")),
        ("", "2021-10-01", Some("not a URL")),
        (
            "https://alloc.example",
            "2018-04-01",
            Some("2018-09-01-preview"),
        ),
        (
            "https://alloc.example",
            "latest",
            Some("2018-09-01-preview"),
        ),
    ] {
        let definition = CustomAllocationDefinition {
            webhook_url: url.into(),
            api_version: version.into(),
        };
        let checked = check(&definition);
        assert_eq!(checked.is_err(), words.is_some(), "{url} {version}");
        if let (Err(sentence), Some(words)) = (checked, words) {
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}
