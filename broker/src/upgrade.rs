//! Which HTTP request becomes a WebSocket, and what the others are told.
//!
//! Pure: method, path and headers in, a verdict out. What may not enter: sockets, frames, and the
//! names of paths, which are the service's.

use axum::body::Body;
use axum::http::header::{
    CONNECTION, CONTENT_TYPE, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::refusal::{Answer, Refusal};

/// What a request is.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// One for the service's routes.
    Plain,
    /// A WebSocket that carries MQTT, once this answer is sent.
    Switch(Response<Body>),
    Refused(StatusCode, Refusal),
}

/// Judges a request; `paths` are those that carry MQTT.
pub(crate) fn judge<B>(request: &Request<B>, paths: &[&str]) -> Verdict {
    let headers = request.headers();
    let path = request.uri().path();
    let known = paths.iter().any(|known| names(path, known));
    if !holds(headers, UPGRADE, "websocket") {
        // A root without a WebSocket is a request like any other.
        if !known || path.len() == 1 {
            return Verdict::Plain;
        }
        return refused(
            StatusCode::UPGRADE_REQUIRED,
            "no-upgrade",
            format!("`{path}` takes WebSockets only; the request has no `Upgrade: websocket`"),
        );
    }
    if !known {
        let shown: String = path.chars().take(200).collect();
        let sentence = match paths.first() {
            Some(first) => format!("no WebSocket is served at `{shown}`, but at `{first}`"),
            None => format!("no WebSocket is served at `{shown}`"),
        };
        return refused(StatusCode::NOT_FOUND, "wrong-websocket-path", sentence);
    }
    let fits = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && holds(headers, CONNECTION, "upgrade");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| fits);
    let Some(key) = key else {
        return refused(
            StatusCode::BAD_REQUEST,
            "bad-upgrade",
            "a WebSocket begins with a GET of HTTP/1.1 with `Connection: Upgrade` and a Sec-WebSocket-Key",
        );
    };
    if !holds(headers, SEC_WEBSOCKET_VERSION, "13") {
        return refused(
            StatusCode::UPGRADE_REQUIRED,
            "wrong-websocket-version",
            "version 13 of the WebSocket protocol is served; Sec-WebSocket-Version names another, or is missing",
        );
    }
    match protocol(headers) {
        // The spelling goes back as it came: the C SDK offers `MQTT`.
        Ok(offered) => Verdict::Switch(switch(key, offered)),
        Err((kind, sentence)) => refused(StatusCode::BAD_REQUEST, kind, sentence),
    }
}

/// The answer to a request that was refused.
pub(crate) fn refusal_answer(status: StatusCode, refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.sentence.clone()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    }
    response
}

fn refused(status: StatusCode, kind: &'static str, sentence: impl Into<String>) -> Verdict {
    let name = status.canonical_reason().unwrap_or_default();
    let answer = Answer::Http(status.as_u16(), name.into());
    Verdict::Refused(status, Refusal::new(kind, answer, sentence))
}

fn switch(key: &HeaderValue, protocol: HeaderValue) -> Response<Body> {
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::try_from(accept).expect("Base64 is a header value");
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    response
}

/// The offered spelling of `mqtt`.
fn protocol(headers: &HeaderMap) -> Result<HeaderValue, (&'static str, String)> {
    let offered: Vec<&str> = list(headers, SEC_WEBSOCKET_PROTOCOL).collect();
    let one = |name: &str| {
        let mut offered = offered.iter();
        offered.find(|offered| offered.eq_ignore_ascii_case(name))
    };
    if let Some(mqtt) = one("mqtt") {
        return Ok(HeaderValue::from_str(mqtt).expect("part of a header value is one"));
    }
    if one("AMQPWSB10").is_some() {
        let sentence = "AMQP is not simulated yet; use MQTT, sub-protocol `mqtt`";
        return Err(("not-supported", sentence.into()));
    }
    let shown: String = offered.join(", ").chars().take(100).collect();
    let sentence = if shown.is_empty() {
        "the request has no Sec-WebSocket-Protocol; the sub-protocol `mqtt` is needed".into()
    } else {
        format!("the sub-protocol `mqtt` is needed, the request offers `{shown}`")
    };
    Err(("wrong-sub-protocol", sentence))
}

fn holds(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    list(headers, name).any(|each| each.eq_ignore_ascii_case(word))
}

