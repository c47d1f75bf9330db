#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use azimuth_certs::Thumbprint;
use azimuth_clock::SystemClock;
use serde_json::Value;

use super::*;
use crate::attestation::DeviceKeys;
use crate::stub_hub::{Fault, StubHub, Trust};

const HOST: &str = "a-hub.azure-devices.net";

struct Pair {
    hub: Arc<StubHub>,
    link: LinkedHub,
    credential: HubCredential,
    id: DeviceId,
    trust: Trust,
}

impl Pair {
    async fn new() -> Self {
        let trust = Trust::new();
        let hub = StubHub::start(&trust, HOST).await;
        let link = linked(&trust, &hub.link());
        let key = |byte| SymmetricKey::from_bytes(&[byte; 32]);
        Self {
            hub,
            link,
            credential: HubCredential::Keys(DeviceKeys {
                primary: key(1),
                secondary: key(2),
            }),
            id: "dev:1%".parse().unwrap(),
            trust,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            id: &self.id,
            credential: &self.credential,
            iot_edge: false,
            twin: None,
            status: Status::Enabled,
        }
    }

    fn keys(&mut self) -> &mut DeviceKeys {
        match &mut self.credential {
            HubCredential::Keys(keys) => keys,
            HubCredential::Certificate(_) => panic!("keys are expected"),
        }
    }

    fn device(&self) -> Value {
        self.hub.devices.lock()["dev:1%"].1.clone()
    }

    fn requests(&self) -> Vec<String> {
        let requests = std::mem::take(&mut *self.hub.requests.lock());
        requests
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    }
}

fn linked(trust: &Trust, config: &LinkedHubConfig) -> LinkedHub {
    let tls = azimuth_certs::client_config(Some(trust.authority.certificate_pem())).unwrap();
    let timeout = Duration::from_millis(700);
    LinkedHub::new(config, tls, timeout, Arc::new(SystemClock)).unwrap()
}

#[tokio::test]
async fn a_new_device_takes_one_request() {
    let mut pair = Pair::new().await;
    pair.link.create(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["PUT"]);
    let device = pair.device();
    assert_eq!(device["status"], "enabled");
    assert_eq!(
        device["authentication"]["symmetricKey"]["primaryKey"],
        pair.keys().primary.reveal()
    );
    assert_eq!(device["capabilities"]["iotEdge"], false);
}

#[tokio::test]
async fn a_device_that_is_there_gets_the_credential_and_stays_disabled() {
    let mut pair = Pair::new().await;
    pair.link.create(pair.wanted()).await.unwrap();
    pair.hub.devices.lock().get_mut("dev:1%").unwrap().1["status"] = "disabled".into();
    pair.keys().primary = SymmetricKey::from_bytes(&[3; 32]);
    let _ = pair.requests();
    pair.link.create(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["PUT", "GET", "PUT"]);
    let device = pair.device();
    assert_eq!(device["status"], "disabled");
    assert_eq!(
        device["authentication"]["symmetricKey"]["primaryKey"],
        pair.keys().primary.reveal()
    );
}

#[tokio::test]
async fn a_device_as_it_should_be_is_only_looked_at_and_a_deleted_one_comes_back() {
    let pair = Pair::new().await;
    pair.link.create(pair.wanted()).await.unwrap();
    let _ = pair.requests();
    pair.link.keep(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["GET"]);
    pair.link.remove(&pair.id).await.unwrap();
    pair.link.remove(&pair.id).await.unwrap();
    assert!(!pair.hub.has("dev:1%"));
    pair.link.keep(pair.wanted()).await.unwrap();
    assert!(pair.hub.has("dev:1%"));
}

#[tokio::test]
async fn a_certificate_is_written_as_its_thumbprint_and_only_once() {
    let mut pair = Pair::new().await;
    pair.credential = HubCredential::Certificate(Thumbprint::sha256(b"any"));
    pair.link.create(pair.wanted()).await.unwrap();
    let thumbprint = Thumbprint::sha256(b"any").to_string();
    let written = pair.device()["authentication"].clone();
    assert_eq!(
        written,
        json!({ "type": "selfSigned", "x509Thumbprint": { "primaryThumbprint": thumbprint, "secondaryThumbprint": null } })
    );
    let _ = pair.requests();
    pair.link.keep(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["GET"]);
    pair.credential = HubCredential::Certificate(Thumbprint::sha256(b"other"));
    pair.link.keep(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["GET", "PUT"]);
}

