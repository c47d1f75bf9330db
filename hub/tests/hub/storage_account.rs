//! A storage account with one container, as strict as Azure's where import and export go.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// What the URI of the container is signed with.
pub const SIGNATURE: &str = "sig=Rm9yIHRlc3Rz%2Bonly%3D";

#[derive(Clone, Default)]
pub struct StorageAccount(Arc<Shared>);

#[derive(Default)]
struct Shared {
    blobs: Mutex<HashMap<String, Bytes>>,
    blocks: Mutex<HashMap<String, Bytes>>,
    /// Requests as method and what is asked for.
    asked: Mutex<Vec<String>>,
    /// Answered so instead, by the beginning of what is asked.
    refuses: Mutex<Vec<(String, u16)>>,
    /// Ranges wait for a permit, where there is one.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl StorageAccount {
    /// Serves on a port of its own; hands out the URI of the container.
    pub async fn start() -> (Self, String) {
        let account = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(serve).with_state(account.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let uri = format!("http://{address}/account/box?sv=2024-08-04&sr=c&{SIGNATURE}");
        (account, uri)
    }

    pub fn put(&self, blob: &str, text: impl Into<Bytes>) {
        self.0.blobs.lock().insert(blob.into(), text.into());
    }

    pub fn text(&self, blob: &str) -> Option<String> {
        let bytes = self.0.blobs.lock().get(blob).cloned()?;
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.blobs.lock().keys().cloned().collect();
        names.sort();
        names
    }

    /// How often what begins so was asked for.
    pub fn count(&self, asked: &str) -> usize {
        let all = self.0.asked.lock();
        all.iter().filter(|one| one.starts_with(asked)).count()
    }

    pub fn refuse(&self, asked: &str, status: u16) {
        self.0.refuses.lock().push((asked.into(), status));
    }

    /// Lets nobody read before a permit is given.
    pub fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.0.gate.lock() = Some(gate.clone());
        gate
    }
}

async fn serve(State(account): State<StorageAccount>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let blob = head.uri.path().strip_prefix("/account/box/");
    let blob = blob.unwrap_or_default().to_owned();
    let header = |name: &str| head.headers.get(name)?.to_str().ok().map(ToOwned::to_owned);
    let parameter = |name: &str| {
        let pairs = query.split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned())
    };
    let what = format!(
        "{} {blob} {}",
        head.method,
        parameter("comp").unwrap_or_default()
    );
    let shared = &account.0;
    shared.asked.lock().push(what.clone());
    if !query.contains(SIGNATURE) || header("authorization").is_some() {
        return answer(403, "AuthenticationFailed");
    }
    if header("x-ms-version").is_none_or(|version| version.as_str() < "2012-02-12") {
        return answer(400, "InvalidHeaderValue");
    }
    let refused = shared
        .refuses
        .lock()
        .iter()
        .find(|(begins, _)| what.starts_with(begins))
        .map(|(_, status)| *status);
    if let Some(status) = refused {
        return answer(status, "AsTold");
    }
    let body = axum::body::to_bytes(body, 100 << 20).await.unwrap();
    let found = shared.blobs.lock().get(&blob).cloned();
    match (head.method, parameter("comp").as_deref()) {
        (Method::HEAD, None) => match found {
            Some(found) => Response::builder()
                .header("content-length", found.len())
                .header("etag", etag(&found))
                .body(Body::empty())
                .unwrap(),
            None => answer(404, "BlobNotFound"),
        },
        (Method::GET, None) => {
            let gate = shared.gate.lock().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            let Some(found) = found else {
                return answer(404, "BlobNotFound");
            };
            if header("if-match") != Some(etag(&found)) {
                return answer(412, "ConditionNotMet");
            }
            let range = header("range").unwrap();
            let (first, last) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            if first >= found.len() || last - first >= 4 << 20 {
                return answer(416, "InvalidRange");
            }
            let part = found.slice(first..(last + 1).min(found.len()));
            Response::builder().status(206).body(part.into()).unwrap()
        }
        (Method::PUT, None) => {
            if header("x-ms-blob-type").as_deref() != Some("BlockBlob") {
                return answer(400, "InvalidHeaderValue");
            }
            account.put(&blob, body);
            answer(201, "")
        }
        (Method::PUT, Some("block")) => {
            let id = parameter("blockid").unwrap().replace("%3D", "=");
            assert!(
                base64::engine::general_purpose::STANDARD
                    .decode(&id)
                    .is_ok()
            );
            shared.blocks.lock().insert(format!("{blob} {id}"), body);
            answer(201, "")
        }
        (Method::PUT, Some("blocklist")) => {
            let list = String::from_utf8(body.to_vec()).unwrap();
            let ids = list.split("<Latest>").skip(1);
            let ids = ids.map(|rest| rest.split_once("</Latest>").unwrap().0);
            let blocks = shared.blocks.lock();
            let mut whole = Vec::new();
            for id in ids {
                whole.extend_from_slice(&blocks[&format!("{blob} {id}")]);
            }
            account.put(&blob, whole);
            answer(201, "")
        }
        (Method::DELETE, None) => match shared.blobs.lock().remove(&blob) {
            Some(_) => answer(202, ""),
            None => answer(404, "BlobNotFound"),
        },
        _ => answer(400, "UnsupportedHttpVerb"),
    }
}

/// A blob of the same length and first byte counts as the same.
fn etag(blob: &Bytes) -> String {
    format!("\"0x{:X}{:X?}\"", blob.len(), blob.first())
}

fn answer(status: u16, code: &str) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if !code.is_empty() {
        response = response.header("x-ms-error-code", code);
    }
    response.body(Body::empty()).unwrap()
}
