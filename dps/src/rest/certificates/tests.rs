#![allow(clippy::unwrap_used)]
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::rest::tests::{Api, Reply};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/x509.json")).unwrap()
}

fn pem(name: &str) -> Value {
    vectors()["certificates"][name]["pem"].clone()
}

async fn send(api: &Api, method: &str, path: &str, etag: Option<&str>, body: Value) -> Reply {
    api.send(method, &format!("/azimuth/certificates{path}"), etag, body)
        .await
}

#[tokio::test]
async fn possession_is_proven_with_a_code_that_counts_once() {
    let api = Api::new();
    let body = json!({ "certificate": pem("root") });
    let put = send(&api, "PUT", "/Root", None, body.clone()).await;
    assert_eq!(put.status, 200);
    let properties = &put.body["properties"];
    assert_eq!(properties["subject"], "Contoso Test Root CA");
    assert_eq!(properties["expiry"], "Fri, 31 Dec 2049 23:59:59 GMT");
    assert_eq!(
        properties["thumbprint"],
        vectors()["certificates"]["root"]["info"]["sha1Thumbprint"]
    );
    assert_eq!(properties["isVerified"], false);
    assert_eq!(properties["certificate"], Value::Null);
    assert_eq!(send(&api, "PUT", "/root", None, body).await.status, 409);

    let proof = json!({ "certificate": pem("rootPossessionProof") });
    let early = send(&api, "POST", "/root/verify", None, proof.clone()).await;
    assert_eq!(early.status, 400);
    let etag = put.body["etag"].as_str().unwrap();
    let code = send(
        &api,
        "POST",
        "/root/generateVerificationCode",
        Some(etag),
        Value::Null,
    )
    .await;
    assert_eq!(code.status, 200);
    let text = code.body["properties"]["verificationCode"]
        .as_str()
        .unwrap();
    assert_eq!(text.len(), 48);
    // A proof for another code.
    let wrong = send(&api, "POST", "/root/verify", None, proof).await;
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.body["message"].as_str().unwrap().contains(text),
        "{}",
        wrong.body
    );
    let stale = send(
        &api,
        "POST",
        "/root/generateVerificationCode",
        Some(etag),
        Value::Null,
    )
    .await;
    assert_eq!(stale.status, 412);
    assert!(!api.office.ca_certificates.live()[0].verified);
}

