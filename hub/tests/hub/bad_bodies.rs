//! Bodies that no client should send, at every route of the registry that reads one.

use axum::body::Body;
use axum::http::Method;

use crate::desk::{Desk, VERSION};

/// Everything that takes a body: method, path, `If-Match`, and how many bytes it reads.
const ROUTES: [(Method, &str, usize); 7] = [
    (Method::PUT, "/devices/new", 256 << 10),
    (Method::PUT, "/devices/d/modules/new", 256 << 10),
    (Method::POST, "/devices", 8 << 20),
    (Method::POST, "/devices/keys/regenerate", 256 << 10),
    (Method::PATCH, "/twins/d", 1 << 20),
    (Method::PUT, "/twins/d", 1 << 20),
    (Method::PATCH, "/twins/d/modules/m", 1 << 20),
];

fn utf_16(text: &str) -> Vec<u8> {
    let units = [0xFEFF].into_iter().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn what_is_no_json_in_utf_8_is_a_format_error() {
    let desk = Desk::new();
    desk.make("d").await;
    desk.make_module("d", "m").await;
    let deep = "[".repeat(10_000);
    let nested = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let tags = format!(r#"{{"tags":{nested}}}"#);
    // What gzip makes of `{}`.
    let zipped = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0,
    ];
    for (method, path, _) in ROUTES {
        for (what, body) in [
            ("nothing", Vec::new()),
            ("half", b"{".to_vec()),
            ("UTF-16", utf_16("{}")),
            ("Latin-1", b"{\"deviceId\":\"\xe4\"}".to_vec()),
            ("a lone surrogate", br#"{"deviceId":"\ud800"}"#.to_vec()),
            ("deep", deep.clone().into()),
            ("nested", nested.clone().into()),
            ("nested tags", tags.clone().into()),
            ("zipped", zipped.to_vec()),
            ("two", b"{}{}".to_vec()),
        ] {
            let records = desk.ledger.since(0).len();
            let headers = [
                ("authorization", desk.token("iothubowner")),
                ("content-encoding", "gzip".to_owned()),
            ];
            let headers = &headers[..if what == "zipped" { 2 } else { 1 }];
            let path = format!("{path}{VERSION}");
            let reply = desk
                .send(method.clone(), &path, headers, Body::from(body))
                .await;
            assert_eq!(
                (reply.status, reply.header("iothub-errorcode")),
                (400, "IotHubFormatError"),
                "{method} {path} {what}"
            );
            let message = reply.json().await["Message"].as_str().unwrap().to_owned();
            assert!(
                message.starts_with("ErrorCode:IotHubFormatError;"),
                "{message}"
            );
            assert!(message.len() < 300, "{message}");
            assert_eq!(desk.ledger.since(0).len(), records + 1);
        }
    }
    assert_eq!(desk.registry.statistics().total_device_count, 1);
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_unread() {
    let desk = Desk::new();
    desk.make("d").await;
    desk.make_module("d", "m").await;
    for (method, path, limit) in ROUTES {
        let path = format!("{path}{VERSION}");
        let headers = [("authorization", desk.token("iothubowner"))];
        let body = Body::from(vec![b' '; limit + 1]);
        let reply = desk.send(method, &path, &headers, body).await;
        assert_eq!(
            (reply.status, reply.header("iothub-errorcode")),
            (413, "MessageTooLarge"),
            "{path}"
        );
    }
}
