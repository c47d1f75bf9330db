//! Devices that show a certificate instead of a token.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use azimuth_broker::{Answer, Hello, Peer};
use azimuth_certs::{Certificate, KeyKind, Wish, self_signed_leaf};

use crate::desk::{Desk, VERSION, hello, peer};

/// Good for `days` from the day `begins` on.
fn certificate(desk: &Desk, begins: u32, days: u32) -> Certificate {
    let wish = Wish {
        common_name: "any name",
        key: KeyKind::P256,
        days,
        now: desk.now() + DAY * begins,
    };
    self_signed_leaf(wish).unwrap().certificate().unwrap()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn showing(device: &str, shown: &Certificate, password: Option<&str>) -> Hello {
    Hello {
        password: password.map(|text| azimuth_broker::Secret(text.into())),
        peer: Arc::new(Peer {
            certificates: vec![shown.der().to_vec()],
            ..(*peer()).clone()
        }),
        ..hello(device)
    }
}

async fn enroll(desk: &Desk, device: &str, primary: &str, secondary: &str) {
    let body = format!(
        r#"{{"deviceId":"{device}","authentication":{{"type":"selfSigned","x509Thumbprint":{{"primaryThumbprint":"{primary}","secondaryThumbprint":"{secondary}"}}}}}}"#
    );
    let path = format!("/devices/{device}{VERSION}");
    let reply = desk.ask(Method::PUT, &path, None, &body).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_certificate_with_a_registered_thumbprint_lets_in() {
    let desk = Desk::new();
    let (shown, other) = (certificate(&desk, 0, 30), certificate(&desk, 0, 30));
    let (sha1, sha256) = (shown.sha1().to_string(), shown.sha256().to_string());
    let others = other.sha256().to_string();
    for (device, primary, secondary, password, enters) in [
        ("by-sha256", &sha256, "", None, true),
        (
            "by-sha1-in-lower-case",
            &sha1.to_lowercase(),
            "",
            None,
            true,
        ),
        ("by-secondary", &others, sha256.as_str(), None, true),
        ("with-an-empty-password", &sha256, "", Some(""), true),
        ("another", &others, "", None, false),
    ] {
        enroll(&desk, device, primary, secondary).await;
        let entered = desk.connect(showing(device, &shown, password)).await;
        assert_eq!(entered.is_ok(), enters, "{device} {:?}", entered.err());
    }
}

#[tokio::test]
async fn each_rule_has_its_sentence() {
    let desk = Desk::new();
    let shown = certificate(&desk, 0, 30);
    let short = certificate(&desk, 0, 1);
    let future = certificate(&desk, 3, 30);
    let sha256 = |one: &Certificate| one.sha256().to_string();
    enroll(&desk, "mine", &sha256(&shown), "").await;
    enroll(&desk, "short", &sha256(&short), "").await;
    enroll(&desk, "future", &sha256(&future), "").await;
    desk.make("keys").await;
    desk.clock.advance(DAY * 2);
    for (device, shown, kind, part) in [
        (
            "mine",
            &short,
            "wrong-thumbprint",
            "neither of the two thumbprints of the device `mine`",
        ),
        (
            "short",
            &short,
            "expired-certificate",
            "86400 s from the hub's clock",
        ),
        (
            "future",
            &future,
            "certificate-not-yet-valid",
            "82800 s from the hub's clock",
        ),
        (
            "keys",
            &shown,
            "wrong-authentication",
            "`keys` proves itself by token (authentication type sas)",
        ),
        ("nobody", &shown, "unknown-device", "no device `nobody`"),
    ] {
        let refusal = desk
            .connect(showing(device, shown, None))
            .await
            .err()
            .unwrap();
        assert_eq!(refusal.kind, kind);
        assert_eq!(refusal.answer, Answer::Connack(5), "{kind}");
        assert!(refusal.sentence.contains(part), "{}", refusal.sentence);
    }
}