/// The words of a header that is a list, possibly on several lines.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Whether a path names this one. Some clients escape the dollar sign, some end with a slash.
fn names(path: &str, known: &str) -> bool {
    let path = path.replace("%24", "$");
    let bare = |path: &str| path.trim_end_matches('/').to_ascii_lowercase();
    bare(&path) == bare(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PATHS: &[&str] = &["/$iothub/websocket", "/"];

    /// A request with these headers, one `name: value` each.
    fn request(method: &str, target: &str, headers: &[&str]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for line in headers {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }

    const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn what_clients_send_is_taken_and_their_spelling_goes_back() {
        let rows = [
            ("/$iothub/websocket", "mqtt", "mqtt"),
            (
                "/$iothub/websocket?iothub-no-client-cert=true",
                "MQTT",
                "MQTT",
            ),
            ("/%24iothub/websocket", "mqttv3.1, mqtt", "mqtt"),
            ("/$IoTHub/websocket/", "mqtt,AMQPWSB10", "mqtt"),
            ("/", "mqtt", "mqtt"),
        ];
        for (target, offered, chosen) in rows {
            let offer = format!("sec-websocket-protocol: {offered}");
            let headers = [
                "upgrade: WebSocket",
                "connection: keep-alive, Upgrade",
                "sec-websocket-version: 13",
                KEY,
                &offer,
            ];
            let Verdict::Switch(answer) = judge(&request("GET", target, &headers), PATHS) else {
                panic!("{target} {offered}");
            };
            assert_eq!(answer.status(), 101);
            assert_eq!(answer.headers()["sec-websocket-protocol"], chosen);
            // The example of RFC 6455.
            let accept = &answer.headers()["sec-websocket-accept"];
            assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (upgrade, connection) = ("upgrade: websocket", "connection: Upgrade");
        let (version, mqtt) = ("sec-websocket-version: 13", "sec-websocket-protocol: mqtt");
        let path = "/$iothub/websocket";
        let amqp = "sec-websocket-protocol: AMQPWSB10";
        let other = "sec-websocket-protocol: chat";
        let old = "sec-websocket-version: 8";
        type Row<'a> = (&'a str, &'a str, &'a [&'a str], u16, &'a str, &'a str);
        let rows: [Row<'_>; 10] = [
            ("GET", path, &[], 426, "no-upgrade", "`Upgrade: websocket`"),
            ("GET", path, &["upgrade: h2c"], 426, "no-upgrade", path),
            (
                "GET",
                "/chat",
                &[upgrade, connection, version, KEY, mqtt],
                404,
                "wrong-websocket-path",
                path,
            ),
            (
                "PUT",
                path,
                &[upgrade, connection, version, KEY, mqtt],
                400,
                "bad-upgrade",
                "GET",
            ),
            (
                "GET",
                path,
                &[upgrade, version, KEY, mqtt],
                400,
                "bad-upgrade",
                "Connection",
            ),
            (
                "GET",
                path,
                &[upgrade, connection, version, mqtt],
                400,
                "bad-upgrade",
                "Sec-WebSocket-Key",
            ),
            (
                "GET",
                path,
                &[upgrade, connection, old, KEY, mqtt],
                426,
                "wrong-websocket-version",
                "13",
            ),
            (
                "GET",
                path,
                &[upgrade, connection, version, KEY],
                400,
                "wrong-sub-protocol",
                "no Sec-WebSocket-Protocol",
            ),
            (
                "GET",
                path,
                &[upgrade, connection, version, KEY, other],
                400,
                "wrong-sub-protocol",
                "`chat`",
            ),
            (
                "GET",
                path,
                &[upgrade, connection, version, KEY, amqp],
                400,
                "not-supported",
                "AMQP",
            ),
        ];
        for (method, target, headers, status, kind, words) in rows {
            let Verdict::Refused(code, refusal) = judge(&request(method, target, headers), PATHS)
            else {
                panic!("{method} {target} {headers:?}");
            };
            let answer = refusal_answer(code, &refusal);
            assert_eq!(
                (answer.status().as_u16(), refusal.kind),
                (status, kind),
                "{headers:?}"
            );
            assert!(refusal.sentence.contains(words), "{}", refusal.sentence);
            assert_eq!(answer.headers().contains_key("upgrade"), status == 426);
        }
    }

    #[test]
    fn other_requests_are_the_services() {
        for (target, headers) in [
            ("/devices/a", &[][..]),
            ("/", &[]),
            ("/", &["upgrade: h2c"]),
        ] {
            let verdict = judge(&request("GET", target, headers), PATHS);
            assert!(matches!(verdict, Verdict::Plain), "{target} {headers:?}");
        }
    }
}
