//! The CA certificates of a hub over REST, and devices whose chains lead to them.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use azimuth_broker::{Answer, Backend, Hello, Inward, Peer, Refusal, Secret};
use azimuth_certs::{KeyKind, Made, Signer, Wish, root, self_signed_leaf};
use azimuth_hub::event::Event;
use serde_json::{Value, json};

use crate::at_once::{Unanswered, ask_and_hang_up};
use crate::desk::{Desk, HOST, Reply, VERSION, hello, peer, publish};
use crate::layer::Over;

const DAY: Duration = Duration::from_secs(24 * 3600);
const PATH: &str = "/azimuth/certificates";

fn wish<'a>(desk: &Desk, common_name: &'a str, days: u32) -> Wish<'a> {
    Wish {
        common_name,
        key: KeyKind::P256,
        days,
        now: desk.now(),
    }
}

/// A root, an authority below it, and leaves below that.
struct House {
    root: Made,
    below: Made,
    signer: Signer,
}

impl House {
    fn new(desk: &Desk) -> Self {
        let root = root(wish(desk, "house", 300)).unwrap();
        let top = Signer::of(&root, desk.now()).unwrap();
        let below = top.intermediate(wish(desk, "floor", 200), None).unwrap();
        let signer = Signer::of(&below, desk.now()).unwrap();
        Self {
            root,
            below,
            signer,
        }
    }

    /// What a device with this certificate shows: the leaf and the authority above it.
    fn chain(&self, desk: &Desk, common_name: &str, days: u32) -> Vec<Vec<u8>> {
        let leaf = self.signer.leaf(wish(desk, common_name, days)).unwrap();
        vec![der(&leaf), der(&self.below)]
    }
}

fn der(made: &Made) -> Vec<u8> {
    made.certificate().unwrap().der().to_vec()
}

fn showing(device: &str, certificates: Vec<Vec<u8>>) -> Hello {
    Hello {
        password: None,
        peer: Arc::new(Peer {
            certificates,
            ..(*peer()).clone()
        }),
        ..hello(device)
    }
}

impl Desk {
    async fn certificates(&self, method: Method, path: &str, body: &Value) -> Reply {
        let path = format!("{PATH}{path}");
        self.ask(method, &path, None, &body.to_string()).await
    }

    async fn upload(&self, name: &str, made: &Made, verified: bool) {
        let body = json!({ "properties": { "certificate": made.certificate_pem, "isVerified": verified } });
        let path = format!("/{name}");
        let reply = self.certificates(Method::PUT, &path, &body).await;
        assert_eq!(reply.status, 200);
    }

    async fn enroll(&self, device: &str) {
        let body = r#"{"authentication":{"type":"certificateAuthority"}}"#;
        let path = format!("/devices/{device}{VERSION}");
        assert_eq!(self.ask(Method::PUT, &path, None, body).await.status, 200);
    }

    async fn refused(&self, hello: Hello) -> Refusal {
        let refusal = self.connect(hello).await.err().unwrap();
        assert_eq!(refusal.answer, Answer::Connack(5));
        refusal
    }
}

#[tokio::test]
async fn a_ca_certificate_is_uploaded_proven_shown_and_removed() {
    let desk = Desk::new();
    let house = House::new(&desk);
    let body = json!({ "certificate": house.root.certificate_pem });
    let put = desk.certificates(Method::PUT, "/House", &body).await;
    assert_eq!(put.status, 200);
    let put = put.json().await;
    let properties = &put["properties"];
    assert_eq!(put["type"], "Microsoft.Devices/IotHubs/Certificates");
    assert_eq!(
        (&put["name"], &properties["subject"]),
        (&json!("House"), &json!("house"))
    );
    assert_eq!(properties["isVerified"], false);
    assert_eq!(properties["created"], "Tue, 14 Nov 2023 22:13:20 GMT");
    let thumbprint = house.root.certificate().unwrap().sha1().to_string();
    assert_eq!(properties["thumbprint"], thumbprint);
    // Without `If-Match` a certificate is never replaced; names do not differ by case.
    let again = desk.certificates(Method::PUT, "/house", &body).await;
    assert_eq!(
        (again.status, again.header("iothub-errorcode")),
        (409, "GenericConflict")
    );

    let none = Value::Null;
    let code = desk
        .certificates(Method::POST, "/house/generateVerificationCode", &none)
        .await;
    let code = code.json().await["properties"]["verificationCode"].clone();
    let code = code.as_str().unwrap().parse().unwrap();
    let wrong = json!({ "certificate": house.below.certificate_pem });
    let wrong = desk
        .certificates(Method::POST, "/house/verify", &wrong)
        .await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().await.contains("the common name is `floor`"));
    let signer = Signer::of(&house.root, desk.now()).unwrap();
    let proof = signer.proof(&code, KeyKind::P256, desk.now()).unwrap();
    let proof = json!({ "certificate": proof.certificate_pem });
    let proven = desk
        .certificates(Method::POST, "/house/verify", &proof)
        .await
        .json()
        .await;
    assert_eq!(proven["properties"]["isVerified"], true);
    let all = desk.certificates(Method::GET, "", &none).await.json().await;
    assert_eq!(all, json!({ "value": [proven] }));

    assert_eq!(
        desk.certificates(Method::DELETE, "/house", &none)
            .await
            .status,
        204
    );
    for (method, path, status) in [
        (Method::GET, "/house", 404),
        (Method::DELETE, "/house", 404),
        (Method::POST, "/house", 405),
        (Method::PATCH, "", 405),
    ] {
        assert_eq!(desk.certificates(method, path, &none).await.status, status);
    }
    let rubbish = json!({ "certificate": "rubbish" });
    for (path, body) in [("/a", rubbish), ("/a", json!([])), ("/a%20b", body)] {
        assert_eq!(
            desk.certificates(Method::PUT, path, &body).await.status,
            400
        );
    }
}

