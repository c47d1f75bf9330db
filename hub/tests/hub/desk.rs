//! A hub in memory whose doors are called directly.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use azimuth_broker::{
    Admission, Backend, Hello, Ledger, Line, Peer, Presence, Publish, QoS, Refusal, Secret,
};
use azimuth_certs::CaCertificates;
use azimuth_clock::{Clock, ManualClock};
use azimuth_hub::auth::Rules;
use azimuth_hub::device::{DeviceDoor, Principal};
use azimuth_hub::event::{Appender, Log, LogConfig};
use azimuth_hub::job::{JobConfig, Jobs};
use azimuth_hub::notification::{Notifier, NotifierConfig, Sources};
use azimuth_hub::policies::Policies;
use azimuth_hub::quota::{Meter, Plan};
use azimuth_hub::registry::Registry;
use azimuth_hub::rest::{Rest, router};
use azimuth_storage::{Change, Expect, Key};
use azimuth_wire::ca_certificate::CA_CERTIFICATE_OF_HUB;
use azimuth_wire::sas;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub const HOST: &str = "hub1.azure-devices.net";
pub const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub const OTHER_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
pub const START: u64 = 1_700_000_000;

pub struct Desk {
    pub clock: Arc<ManualClock>,
    pub store: Arc<dyn azimuth_storage::Store>,
    pub registry: Arc<Registry>,
    pub ledger: Arc<Ledger>,
    pub door: DeviceDoor,
    pub notifier: Arc<Notifier>,
    pub appender: Appender,
    pub jobs: Arc<Jobs>,
    pub stopping: CancellationToken,
    policies: Policies,
    router: axum::Router,
    folder: Folder,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
}

impl Desk {
    pub fn new() -> Self {
        Self::over(azimuth_storage::memory())
    }

    pub fn over(store: Arc<dyn azimuth_storage::Store>) -> Self {
        Self::planned(store, None)
    }

    /// With what a tier allows.
    pub fn planned(store: Arc<dyn azimuth_storage::Store>, plan: Option<Plan>) -> Self {
        Self::with(store, plan, |_, _, _| NotifierConfig {
            hub: "hub1".into(),
            sources: Sources::new(),
            posts: Vec::new(),
            partitions: 4,
            snapshots: false,
        })
    }

    /// A hub that tells what happens.
    pub fn telling(
        store: Arc<dyn azimuth_storage::Store>,
        told: impl FnOnce(
            &Arc<dyn azimuth_storage::Store>,
            &Arc<ManualClock>,
            &Arc<Ledger>,
        ) -> NotifierConfig,
    ) -> Self {
        Self::with(store, None, told)
    }

