#![allow(clippy::unwrap_used)]
use azimuth_broker::{Answer, Operation, Refusal};

use crate::rest::tests::Api;

#[tokio::test]
async fn a_registration_is_explained_with_the_newest_refusals_of_its_own() {
    let api = Api::new();
    let ledger = &api.office.ledger;
    let refused = |operation, who: &str, sentence: String| {
        let refusal = Refusal::new("a-rule", Answer::Response(401), sentence);
        ledger.record(api.office.clock.utc(), operation, Some(who), None, refusal);
    };
    for number in 0..7 {
        refused(Operation::Registration, "Dev-1", format!("number {number}"));
        refused(Operation::Registration, "dev-10", "of another".into());
        // A policy may be called like a device.
        refused(Operation::Request, "dev-1", "of a back end".into());
    }
    let path = "/azimuth/why/registrations/DEV-1";
    let reply = api.send("GET", path, None, serde_json::Value::Null).await;
    assert_eq!(
        (reply.status, &reply.body["standing"]),
        (200, &"refused".into())
    );
    let refusals = reply.body["refusals"].as_array().unwrap();
    let sentences = refusals.iter().map(|refusal| &refusal["sentence"]);
    let expected: Vec<_> = (2..7).map(|number| format!("number {number}")).collect();
    assert!(sentences.eq(expected.iter()));
    assert_eq!(reply.body["registrationId"], "DEV-1");

    for (method, path, status) in [
        ("PUT", path, 405),
        ("GET", "/azimuth/why/registrations/a%20b", 400),
        ("GET", "/azimuth/why/registrations", 404),
    ] {
        let reply = api.send(method, path, None, serde_json::Value::Null).await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
}
