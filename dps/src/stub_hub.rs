//! A hub for tests: the few registry routes a DPS calls, over real TLS, with faults on demand.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use azimuth_certs::{Authority, KeyKind, ServerNames};
use azimuth_clock::SystemClock;
use azimuth_storage::Store;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::sas::SasToken;
use azimuth_wire::{SymmetricKey, percent};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::config::LinkedHubConfig;
use crate::linked_hubs::LinkedHubs;

/// An authority in a folder of its own, removed with it.
pub struct Trust {
    pub authority: Authority,
    folder: PathBuf,
}

impl Trust {
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("azimuth-dps-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Authority::load_or_create(&folder, SystemTime::now()).unwrap();
        Self { authority, folder }
    }

    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    pub fn server(&self, names: &[&str]) -> Arc<rustls::ServerConfig> {
        let names = ServerNames::parse(names).unwrap();
        let leaf = self
            .authority
            .issue_server(&names, KeyKind::P256, SystemTime::now())
            .unwrap();
        let (chain, key) = pem(&leaf);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn pem(
    leaf: &azimuth_certs::Leaf,
) -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    rustls::pki_types::PrivateKeyDer<'static>,
) {
    use rustls::pki_types::pem::PemObject;
    let chain = rustls::pki_types::CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes());
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

/// The set of these links.
pub async fn linked_hubs(
    store: &Arc<dyn Store>,
    trust: &Trust,
    links: &[LinkedHubConfig],
) -> Arc<LinkedHubs> {
    let roots = trust.authority.certificate_pem();
    let (timeout, clock) = (Duration::from_secs(5), Arc::new(SystemClock));
    let hubs = LinkedHubs::open(store.clone(), roots, timeout, clock).unwrap();
    hubs.declare(links).await.unwrap();
    Arc::new(hubs)
}

/// What the hub does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers this status to so many requests.
    Status(u16, u32),
    /// Never answers.
    Silent,
    /// Answers when the fault is over.
    Held,
    /// Changes the device between a read and a write, so many times.
    Race(u32),
}

pub struct StubHub {
    pub host: String,
    pub key: SymmetricKey,
    pub devices: Mutex<HashMap<String, (u64, Value)>>,
    pub requests: Mutex<Vec<String>>,
    pub fault: Mutex<Option<Fault>>,
    counter: AtomicU32,
    address: SocketAddr,
}