    fn with(
        store: Arc<dyn azimuth_storage::Store>,
        plan: Option<Plan>,
        told: impl FnOnce(
            &Arc<dyn azimuth_storage::Store>,
            &Arc<ManualClock>,
            &Arc<Ledger>,
        ) -> NotifierConfig,
    ) -> Self {
        let meter = plan.map(|plan| Arc::new(Meter::new(plan)));
        let clock = Arc::new(ManualClock::at(UNIX_EPOCH + Duration::from_secs(START)));
        let ledger = Arc::new(Ledger::new("hub1"));
        let config = told(&store, &clock, &ledger);
        let opening = pin!(Notifier::open(config, store.clone(), clock.clone()));
        // A store in memory makes nobody wait.
        let Poll::Ready(notifier) = opening.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("the store is not in memory");
        };
        let notifier = Arc::new(notifier.unwrap());
        let folder = Folder::new();
        let config = LogConfig::default();
        let (appender, log, _) = Log::open(&folder.0, config, clock.utc()).unwrap();
        let policies = Policies::published("hub1");
        let rules = Arc::new(Rules {
            host_names: vec![HOST.into(), "127.0.0.11".into()],
            policies: policies.clone(),
            clock_skew: Duration::from_secs(300),
        });
        let registry = Registry::open("hub1", store.clone(), clock.clone()).unwrap();
        let registry = registry.telling(notifier.clone());
        let registry = Arc::new(registry.allowing(plan.map_or(u64::MAX, Plan::devices)));
        let ca_certificates =
            Arc::new(CaCertificates::open(store.clone(), CA_CERTIFICATE_OF_HUB).unwrap());
        let stopping = CancellationToken::new();
        let presence = Arc::new(Presence::new());
        let jobs = Arc::new(Jobs::new(
            JobConfig {
                name: "hub1".into(),
                folder: folder.0.join("jobs"),
                roots_pem: authority_pem(),
            },
            store.clone(),
            registry.clone(),
            presence.clone(),
            clock.clone(),
            stopping.clone(),
        ));
        let router = router(Rest {
            rules: rules.clone(),
            registry: registry.clone(),
            ca_certificates: ca_certificates.clone(),
            notifier: notifier.clone(),
            log,
            jobs: jobs.clone(),
            presence,
            ledger: ledger.clone(),
            clock: clock.clone(),
            meter: meter.clone(),
            stopping: stopping.clone(),
        });
        let door = DeviceDoor {
            rules,
            registry: registry.clone(),
            ca_certificates,
            notifier: notifier.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            meter,
            partitions: 4,
            sas_grace: Duration::from_secs(300),
            longest_silence: Duration::from_secs(1767),
            lost_after: Duration::ZERO,
        };
        Self {
            clock,
            store,
            registry,
            ledger,
            door,
            notifier,
            appender,
            jobs,
            stopping,
            policies,
            router,
            folder,
        }
    }

    /// Where jobs find `file:` containers.
    pub fn job_folder(&self) -> std::path::PathBuf {
        self.folder.0.join("jobs")
    }

    pub fn now(&self) -> SystemTime {
        self.clock.utc()
    }

    /// A token of a policy for the whole hub, good for an hour.
    pub fn token(&self, policy: &str) -> String {
        let key = &self.policies.policy(policy).unwrap().keys.primary_key;
        sas::sign(HOST, key, START + 3600, Some(policy))
    }

    /// A request of the hub's owner.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        if_match: Option<&str>,
        body: &str,
    ) -> Reply {
        let mut headers = vec![("authorization", self.token("iothubowner"))];
        headers.extend(if_match.map(|etag| ("if-match", etag.to_owned())));
        self.request(method, path, &headers, body).await
    }

    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Reply {
        self.send(method, path, headers, Body::from(body.to_owned()))
            .await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: Body,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(peer());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let status: StatusCode = head.status;
        Reply {
            status: status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    /// Makes a device with [`KEY`] and [`OTHER_KEY`].
    pub async fn make(&self, device: &str) -> Value {
        let body = format!(
            r#"{{"deviceId":"{device}","authentication":{{"symmetricKey":{{"primaryKey":"{KEY}","secondaryKey":"{OTHER_KEY}"}}}}}}"#
        );
        let path = format!(
            "/devices/{}{VERSION}",
            azimuth_wire::percent::encode(device)
        );
        let reply = self.ask(Method::PUT, &path, None, &body).await;
        assert_eq!(reply.status, 200);
        reply.json().await
    }

    /// Makes a module with the same keys.
    pub async fn make_module(&self, device: &str, module: &str) -> Value {
        let keys = json!({ "primaryKey": KEY, "secondaryKey": OTHER_KEY });
        let body = json!({ "authentication": { "symmetricKey": keys } });
        let path = format!("/devices/{device}/modules/{module}{VERSION}");
        let reply = self.ask(Method::PUT, &path, None, &body.to_string()).await;
        assert_eq!(reply.status, 200);
        reply.json().await
    }

    /// What a GET says; the path has no version yet.
    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, &format!("{path}{VERSION}"), None, "")
            .await
    }

    pub async fn read(&self, device: &str) -> Value {
        let path = format!("/devices/{device}{VERSION}");
        self.ask(Method::GET, &path, None, "").await.json().await
    }

    /// Gives an identity an etag by hand; `room` is `device` or `module`.
    pub async fn with_etag(&self, room: &'static str, name: &str, counter: u64) {
        let key = Key::new(room, name);
        let stored = self.store.get(&key).unwrap().unwrap();
        let mut stored: Value = serde_json::from_slice(&stored.body).unwrap();
        stored["counter"] = counter.into();
        let change = Change::put(key, Expect::Present, serde_json::to_vec(&stored).unwrap());
        self.store.commit(vec![change]).await.unwrap();
    }

    pub async fn connect(&self, hello: Hello) -> Result<Admission<Principal>, Refusal> {
        self.door.authenticate(hello).await
    }

    /// A device made and on the line.
    pub async fn on_the_line(&self, device: &str) -> (Principal, Line) {
        self.make(device).await;
        let admission = self.connect(hello(device)).await.unwrap();
        let line = Line::unconnected();
        self.door.arrived(&admission.principal, &line);
        (admission.principal, line)
    }
}

impl Reply {
    pub async fn text(self) -> String {
        let bytes = axum::body::to_bytes(self.body, usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub const VERSION: &str = "?api-version=2021-04-12";

/// A CONNECT that is right in everything, with a token that ends in an hour; of `device` or `device/module`.
pub fn hello(name: &str) -> Hello {
    let key = KEY.parse().unwrap();
    let resource = name.replace('/', "/modules/");
    let token = sas::sign(
        &format!("{HOST}/devices/{resource}"),
        &key,
        START + 3600,
        None,
    );
    Hello {
        client_id: name.into(),
        user_name: Some(format!("{HOST}/{name}/?api-version=2021-04-12")),
        password: Some(Secret(token)),
        clean_session: true,
        will: None,
        peer: peer(),
    }
}

pub fn publish<'a>(topic: &'a str, payload: &'a bytes::Bytes) -> Publish<'a> {
    Publish {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        duplicate: false,
        will: false,
    }
}

pub fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub fn peer() -> Arc<Peer> {
    Arc::new(Peer {
        remote: "127.0.0.1:50000".parse().unwrap(),
        local: "127.0.0.11:8883".parse().unwrap(),
        server_name: Some(HOST.into()),
        certificates: Vec::new(),
    })
}

/// Of an authority that all tests of a run share.
pub fn authority_pem() -> String {
    static PEM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let made = PEM.get_or_init(|| {
        let folder = Folder::new();
        let authority = azimuth_certs::Authority::load_or_create(&folder.0, SystemTime::now());
        authority.unwrap().certificate_pem().into()
    });
    made.clone()
}

/// A folder that goes when the test does.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new() -> Self {
        let name = format!("azimuth-hub-{}", uuid::Uuid::new_v4());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
