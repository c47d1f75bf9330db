//! Every refusal at the device door: its rule, its sentence, its arithmetic.

use std::sync::Arc;

use axum::http::Method;
use azimuth_broker::{Answer, Backend, Hello, Peer, QoS, Refusal, Secret, Will};
use azimuth_wire::sas;

use crate::desk::{Desk, HOST, KEY, OTHER_KEY, START, VERSION, hello, peer, publish};

fn token(resource: &str, key: &str, expiry: u64, policy: Option<&str>) -> Option<Secret> {
    Some(Secret(sas::sign(
        resource,
        &key.parse().unwrap(),
        expiry,
        policy,
    )))
}

fn will(topic: &str) -> Option<Will> {
    Some(Will {
        topic: topic.into(),
        payload: bytes::Bytes::new(),
        qos: QoS::AtLeastOnce,
        exactly_once: false,
        retain: false,
    })
}

#[tokio::test]
async fn each_refused_connect_says_why_in_one_sentence() {
    let desk = Desk::new();
    desk.make("d").await;
    desk.make("off").await;
    desk.make("x509").await;
    let disabled = format!(
        r#"{{"status":"disabled","statusReason":"lost",
        "authentication":{{"symmetricKey":{{"primaryKey":"{KEY}","secondaryKey":"{KEY}"}}}}}}"#
    );
    desk.ask(
        Method::PUT,
        &format!("/devices/off{VERSION}"),
        Some("*"),
        &disabled,
    )
    .await;
    let x509 = r#"{"authentication":{"type":"selfSigned"}}"#;
    desk.ask(
        Method::PUT,
        &format!("/devices/x509{VERSION}"),
        Some("*"),
        x509,
    )
    .await;
    let resource = format!("{HOST}/devices/d");
    let service = azimuth_hub::published_connection_string("hub1", HOST);
    assert!(
        service.starts_with("HostName=hub1.azure-devices.net;SharedAccessKeyName=iothubowner;")
    );
    let certificate = Arc::new(Peer {
        certificates: vec![vec![1]],
        ..(*peer()).clone()
    });
    let will_at_qos_2 = will("devices/d/messages/events/").map(|will| Will {
        exactly_once: true,
        ..will
    });
    let d = || hello("d");
    let rows: Vec<(&str, Hello, &str)> = vec![
        (
            "user-name",
            Hello {
                user_name: None,
                ..d()
            },
            "the CONNECT has no user name; a hub expects `{host}/{device id}/?api-version=2021-04-12`",
        ),
        (
            "client-id",
            Hello {
                client_id: "D".into(),
                ..d()
            },
            "the client id `D` is not `d`, which the user name announces",
        ),
        (
            "host",
            Hello {
                user_name: Some("other.azure-devices.net/d/".into()),
                ..d()
            },
            "the user name begins with the host `other.azure-devices.net`, which is not a name of this hub; use `hub1.azure-devices.net`",
        ),
        (
            "will-topic",
            Hello {
                will: will("devices/e/messages/events/"),
                ..d()
            },
            "the will is for the topic `devices/e/messages/events/`; a device's will can only be its own telemetry, `devices/d/messages/events/`",
        ),
        (
            "will-topic",
            Hello {
                will: will("$iothub/twin/GET/?$rid=1"),
                ..d()
            },
            "the will is for the topic `$iothub/twin/GET/?$rid=1`; a device's will can only be its own telemetry, `devices/d/messages/events/`",
        ),
        (
            "will-qos",
            Hello {
                will: will_at_qos_2,
                ..d()
            },
            "the will has QoS 2, which IoT Hub does not know; use 0 or 1",
        ),
        (
            "no-credentials",
            Hello {
                password: None,
                ..d()
            },
            "the CONNECT has no password and showed no client certificate; the password is a SharedAccessSignature made with a key of the device",
        ),
        (
            "unreadable-certificate",
            Hello {
                password: None,
                peer: certificate,
                ..d()
            },
            "the first certificate the client showed cannot be read",
        ),
        (
            "wrong-authentication",
            hello("x509"),
            "the device `x509` proves itself by certificate (authentication type selfSigned), the client sent a token",
        ),
        (
            "malformed-token",
            Hello {
                password: Some(Secret("secret".into())),
                ..d()
            },
            "the token does not begin with `SharedAccessSignature `",
        ),
        (
            "unknown-device",
            hello("nobody"),
            "this hub has no device `nobody`; ids are case-sensitive",
        ),
        (
            "disabled-device",
            hello("off"),
            "the device `off` is disabled",
        ),
        (
            "wrong-resource",
            Hello {
                password: token(&format!("{HOST}/devices/e"), KEY, START + 60, None),
                ..d()
            },
            "the token is for `hub1.azure-devices.net/devices/e`, which does not cover `hub1.azure-devices.net/devices/d`; `sr` must be it or a beginning of it by whole segments",
        ),
        (
            "wrong-key",
            Hello {
                password: token(&resource, "MDEyMzQ1Njc4OWFiY2RlZg==", START + 60, None),
                ..d()
            },
            "neither key of device `d` made the token's signature: the key is another one, or what was signed is not the `sr` text as sent, a line feed and the `se` digits",
        ),
        (
            "expired-token",
            Hello {
                password: token(&resource, KEY, START - 301, None),
                ..d()
            },
            "the token expired 301 s ago, more than the 300 s that clocks may differ; make a new one, or set the clock that made it",
        ),
        (
            "unknown-policy",
            Hello {
                password: token(&resource, KEY, START + 60, Some("nobody")),
                ..d()
            },
            "the token is signed by the policy `nobody`, which this hub does not have",
        ),
        (
            "policy-without-right",
            Hello {
                password: Some(Secret(desk.token("service"))),
                ..d()
            },
            "the policy `service` does not have the right DeviceConnect",
        ),
    ];
    for (kind, hello, sentence) in rows {
        let refusal = desk.connect(hello).await.err().unwrap();
        assert_eq!((refusal.kind, refusal.sentence.as_str()), (kind, sentence));
        assert_eq!(refusal.answer, Answer::Connack(5));
        let shown = format!("{refusal:?}");
        assert!(
            !shown.contains(KEY) && !shown.contains(OTHER_KEY) && !shown.contains("sig="),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn the_arithmetic_stands_beside_the_sentence() {
    let desk = Desk::new();
    desk.make("d").await;
    let resource = format!("{HOST}/devices/d");
    let refused = async |password| -> Refusal {
        desk.connect(Hello {
            password,
            ..hello("d")
        })
        .await
        .err()
        .unwrap()
    };
    let expired = refused(token(&resource, KEY, START - 1000, None)).await;
    assert_eq!(
        expired.facts,
        [
            ("se", "1699999000 (2023-11-14T21:56:40Z)".to_owned()),
            ("hub's clock", "1700000000 (2023-11-14T22:13:20Z)".into()),
            ("seconds past se", "1000".into()),
            ("seconds allowed", "300".into()),
        ]
    );
    let key = refused(token(
        &resource,
        "MDEyMzQ1Njc4OWFiY2RlZg==",
        START + 60,
        None,
    ))
    .await;
    assert_eq!(
        key.facts,
        [
            (
                "keys tried",
                "primary and secondary of device `d`".to_owned()
            ),
            (
                "text that must be signed",
                "hub1.azure-devices.net%2Fdevices%2Fd\n1700000060".into()
            ),
        ]
    );
    // An absurd lifetime is no reason to fail.
    let forever = desk
        .connect(Hello {
            password: token(&resource, KEY, u64::MAX, None),
            ..hello("d")
        })
        .await;
    assert!(forever.unwrap().expires.is_none());
}

#[tokio::test]
async fn names_addresses_and_ports_of_the_hub_are_its_own() {
    let desk = Desk::new();
    desk.make("d").await;
    for host in [
        "HUB1.azure-devices.net",
        "127.0.0.11",
        "127.0.0.11:8883",
        "hub1.azure-devices.net:8883",
    ] {
        let password = token(&format!("{host}/devices/d"), OTHER_KEY, START + 60, None);
        let user_name = Some(format!("{host}/d/?api-version=2021-04-12"));
        let entered = desk
            .connect(Hello {
                user_name,
                password,
                ..hello("d")
            })
            .await;
        assert!(entered.is_ok(), "{host}");
    }
}

#[tokio::test]
async fn each_refused_message_and_filter_says_why() {
    let desk = Desk::new();
    let (device, _) = desk.on_the_line("d").await;
    let big = bytes::Bytes::from(vec![0; 262_140]);
    for (topic, kind) in [
        ("devices/e/messages/events/", "unknown-topic"),
        ("devices/d/messages/events/a=b=c", "malformed-bag"),
        ("$iothub/twin/GET/", "malformed-topic"),
        ("$iothub/methods/res/x/?$rid=1", "malformed-topic"),
        ("devices/d/messages/events/ab=cde", "oversize"),
    ] {
        let refusal = desk
            .door
            .publish(&device, publish(topic, &big))
            .unwrap_err();
        assert_eq!(
            (refusal.kind, refusal.answer),
            (kind, Answer::Close),
            "{topic}"
        );
    }
    let refusal = desk
        .door
        .publish(&device, publish("devices/d/messages/events/ab=cde", &big))
        .unwrap_err();
    assert_eq!(
        refusal.sentence,
        "the message has 262145 bytes, 1 more than the 262144 that body and properties may have together"
    );
    for (filter, known) in [
        ("devices/d/messages/devicebound/#", true),
        ("$iothub/methods/POST/#", true),
        ("#", true),
        ("devices/e/messages/devicebound/#", false),
        ("devices/+/messages/devicebound/#", false),
    ] {
        let granted = desk.door.subscribe(&device, filter, QoS::AtLeastOnce);
        assert_eq!(granted.is_ok(), known, "{filter}");
        assert_eq!(
            desk.door.unsubscribe(&device, filter).is_ok(),
            known,
            "{filter}"
        );
        assert!(granted.is_ok() || granted.unwrap_err().kind == "unknown-filter");
    }
}