#[tokio::test]
async fn the_owner_proves_possession_by_signing_the_code() {
    let api = Api::new();
    let now = api.office.clock.utc();
    let wish = azimuth_certs::Wish {
        common_name: "mine",
        key: azimuth_certs::KeyKind::P256,
        days: 9,
        now,
    };
    let root = azimuth_certs::root(wish).unwrap();
    let body = json!({ "properties": { "certificate": root.certificate_pem } });
    assert_eq!(send(&api, "PUT", "/mine", None, body).await.status, 200);
    let code = send(
        &api,
        "POST",
        "/mine/generateVerificationCode",
        None,
        Value::Null,
    )
    .await;
    let code = code.body["properties"]["verificationCode"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let signer = azimuth_certs::Signer::of(&root, now).unwrap();
    let proof = signer
        .proof(&code, azimuth_certs::KeyKind::P256, now)
        .unwrap();
    let body = json!({ "certificate": proof.certificate_pem });
    let before = api.office.ca_certificates.epoch();
    let verified = send(&api, "POST", "/mine/verify", None, body.clone()).await;
    assert_eq!(
        verified.body["properties"]["isVerified"], true,
        "{}",
        verified.body
    );
    assert_ne!(api.office.ca_certificates.epoch(), before);
    assert_eq!(
        send(&api, "POST", "/mine/verify", None, body).await.status,
        400
    );
    let list = send(&api, "GET", "", None, Value::Null).await;
    assert_eq!(list.body["value"][0]["name"], "mine");
    assert_eq!(
        send(&api, "DELETE", "/mine", None, Value::Null)
            .await
            .status,
        204
    );
    assert_eq!(
        send(&api, "GET", "/mine", None, Value::Null).await.status,
        404
    );
}

#[tokio::test]
async fn what_is_no_ca_certificate_is_refused() {
    let api = Api::new();
    for (path, body) in [
        ("/a", json!({ "certificate": "rubbish" })),
        ("/a", json!({})),
        ("/a%20b", json!({ "certificate": pem("root") })),
    ] {
        assert_eq!(send(&api, "PUT", path, None, body).await.status, 400);
    }
    let trusted = json!({ "certificate": pem("root"), "isVerified": true });
    let put = send(&api, "PUT", "/a", None, trusted).await;
    assert_eq!(put.body["properties"]["isVerified"], true);
}

#[tokio::test]
async fn enrolled_certificates_are_shown_as_info_and_stay_when_info_comes_back() {
    let api = Api::new();
    let enrollment = |x509: Value| json!({ "registrationId": "dev", "attestation": { "type": "x509", "x509": x509 } });
    let slot = |name: &str| json!({ "certificate": pem(name) });
    let both = json!({ "clientCertificates": { "primary": slot("selfSignedDevice"), "secondary": slot("root") }, "signingCertificates": null });
    let put = api
        .send("PUT", "/enrollments/dev", None, enrollment(both))
        .await;
    assert_eq!(put.status, 200, "{}", put.body);
    let expected = json!({ "type": "x509", "x509": { "clientCertificates": {
        "primary": { "info": vectors()["certificates"]["selfSignedDevice"]["info"] },
        "secondary": { "info": vectors()["certificates"]["root"]["info"] } } } });
    assert_eq!(put.body["attestation"], expected);
    let mut got = api
        .send("GET", "/enrollments/dev", None, Value::Null)
        .await
        .body;
    assert_eq!(got["attestation"], expected);
    let mechanism = api
        .send(
            "POST",
            "/enrollments/dev/attestationmechanism",
            None,
            Value::Null,
        )
        .await;
    assert_eq!(mechanism.body, expected);

    got["attestation"]["x509"]["clientCertificates"]["secondary"] = Value::Null;
    got["provisioningStatus"] = "disabled".into();
    let again = api.send("PUT", "/enrollments/dev", Some("*"), got).await;
    assert_eq!(again.status, 200, "{}", again.body);
    let clients = &again.body["attestation"]["x509"]["clientCertificates"];
    assert_eq!(
        clients["primary"],
        expected["x509"]["clientCertificates"]["primary"]
    );
    assert_eq!(clients["secondary"], Value::Null);

    for (x509, part) in [
        (
            json!({ "clientCertificates": { "primary": { "certificate": "rubbish" } } }),
            "clientCertificates.primary.certificate must be",
        ),
        (
            json!({ "clientCertificates": { "secondary": { "info": {} } } }),
            "clientCertificates.secondary holds no certificate",
        ),
        (
            json!({ "clientCertificates": { "primary": null } }),
            "holds no certificate",
        ),
        (
            json!({ "signingCertificates": { "primary": slot("root") } }),
            "belong to groups",
        ),
        (
            json!({ "clientCertificates": { "primary": slot("root") }, "caReferences": { "primary": "a" } }),
            "more than one",
        ),
    ] {
        let refused = api
            .send("PUT", "/enrollments/dev", Some("*"), enrollment(x509))
            .await;
        assert_eq!(refused.status, 400);
        assert!(
            refused.body["message"].as_str().unwrap().contains(part),
            "{}",
            refused.body
        );
    }
    let group = json!({ "enrollmentGroupId": "g", "attestation": { "type": "x509", "x509": { "signingCertificates": { "primary": slot("intermediate1") } } } });
    let put = api.send("PUT", "/enrollmentGroups/g", None, group).await;
    assert_eq!(
        put.body["attestation"]["x509"]["signingCertificates"]["primary"]["info"]["serialNumber"],
        "1002"
    );
}

#[tokio::test]
async fn a_ca_certificate_is_no_more_once_it_is_removed_although_the_client_hung_up() {
    let folder = std::env::temp_dir().join(format!("azimuth-ca-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let api = Api::over(azimuth_storage::open(&folder.join("dps.redb")).unwrap());
    let body = json!({ "certificate": pem("root") });
    assert_eq!(send(&api, "PUT", "/root", None, body).await.status, 200);
    let cas = &api.office.ca_certificates;
    assert_eq!(cas.live().len(), 1);

    let removed = send(&api, "DELETE", "/root", None, Value::Null).now_or_never();
    assert!(removed.is_none(), "the disk makes everybody wait");
    tokio::task::yield_now().await;
    // Writers take turns: when this one is refused, the one before is done.
    let next = send(&api, "DELETE", "/other", None, Value::Null).await;
    assert_eq!(next.status, 404);
    assert_eq!(cas.live().len(), 0);
    let _ = std::fs::remove_dir_all(folder);
}
