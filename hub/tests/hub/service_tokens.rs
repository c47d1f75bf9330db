//! Policy tokens at the HTTPS door.

use std::time::{Duration, UNIX_EPOCH};

use axum::http::Method;
use azimuth_hub::auth::Rules;
use azimuth_hub::policies::Policies;
use azimuth_wire::SymmetricKey;
use azimuth_wire::policy::{HUB_POLICIES, HubRights, PolicyKeys};

use crate::desk::{Desk, VERSION, vectors};

#[test]
fn policy_tokens_are_judged_as_azure_judges_them() {
    let vectors = vectors(include_str!("../vectors/service.json"));
    for case in vectors["serviceSas"].as_array().unwrap() {
        let (name, text) = (case["name"].as_str().unwrap(), |member: &str| {
            case[member].as_str().unwrap()
        });
        let key: SymmetricKey = text("policyKey").parse().unwrap();
        let other = SymmetricKey::from_bytes(&[9; 32]);
        let registered = if name == "wrong-key" {
            other.clone()
        } else {
            key
        };
        let (primary, secondary) = match name {
            "secondary-key" => (other, registered),
            _ => (registered, other),
        };
        let keys = HUB_POLICIES.map(|(policy, _)| PolicyKeys {
            name: policy.into(),
            primary_key: primary.clone(),
            secondary_key: secondary.clone(),
        });
        let (host, path) = text("requestHost")
            .split_once('/')
            .unwrap_or((text("requestHost"), "devices"));
        let rules = Rules {
            host_names: vec![host.split(':').next().unwrap().into()],
            policies: Policies::with_keys(&keys),
            clock_skew: Duration::from_secs(300),
        };
        let now = UNIX_EPOCH + Duration::from_secs(case["now"].as_u64().unwrap());
        let judged = rules.service(Some(text("token")), path, HubRights::default(), now);
        assert_eq!(
            judged.is_ok(),
            case["valid"].as_bool().unwrap(),
            "{name} {judged:?}"
        );
    }
}

#[tokio::test]
async fn each_route_asks_for_its_right() {
    let desk = Desk::new();
    desk.make("d").await;
    let rows = [
        (
            Method::GET,
            "/devices",
            "registryRead registryReadWrite iothubowner",
        ),
        (
            Method::GET,
            "/devices/d",
            "registryRead registryReadWrite iothubowner",
        ),
        (
            Method::GET,
            "/statistics/devices",
            "registryRead registryReadWrite iothubowner",
        ),
        (
            Method::GET,
            "/statistics/service",
            "registryRead registryReadWrite iothubowner",
        ),
        (Method::PUT, "/devices/new", "registryReadWrite iothubowner"),
        (
            Method::DELETE,
            "/devices/d",
            "registryReadWrite iothubowner",
        ),
        (Method::GET, "/azimuth/events", "service iothubowner"),
        (Method::GET, "/azimuth/refusals", "service iothubowner"),
        (
            Method::GET,
            "/jobs",
            "registryRead registryReadWrite iothubowner",
        ),
        (
            Method::GET,
            "/jobs/j",
            "registryRead registryReadWrite iothubowner",
        ),
        (Method::DELETE, "/jobs/j", "registryReadWrite iothubowner"),
        (
            Method::POST,
            "/jobs/create",
            "registryReadWrite iothubowner",
        ),
        (
            Method::GET,
            "/jobs/v2/j",
            "registryRead registryReadWrite iothubowner service device",
        ),
        (Method::GET, "/twins/d", "service iothubowner"),
        (Method::PATCH, "/twins/d", "service iothubowner"),
        (Method::PUT, "/twins/d", "service iothubowner"),
        (Method::POST, "/devices", "registryReadWrite iothubowner"),
        (
            Method::POST,
            "/devices/keys/regenerate",
            "registryReadWrite iothubowner",
        ),
    ];
    for (method, path, holders) in rows {
        for (policy, _) in HUB_POLICIES {
            let headers = [("authorization", desk.token(policy))];
            let path = format!("{path}{VERSION}");
            let reply = desk.request(method.clone(), &path, &headers, "{}").await;
            let expected = holders.split(' ').any(|holder| holder == policy);
            assert_eq!(reply.status != 401, expected, "{policy} {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_refused_request_is_told_little_and_recorded_in_full() {
    let desk = Desk::new();
    let path = format!("/devices/d{VERSION}");
    let wrong = azimuth_wire::sas::sign(
        crate::desk::HOST,
        &SymmetricKey::from_bytes(&[1; 32]),
        crate::desk::START + 60,
        Some("iothubowner"),
    );
    for (headers, kind) in [
        (vec![], "no-credentials"),
        (
            vec![("authorization", "Bearer x".to_owned())],
            "malformed-token",
        ),
        (vec![("authorization", wrong)], "wrong-key"),
        (
            vec![("authorization", desk.token("service"))],
            "policy-without-right",
        ),
    ] {
        let reply = desk.request(Method::GET, &path, &headers, "").await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("iothub-errorcode"), "IotHubUnauthorizedAccess");
        let message = reply.json().await["Message"].as_str().unwrap().to_owned();
        assert_eq!(message, "ErrorCode:IotHubUnauthorizedAccess;Unauthorized");
        let record = desk.ledger.since(0).pop().unwrap();
        assert_eq!(record.refusal.kind, kind);
        assert_eq!(record.operation.name(), "request");
        assert_eq!(
            record.refusal.answer.to_string(),
            "HTTP 401 IotHubUnauthorizedAccess"
        );
        assert_eq!(record.remote, Some("127.0.0.1:50000".parse().unwrap()));
        assert!(
            record
                .refusal
                .facts
                .contains(&("request", "GET /devices/d".into()))
        );
    }
}
