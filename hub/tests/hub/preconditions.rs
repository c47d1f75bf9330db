//! `If-Match` on devices, modules and their twins, against what Azure was seen to do.

use axum::http::Method;

use crate::desk::{Desk, VERSION, vectors};

#[tokio::test]
async fn preconditions_are_azures() {
    let vectors = &vectors(include_str!("../vectors/preconditions.json"))["preconditions"];
    for case in vectors["cases"].as_array().unwrap() {
        let desk = Desk::new();
        let resource = case["resource"].as_str().unwrap();
        let is_module = resource.starts_with("module");
        let (path, room, name) = match resource {
            "device" => ("/devices/d", "device", "d"),
            "module" => ("/devices/d/modules/m", "module", "d/m"),
            "twin" => ("/twins/d", "device", "d"),
            "moduleTwin" => ("/twins/d/modules/m", "module", "d/m"),
            other => panic!("what is {other}?"),
        };
        if is_module || case["exists"] == true {
            desk.make("d").await;
        }
        if case["exists"] == true {
            if is_module {
                desk.make_module("d", "m").await;
            }
            desk.with_etag(room, name, 727_894_863).await;
        }
        let method: Method = case["method"].as_str().unwrap().parse().unwrap();
        let body = match method {
            Method::PUT | Method::PATCH => "{}",
            _ => "",
        };
        let if_match = case["ifMatch"].as_str();
        let reply = desk
            .ask(method.clone(), &format!("{path}{VERSION}"), if_match, body)
            .await;
        assert_eq!(u64::from(reply.status), case["status"], "{case}");
        assert_eq!(
            reply.header("iothub-errorcode"),
            case["errorCode"].as_str().unwrap_or(""),
            "{case}"
        );
        let there = match (method.as_str(), reply.status) {
            ("PUT", 200) => true,
            ("DELETE", 204) => false,
            _ => case["exists"] == true,
        };
        let left = desk.get(&path.replace("twins", "devices")).await.status;
        assert_eq!(left == 200, there, "{case}");
        let devices = u64::from(is_module || there);
        assert_eq!(desk.registry.statistics().total_device_count, devices);
        let refused = reply.status >= 400 && method != Method::GET;
        assert_eq!(desk.ledger.since(0).len(), usize::from(refused), "{case}");
    }
}
