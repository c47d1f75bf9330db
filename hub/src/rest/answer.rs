//! What goes back over HTTPS: bodies, headers, and Azure's two envelopes of an error.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, ETAG, RETRY_AFTER, SERVER, VARY};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use azimuth_wire::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, seconds};

const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// 200 with a body.
pub fn json(value: &impl Serialize) -> Result<Response, Error> {
    Ok(written_json(serde_json::to_vec(value)?))
}

/// 200 with a body that is JSON already.
pub fn written_json(json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// 200 with a body and its version.
pub fn with_etag(value: &impl Serialize, etag: &str) -> Result<Response, Error> {
    let mut response = json(value)?;
    if let Ok(quoted) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(ETAG, quoted);
    }
    Ok(response)
}

/// 204.
pub fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// An error: the name stands in the header and in the body, and clients check that both agree.
pub fn error(error: &Error, request: Uuid, now: SystemTime) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Envelope {
        message: String,
        exception_message: String,
    }
    let code = error.code();
    let body = match error {
        // Of many items each has its own error.
        Error::Bulk(result) => serde_json::to_vec(result),
        Error::Regeneration(result) => serde_json::to_vec(result),
        Error::ModuleAlreadyExists { .. } => serde_json::to_vec(&Numbered {
            error_code: code.number(),
            message: error.to_string(),
            tracking_id: tracking(request, now),
            timestamp_utc: now.into(),
            info: None,
        }),
        error => serde_json::to_vec(&Envelope {
            message: format!("ErrorCode:{};{error}", code.name()),
            exception_message: format!("Tracking ID:{}", tracking(request, now)),
        }),
    };
    let body = body.expect("texts and numbers are JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).expect("every number begins with an HTTP status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ERROR_CODE, HeaderValue::from_static(code.name()));
    if let Error::Throttled(beyond) = error {
        headers.insert(RETRY_AFTER, seconds(beyond).into());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The headers that every answer has.
pub fn stamp(response: &mut Response, request: Uuid) {
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("Microsoft-HTTPAPI/2.0"));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Ok(id) = HeaderValue::from_str(&request.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
}

/// The second envelope, which newer operations answer with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbered {
    error_code: u32,
    message: String,
    tracking_id: String,
    timestamp_utc: Timestamp,
    info: Option<()>,
}

/// `<32 hex digits>-G:<number>-TimeStamp:<MM/dd/yyyy HH:mm:ss>`.
fn tracking(request: Uuid, now: SystemTime) -> String {
    let iso = Timestamp::from(now).to_string();
    let part = |range| iso.get(range).unwrap_or_default();
    let (year, month, day, time) = (part(0..4), part(5..7), part(8..10), part(11..19));
    let id = request.simple();
    format!("{id}-G:0-TimeStamp:{month}/{day}/{year} {time}")
}