#[tokio::test]
async fn a_device_that_others_write_is_read_again() {
    let mut pair = Pair::new().await;
    pair.link.create(pair.wanted()).await.unwrap();
    pair.keys().secondary = SymmetricKey::from_bytes(&[3; 32]);
    *pair.hub.fault.lock() = Some(Fault::Race(2));
    let _ = pair.requests();
    pair.link.keep(pair.wanted()).await.unwrap();
    assert_eq!(pair.requests(), ["GET", "PUT", "GET", "PUT", "GET", "PUT"]);
    pair.keys().secondary = SymmetricKey::from_bytes(&[4; 32]);
    *pair.hub.fault.lock() = Some(Fault::Race(99));
    let error = pair.link.keep(pair.wanted()).await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable(_)));
}

#[tokio::test]
async fn answers_that_may_change_are_told_from_those_that_will_not() {
    let pair = Pair::new().await;
    for (status, again) in [
        (503, true),
        (429, true),
        (500, true),
        (403, false),
        (400, false),
    ] {
        *pair.hub.fault.lock() = Some(Fault::Status(status, 1));
        let error = pair.link.create(pair.wanted()).await.unwrap_err();
        assert_eq!(matches!(error, HubError::Unreachable(_)), again, "{status}");
    }
    *pair.hub.fault.lock() = Some(Fault::Silent);
    let error = pair.link.create(pair.wanted()).await.unwrap_err();
    assert_eq!(
        error,
        HubError::Unreachable("it did not answer in time".into())
    );
}

#[tokio::test]
async fn a_wrong_key_a_closed_port_and_a_strange_authority_are_told() {
    let pair = Pair::new().await;
    let wrong = pair.hub.link_with(SymmetricKey::from_bytes(&[8; 32]));
    let error = linked(&pair.trust, &wrong)
        .create(pair.wanted())
        .await
        .unwrap_err();
    let HubError::Refused { status: 401, body } = error else {
        panic!("{error}")
    };
    assert!(body.contains("IotHubUnauthorizedAccess"));

    let mut closed = pair.hub.link();
    closed.https_port = 1;
    let error = linked(&pair.trust, &closed)
        .create(pair.wanted())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HubError::Unreachable(why) if why.contains("refused")),
        "{error}"
    );

    let stranger = linked(&Trust::new(), &pair.hub.link());
    let error = stranger.create(pair.wanted()).await.unwrap_err();
    assert!(
        matches!(&error, HubError::Unreachable(why) if why.contains("must share one CA")),
        "{error}"
    );
}

#[tokio::test]
async fn a_device_among_edge_devices_keeps_its_place() {
    let mut pair = Pair::new().await;
    pair.link.create(pair.wanted()).await.unwrap();
    let (own, parent) = (
        "ms-azure-iot-edge://dev:1%-1",
        "ms-azure-iot-edge://parent-1",
    );
    for (was_edge, is_edge, scope) in [
        (true, true, Value::from(own)),
        (true, false, own.into()),
        (false, false, parent.into()),
        // Its parent's scope is not its own: the hub gives it one.
        (false, true, Value::Null),
    ] {
        let mut device = pair.device();
        device["capabilities"]["iotEdge"] = was_edge.into();
        device["deviceScope"] = if was_edge { own } else { parent }.into();
        device["parentScopes"] = json!([parent]);
        pair.hub.devices.lock().get_mut("dev:1%").unwrap().1 = device;
        pair.keys().primary = SymmetricKey::from_bytes(&rand::random::<[u8; 32]>());
        let wanted = Wanted {
            iot_edge: is_edge,
            ..pair.wanted()
        };
        pair.link.keep(wanted).await.unwrap();
        let written = pair.device();
        assert_eq!(written["deviceScope"], scope, "{was_edge} {is_edge}");
        assert_eq!(written["parentScopes"], json!([parent]));
        assert_eq!(written["capabilities"]["iotEdge"], is_edge);
    }
}