#[tokio::test]
async fn who_may_only_read_writes_no_ca_certificate_and_25_are_the_most() {
    let desk = Desk::new();
    let house = House::new(&desk);
    let body = json!({ "certificate": house.root.certificate_pem }).to_string();
    for (policy, method, status) in [
        ("registryRead", Method::GET, 404),
        ("registryRead", Method::PUT, 401),
        ("service", Method::GET, 401),
        ("device", Method::DELETE, 401),
        ("registryReadWrite", Method::PUT, 200),
    ] {
        let headers = [("authorization", desk.token(policy))];
        let reply = desk
            .request(method.clone(), &format!("{PATH}/a"), &headers, &body)
            .await;
        assert_eq!(reply.status, status, "{policy} {method}");
    }
    for number in 2..=25 {
        desk.upload(&number.to_string(), &house.root, false).await;
    }
    let path = format!("{PATH}/26");
    let full = desk.ask(Method::PUT, &path, None, &body).await;
    assert_eq!(
        (full.status, full.header("iothub-errorcode")),
        (403, "IotHubQuotaExceeded")
    );
    let replaced = desk
        .ask(Method::PUT, &format!("{PATH}/7"), Some("*"), &body)
        .await;
    assert_eq!(replaced.status, 200);
}

#[tokio::test]
async fn a_chain_to_a_verified_ca_lets_in_until_the_ca_is_gone() {
    let desk = Desk::new();
    let house = House::new(&desk);
    desk.enroll("dev").await;
    let showing = || showing("dev", house.chain(&desk, "dev", 30));
    assert_eq!(desk.refused(showing()).await.kind, "untrusted-chain");
    desk.upload("house", &house.root, false).await;
    assert_eq!(desk.refused(showing()).await.kind, "unverified-ca");
    let body = json!({ "certificate": house.root.certificate_pem, "isVerified": true });
    let path = format!("{PATH}/house");
    desk.ask(Method::PUT, &path, Some("*"), &body.to_string())
        .await;

    let entered = desk.connect(showing()).await.unwrap().principal;
    let payload = bytes::Bytes::from_static(b"hi");
    let published = desk
        .door
        .publish(&entered, publish("devices/dev/messages/events/", &payload));
    let Inward::Store { envelope, .. } = published.unwrap() else {
        panic!("telemetry is stored");
    };
    assert_eq!(
        Event::decode(&envelope).unwrap().auth_method,
        r#"{"scope":"device","type":"x509CertificateAuthority","issuer":"external","acceptingIpFilterRule":null}"#
    );
    // The authority between the two may also be one that the hub holds.
    let leaf_alone = vec![house.chain(&desk, "dev", 30).remove(0)];
    let alone = || crate::ca_certificates::showing("dev", leaf_alone.clone());
    assert_eq!(desk.refused(alone()).await.kind, "untrusted-chain");
    desk.upload("floor", &house.below, false).await;
    assert!(desk.connect(alone()).await.is_ok());

    // What was kept is there after a restart.
    let desk = Desk::over(desk.store.clone());
    assert!(desk.connect(alone()).await.is_ok());
    assert_eq!(desk.ask(Method::DELETE, &path, None, "").await.status, 204);
    assert_eq!(desk.refused(alone()).await.kind, "unverified-ca");
}

