//! Devices that show a certificate.

use azimuth_certs::{KeyKind, Wish, self_signed_leaf};

use super::*;

fn leaf(name: &str, days: u32) -> Certificate {
    let wish = Wish {
        common_name: name,
        key: KeyKind::P256,
        days,
        now: UNIX_EPOCH + Duration::from_secs(NOW),
    };
    self_signed_leaf(wish).unwrap().certificate().unwrap()
}

fn showing(id: &str, der: &[u8]) -> Hello {
    let user = format!("0ne00002193/registrations/{id}/api-version=2019-03-31");
    let mut hello = Room::hello(id, Some(&user), Some(String::new()), None);
    Arc::get_mut(&mut hello.peer).unwrap().certificates = vec![der.to_vec()];
    hello
}

impl Room {
    async fn enroll(&self, id: &str, leaf: &Certificate, status: &str) {
        let certificate = json!({ "primary": { "certificate": leaf.base64() } });
        let body = json!({ "registrationId": id, "provisioningStatus": status,
            "attestation": { "type": "x509", "x509": { "clientCertificates": certificate } } });
        let entry: IndividualEnrollment = serde_json::from_value(body).unwrap();
        let put = self
            .desk
            .enrollments
            .put(entry, &IfMatch::Any, self.clock.utc());
        let _ = put.await.unwrap();
    }
}

#[tokio::test]
async fn an_enrolled_certificate_is_taken_until_it_ends() {
    let mut room = Room::open(0).await;
    let leaf = leaf("Cert-1", 1);
    room.enroll("cert-1", &leaf, "enabled").await;
    let hello = showing("cert-1", leaf.der());
    let who = room.desk.authenticate(hello).await.unwrap().principal;
    assert!(room.register(&who).0.contains("/res/202/"));
    let job = room.jobs.try_recv().unwrap();
    let shown = Attested::Credential(HubCredential::Certificate(leaf.sha256()));
    assert_eq!(job.attested, shown);
    room.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let (topic, body) = room.register(&who);
    assert!(topic.contains("/res/401/"));
    assert_eq!(body["errorCode"], 401_002);
    assert_eq!(body["message"], "Invalid certificate.");
    assert_eq!(room.refusal().0.kind, "expired-certificate");
}

#[tokio::test]
async fn a_certificate_of_another_name_does_not_connect() {
    let room = Room::open(0).await;
    let leaf = leaf("cert-2", 1);
    for (der, kind, sentence) in [
        (
            leaf.der(),
            "common-name-mismatch",
            "the common name of the device's certificate is `cert-2`, the registration id is cert-1; they must be the same",
        ),
        (
            &[1][..],
            "unreadable-certificate",
            "the first certificate the device showed cannot be read",
        ),
    ] {
        let refusal = room.desk.authenticate(showing("cert-1", der)).await;
        let refusal = refusal.err().unwrap();
        assert_eq!((refusal.kind, refusal.answer), (kind, Answer::Connack(5)));
        assert_eq!(refusal.sentence, sentence);
    }
}

#[tokio::test]
async fn each_rule_has_its_answer_and_its_sentence() {
    let room = Room::open(0).await;
    let [off, nobody, own, other] = ["cert-off", "nobody", "own", "other"].map(|id| leaf(id, 1));
    room.enroll("cert-off", &off, "disabled").await;
    room.enroll("other", &leaf("other", 1), "enabled").await;
    for (id, shown, status, kind, sentence) in [
        (
            "cert-off",
            &off,
            200,
            "enrollment-disabled",
            "the individual enrollment cert-off is disabled",
        ),
        (
            "nobody",
            &nobody,
            401,
            "unknown-ca",
            "the chain ends at the self-signed `CN=nobody`, which is not trusted here",
        ),
        (
            "own",
            &own,
            401,
            "wrong-attestation",
            "own wants a SAS token made with its symmetric key, the device showed a certificate",
        ),
        (
            "other",
            &other,
            401,
            "certificate-not-enrolled",
            "neither the primary nor the secondary one of the individual enrollment other",
        ),
    ] {
        let hello = showing(id, shown.der());
        let who = room.desk.authenticate(hello).await.unwrap().principal;
        let (topic, _) = room.register(&who);
        assert!(topic.contains(&format!("/res/{status}/")), "{topic}");
        let refusal = room.refusal().0;
        let answer = Answer::Response(status);
        assert_eq!((refusal.kind, refusal.answer), (kind, answer));
        assert!(refusal.sentence.contains(sentence), "{}", refusal.sentence);
    }
}