impl StubHub {
    pub async fn start(trust: &Trust, host: &str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Arc::new(Self {
            host: host.into(),
            key: SymmetricKey::from_bytes(&[9; 32]),
            devices: Mutex::default(),
            requests: Mutex::default(),
            fault: Mutex::default(),
            counter: AtomicU32::new(100),
            address: listener.local_addr().unwrap(),
        });
        let tls = tokio_rustls::TlsAcceptor::from(trust.server(&[host]));
        let app = axum::Router::new().fallback(answer).with_state(hub.clone());
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, app) = (tls.clone(), app.clone());
                tokio::spawn(async move {
                    let Ok(socket) = tls.accept(socket).await else {
                        return;
                    };
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(app);
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        hub
    }

    pub fn link(&self) -> LinkedHubConfig {
        self.link_with(self.key.clone())
    }

    pub fn link_with(&self, key: SymmetricKey) -> LinkedHubConfig {
        let string = ConnectionString::policy(&self.host, "iothubowner", key);
        LinkedHubConfig {
            dial: Some(self.address.ip()),
            https_port: self.address.port(),
            ..LinkedHubConfig::new(string, "eastus")
        }
    }

    pub fn has(&self, id: &str) -> bool {
        self.devices.lock().contains_key(id)
    }

    fn respond(&self, method: &str, id: &str, etag: Option<&str>, body: Value) -> (u16, Value) {
        let mut devices = self.devices.lock();
        let next = u64::from(self.counter.fetch_add(1, Ordering::SeqCst));
        let present = devices.get(id).map(|(version, _)| format!("\"{version}\""));
        let conflict = |name: &str| json!({ "Message": format!("ErrorCode:{name};{id}") });
        match (method, present, etag) {
            ("GET", Some(_), _) => (200, devices[id].1.clone()),
            ("GET" | "DELETE", None, _) => (404, conflict("DeviceNotFound")),
            ("PUT", None, Some(_)) => (404, conflict("DeviceNotFound")),
            ("PUT", Some(_), None) => (409, conflict("DeviceAlreadyExists")),
            ("PUT", Some(present), Some(etag)) if present != etag && etag != "*" => {
                (412, conflict("PreconditionFailed"))
            }
            ("PUT", _, _) => {
                let mut device = body;
                // Whoever writes an identity leaves its twin alone.
                let before = devices.get(id).map(|(_, device)| device.clone());
                for member in ["tags", "properties"] {
                    if let Some(twin) = before.as_ref().and_then(|before| before.get(member)) {
                        device[member] = twin.clone();
                    }
                }
                device["etag"] = next.to_string().into();
                devices.insert(id.into(), (next, device.clone()));
                (200, device)
            }
            ("DELETE", Some(_), Some(_)) => {
                devices.remove(id);
                (204, Value::Null)
            }
            _ => (412, conflict("EtagMissing")),
        }
    }

    /// One item of a bulk request: identity and twin as one.
    fn import(&self, item: &Value) -> (u16, Value) {
        let id = item["id"].as_str().unwrap();
        let mut devices = self.devices.lock();
        let next = u64::from(self.counter.fetch_add(1, Ordering::SeqCst));
        let present = devices.get(id).cloned();
        let code = match (item["importMode"].as_str().unwrap(), &present) {
            ("create", Some(_)) => Some(409_001),
            ("create", None) => None,
            ("updateIfMatchETag", None) => Some(404_001),
            ("updateIfMatchETag", Some((version, _))) => {
                (item["eTag"].as_str() != Some(version.to_string().as_str())).then_some(412_001)
            }
            (mode, _) => panic!("no mode of a DPS: {mode}"),
        };
        if let Some(code) = code {
            let errors = json!([{ "deviceId": id, "errorCode": code, "errorStatus": "a text" }]);
            return (
                400,
                json!({ "isSuccessful": false, "errors": errors, "warnings": [] }),
            );
        }
        let mut device = item.clone();
        device["etag"] = next.to_string().into();
        if let Some((_, before)) = present {
            let properties = &mut device["properties"];
            if properties["reported"].is_null() {
                properties["reported"] = before["properties"]["reported"].clone();
            }
        }
        devices.insert(id.into(), (next, device));
        (
            200,
            json!({ "isSuccessful": true, "errors": [], "warnings": [] }),
        )
    }

    /// Somebody else touches the device.
    fn race(&self, id: &str) {
        if let Some((version, device)) = self.devices.lock().get_mut(id) {
            *version += 1000;
            device["etag"] = version.to_string().into();
        }
    }
}

async fn answer(State(hub): State<Arc<StubHub>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let method = parts.method.as_str().to_owned();
    let path = parts
        .uri
        .path()
        .strip_prefix("/devices/")
        .unwrap_or_default();
    let id = percent::decode(path).into_owned();
    let what = parts.uri.path().split('/').nth(1).unwrap_or_default();
    hub.requests.lock().push(match (what, method.as_str()) {
        ("twins", _) => "GET twin".into(),
        (_, "POST") => "POST bulk".into(),
        _ => format!("{method} {id}"),
    });
    while *hub.fault.lock() == Some(Fault::Held) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fault = *hub.fault.lock();
    match fault {
        Some(Fault::Silent) => std::future::pending::<()>().await,
        Some(Fault::Status(status, times)) if times > 0 => {
            *hub.fault.lock() = Some(Fault::Status(status, times - 1));
            return reply(status, &json!({ "Message": "a fault" }));
        }
        _ => {}
    }
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let token = SasToken::parse(&header("authorization").unwrap_or_default());
    let known = token.is_ok_and(|token| {
        token.signed_by(&hub.key) && token.covers(&format!("{}{}", hub.host, parts.uri.path()))
    });
    if !known {
        return reply(
            401,
            &json!({ "Message": "ErrorCode:IotHubUnauthorizedAccess;Unauthorized",
            "ExceptionMessage": "Tracking ID:1" }),
        );
    }
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if parts.uri.path() == "/statistics/devices" {
        return reply(200, &json!({ "totalDeviceCount": 0 }));
    }
    if method == "POST" {
        let (status, body) = hub.import(&body[0]);
        return reply(status, &body);
    }
    if what == "twins" {
        let id = parts.uri.path().strip_prefix("/twins/").unwrap();
        let id = percent::decode(id).into_owned();
        let twin = hub.devices.lock().get(&id).map(|(_, device)| {
            let mut twin = json!({ "deviceId": id, "status": device["status"],
                "properties": device["properties"] });
            if !device["tags"].is_null() {
                twin["tags"] = device["tags"].clone();
            }
            twin
        });
        return match twin {
            Some(twin) => reply(200, &twin),
            None => reply(404, &json!({ "Message": "ErrorCode:DeviceNotFound;" })),
        };
    }
    let (status, body) = hub.respond(&method, &id, header("if-match").as_deref(), body);
    if let Some(Fault::Race(times)) = fault
        && times > 0
        && method == "GET"
    {
        *hub.fault.lock() = Some(Fault::Race(times - 1));
        hub.race(&id);
    }
    reply(status, &body)
}

fn reply(status: u16, body: &Value) -> Response {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    Response::builder().status(status).body(body).unwrap()
}

/// Long enough for a loaded machine, far shorter than a person would wait.
pub const SOON: Duration = Duration::from_secs(20);