#[tokio::test]
async fn each_rule_of_a_chain_has_its_sentence() {
    let desk = Desk::new();
    let house = House::new(&desk);
    let stranger = House::new(&desk);
    desk.upload("house", &house.root, true).await;
    for device in ["dev", "Dev", "off"] {
        desk.enroll(device).await;
    }
    desk.make("keys").await;
    let alone = self_signed_leaf(wish(&desk, "dev", 30)).unwrap();
    let no_authority = Signer::of(&house.below, desk.now()).unwrap();
    let leaf = no_authority.leaf(wish(&desk, "between", 30)).unwrap();
    let mut unreadable = house.chain(&desk, "dev", 30);
    unreadable[0].truncate(9);
    let mut torn = house.chain(&desk, "dev", 30);
    torn[1].truncate(9);
    let short = house.chain(&desk, "dev", 1);
    let of_another = vec![house.chain(&desk, "dev", 30).remove(0), der(&leaf)];
    let off = r#"{"status":"disabled","authentication":{"type":"certificateAuthority"}}"#;
    desk.ask(
        Method::PUT,
        &format!("/devices/off{VERSION}"),
        Some("*"),
        off,
    )
    .await;
    desk.clock.advance(DAY * 2);
    let rows = [
        (
            "wrong-common-name",
            showing("Dev", house.chain(&desk, "dev", 30)),
            "is `dev`, it must be `Dev` to the letter",
        ),
        (
            "untrusted-chain",
            showing("dev", stranger.chain(&desk, "dev", 30)),
            "leads to no verified CA certificate of this hub",
        ),
        (
            "untrusted-chain",
            showing("dev", vec![der(&alone)]),
            "the chain ends at the self-signed `CN=dev`",
        ),
        (
            "untrusted-chain",
            showing("dev", of_another),
            "was issued by `CN=floor`",
        ),
        (
            "untrusted-chain",
            showing("dev", torn),
            "a device sends the certificates between its own and a CA",
        ),
        (
            "expired-certificate",
            showing("dev", short),
            "`CN=dev` expired at",
        ),
        (
            "unreadable-certificate",
            showing("dev", unreadable),
            "cannot be read",
        ),
        (
            "wrong-authentication",
            showing("keys", house.chain(&desk, "keys", 30)),
            "proves itself by token",
        ),
        (
            "wrong-authentication",
            hello("dev"),
            "authentication type certificateAuthority), the client sent a token",
        ),
        (
            "no-credentials",
            showing("dev", vec![]),
            "no client certificate",
        ),
    ];
    for (kind, hello, part) in rows {
        let refusal = desk.refused(hello).await;
        assert_eq!(refusal.kind, kind, "{}", refusal.sentence);
        assert!(refusal.sentence.contains(part), "{}", refusal.sentence);
    }
    let both = Hello {
        password: Some(Secret("no token".into())),
        ..showing("dev", house.chain(&desk, "dev", 30))
    };
    // A password decides, whatever certificate stands beside it.
    assert_eq!(desk.refused(both).await.kind, "malformed-token");
    let off = showing("off", house.chain(&desk, "off", 30));
    assert_eq!(desk.refused(off).await.kind, "disabled-device");
}

#[tokio::test]
async fn the_certificate_of_a_module_bears_both_names() {
    let desk = Desk::new();
    let house = House::new(&desk);
    desk.upload("house", &house.root, true).await;
    desk.make("dev").await;
    let body = r#"{"authentication":{"type":"certificateAuthority"}}"#;
    let path = format!("/devices/dev/modules/mod{VERSION}");
    assert_eq!(desk.ask(Method::PUT, &path, None, body).await.status, 200);
    let showing = |common_name: &str| Hello {
        client_id: "dev/mod".into(),
        user_name: Some(format!("{HOST}/dev/mod/?api-version=2021-04-12")),
        ..showing("dev", house.chain(&desk, common_name, 30))
    };
    for other in ["dev", "mod", "dev/MOD"] {
        let refusal = desk.refused(showing(other)).await;
        assert_eq!(refusal.kind, "wrong-common-name", "{other}");
    }
    let entered = desk.connect(showing("dev/mod")).await.unwrap().principal;
    let payload = bytes::Bytes::new();
    let topic = "devices/dev/modules/mod/messages/events/";
    let Inward::Store { envelope, .. } = desk
        .door
        .publish(&entered, publish(topic, &payload))
        .unwrap()
    else {
        panic!("telemetry is stored");
    };
    let event = Event::decode(&envelope).unwrap();
    assert!(
        event
            .auth_method
            .starts_with(r#"{"scope":"module","type":"x509CertificateAuthority","#)
    );
}

#[tokio::test]
async fn a_ca_certificate_lets_nobody_in_once_it_is_removed_although_the_client_hung_up() {
    let desk = Desk::over(Arc::new(Over(Unanswered(azimuth_storage::memory()))));
    let house = House::new(&desk);
    let body = json!({ "certificate": house.root.certificate_pem }).to_string();
    let path = format!("{PATH}/house");
    ask_and_hang_up(&desk, Method::PUT, &path, None, &body).await;
    assert_eq!(desk.door.ca_certificates.live().len(), 1);
    ask_and_hang_up(&desk, Method::DELETE, &path, Some("*"), "").await;
    assert_eq!(desk.door.ca_certificates.live().len(), 0);
}
