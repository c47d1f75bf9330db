#![allow(clippy::unwrap_used)]
use axum::extract::Request;
use azimuth_wire::registration::{RegistrationState, RegistrationStatus};
use serde_json::{Value, json};

use super::*;
use crate::registration::Record;
use crate::rest::tests::{Api, HOST, Reply, examples};

async fn page(api: &Api, path: &str, count: Option<&str>, token: Option<&str>) -> Reply {
    let mut request = Request::builder()
        .method("POST")
        .uri(format!("{path}?api-version=2021-10-01"))
        .header("host", HOST)
        .header("authorization", Api::token());
    if let Some(count) = count {
        request = request.header("x-ms-max-item-count", count);
    }
    if let Some(token) = token {
        request = request.header("x-ms-continuation", token);
    }
    let body = Body::from(examples()["query"]["body"].to_string());
    Reply::read(api.raw(request.body(body).unwrap()).await).await
}

fn next(reply: &Reply) -> Option<String> {
    let token = reply.headers.get("x-ms-continuation");
    token.map(|token| token.to_str().unwrap().to_owned())
}

fn ids(reply: &Reply, member: &str) -> Vec<String> {
    let items = reply.body.as_array().unwrap().iter();
    items
        .map(|item| item[member].as_str().unwrap().to_owned())
        .collect()
}

async fn put(api: &Api, path: &str, member: &str, id: &str) {
    let body = json!({ member: id,
        "attestation": { "type": "symmetricKey", "symmetricKey": {} } });
    let path = format!("{path}/{}", azimuth_wire::percent::encode(id));
    let reply = api.send("PUT", &path, None, body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

async fn register(api: &Api, id: &str, group: &str) {
    let mut state = RegistrationState::new(id.parse().unwrap(), RegistrationStatus::Assigned);
    state.assigned_hub = Some("a.net".into());
    let record = Record {
        state,
        group: Some(group.parse().unwrap()),
        operation: String::new(),
        attempt: None,
        tpm: None,
    };
    let changes = records::put(&id.to_ascii_lowercase(), None, &record);
    api.office.store.commit(changes).await.unwrap();
}

#[tokio::test]
async fn enrollments_come_in_pages_without_keys() {
    let api = Api::new();
    for id in ["Dev:3", "dev.1", "dev-2"] {
        put(&api, "/enrollments", "registrationId", id).await;
    }
    register(&api, "dev-2", "g").await;
    let first = page(&api, "/enrollments/query", Some("2"), None).await;
    assert_eq!(first.headers["x-ms-item-type"], "Enrollment");
    assert_eq!(ids(&first, "registrationId"), ["dev-2", "dev.1"]);
    assert_eq!(
        first.body[0]["attestation"],
        json!({ "type": "symmetricKey" })
    );
    assert_eq!(first.body[0]["registrationState"]["assignedHub"], "a.net");
    let token = next(&first).unwrap();
    // What is made and removed meanwhile neither shifts nor repeats a page.
    put(&api, "/enrollments", "registrationId", "a-new-first").await;
    put(&api, "/enrollments", "registrationId", "z-new-last").await;
    let gone = api.send("DELETE", "/enrollments/dev.1", None, Value::Null);
    assert_eq!(gone.await.status, 204);
    let second = page(&api, "/enrollments/query", Some("2"), Some(&token)).await;
    assert_eq!(ids(&second, "registrationId"), ["Dev:3", "z-new-last"]);
    assert_eq!(next(&second), None, "the presence alone says that more is");
}

#[tokio::test]
async fn a_page_holds_a_hundred_at_most() {
    let api = Api::new();
    for at in 0..101 {
        put(
            &api,
            "/enrollmentGroups",
            "enrollmentGroupId",
            &format!("g{at:03}"),
        )
        .await;
    }
    for count in [None, Some("100"), Some("5000")] {
        let first = page(&api, "/enrollmentgroups/query", count, None).await;
        assert_eq!(first.headers["x-ms-item-type"], "EnrollmentGroup");
        assert_eq!(ids(&first, "enrollmentGroupId").len(), 100);
        let token = next(&first).unwrap();
        let last = page(&api, "/enrollmentGroups/query", count, Some(&token)).await;
        assert_eq!(ids(&last, "enrollmentGroupId"), ["g100"]);
        // A token is good for the query that gave it out.
        let other = page(&api, "/enrollments/query", count, Some(&token)).await;
        assert_eq!(other.status, 400);
    }
    let none = page(&api, "/enrollmentGroups/query", Some("0"), None).await;
    assert_eq!(none.status, 400);
}

#[tokio::test]
async fn registrations_are_listed_by_their_group() {
    let api = Api::new();
    put(&api, "/enrollmentGroups", "enrollmentGroupId", "Group:a_1").await;
    put(&api, "/enrollmentGroups", "enrollmentGroupId", "Group:a").await;
    for (id, group) in [("D1", "Group:a"), ("d2", "Group:a"), ("d3", "Group:a_1")] {
        register(&api, id, group).await;
    }
    let path = "/registrations/group%3Aa/query";
    let first = page(&api, path, Some("1"), None).await;
    assert_eq!(first.headers["x-ms-item-type"], "DeviceRegistration");
    assert_eq!(ids(&first, "registrationId"), ["D1"]);
    assert_eq!(first.body[0]["assignedHub"], "a.net");
    let rest = page(&api, path, None, next(&first).as_deref()).await;
    assert_eq!(
        (ids(&rest, "registrationId"), next(&rest)),
        (vec!["d2".into()], None)
    );

    let gone = api.send("DELETE", "/registrations/d2", None, Value::Null);
    assert_eq!(gone.await.status, 204);
    assert_eq!(
        ids(&page(&api, path, None, None).await, "registrationId"),
        ["D1"]
    );

    // The list goes with the group, the registrations stay.
    let gone = api.send("DELETE", "/enrollmentGroups/Group%3Aa", None, Value::Null);
    assert_eq!(gone.await.status, 204);
    assert_eq!(page(&api, path, None, None).await.body, json!([]));
    let left = api
        .send("GET", "/registrations/d1", None, Value::Null)
        .await;
    assert_eq!(left.status, 200);
}

#[tokio::test]
async fn a_body_may_be_left_out_and_a_question_may_not_be_made_up() {
    let api = Api::new();
    for (body, status) in [
        (Value::Null, 200),
        (json!({}), 200),
        (json!({ "query": "*" }), 200),
        (
            json!({ "query": "SELECT registrationId FROM enrollments" }),
            400,
        ),
    ] {
        let path = "/enrollments/query";
        let reply = api.send("POST", path, None, body.clone()).await;
        assert_eq!(reply.status, status, "{body}");
    }
    for path in ["/registrations/g/query", "/registrations", "/enrollments"] {
        let reply = api.send("GET", path, None, Value::Null).await;
        assert_eq!(reply.status, 405, "{path}");
    }
    let reply = api.send("POST", "/registrations/n%20o/query", None, Value::Null);
    assert_eq!(reply.await.status, 400);
}
