//! Bodies that the fuzzer kept, to every route that reads one: whatever comes, Azure's answer goes back.

use super::*;

const ROUTES: [(&str, &str); 14] = [
    ("PUT", "/enrollments/dev-001"),
    ("PUT", "/enrollmentGroups/contoso-devices"),
    ("POST", "/enrollments"),
    ("POST", "/enrollmentGroups"),
    ("POST", "/enrollments/query"),
    ("POST", "/enrollmentGroups/query"),
    ("POST", "/registrations/contoso-devices/query"),
    (
        "PUT",
        "/azimuth/linkedHubs/contoso-hub-east.azure-devices.net",
    ),
    (
        "PATCH",
        "/azimuth/linkedHubs/contoso-hub-east.azure-devices.net",
    ),
    ("PUT", "/azimuth/certificates/root"),
    ("POST", "/azimuth/certificates/root/verify"),
    (
        "POST",
        "/azimuth/certificates/root/generateVerificationCode",
    ),
    ("DELETE", "/enrollments/dev-001"),
    ("DELETE", "/azimuth/certificates/root"),
];

#[tokio::test]
async fn every_body_on_every_route_is_answered_as_azure_does() {
    let api = Api::new();
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/bodies");
    let mut asked = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let data = std::fs::read(file.unwrap().path()).unwrap();
        let body = data.get(1..).unwrap_or_default();
        // Whole, and broken off.
        for body in [body, &body[..body.len() / 2]] {
            for (method, path) in ROUTES {
                let request = Request::builder()
                    .method(method)
                    .uri(format!("{path}?api-version=2021-10-01"))
                    .header("host", HOST)
                    .header("if-match", "*")
                    .header("content-type", "application/json")
                    .header("authorization", Api::token())
                    .body(Body::from(body.to_vec()))
                    .unwrap();
                let reply = Reply::read(api.raw(request).await).await;
                let shown = String::from_utf8_lossy(body);
                assert!(
                    reply.status < 500,
                    "{method} {path} {} {shown}",
                    reply.status
                );
                if reply.status >= 400 {
                    let code = reply.body["errorCode"].as_u64().unwrap_or_default();
                    assert_eq!(
                        code / 1000,
                        u64::from(reply.status),
                        "{method} {path} {shown}"
                    );
                    assert!(
                        reply.body["trackingId"].is_string(),
                        "{method} {path} {shown}"
                    );
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 300, "{asked}");
}
