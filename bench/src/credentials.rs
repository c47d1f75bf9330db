//! What a client of the benchmark calls itself, and how it signs in.
//!
//! Every server gets the same CONNECT packets; mosquitto does not look at the token.

use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::{SymmetricKey, sas, time};
use rumqttc::mqttbytes::v4::Connect;

/// How clients sign in.
pub enum Credentials {
    /// Devices of a hub; one key serves all.
    Hub {
        host: String,
        key: SymmetricKey,
        expiry: u64,
    },
    /// Devices that a DPS put into a hub, each with its derived key.
    Provisioned {
        host: String,
        group: SymmetricKey,
        expiry: u64,
    },
    /// Registrations of an enrollment group.
    Dps {
        id_scope: String,
        group: SymmetricKey,
        expiry: u64,
    },
    /// Registrations by certificate: there is no token.
    DpsCertificate { id_scope: String },
}

/// The id of a client.
pub fn device_id(client: usize) -> String {
    format!("bench-{client:06}")
}

/// A time in seconds since 1970 that no run reaches.
pub fn far_expiry() -> u64 {
    time::unix_seconds(SystemClock.utc()) + 86_400
}

/// The key of every device of the benchmark; it protects nothing.
pub fn bench_key() -> SymmetricKey {
    SymmetricKey::from_bytes(&[0x5a; 32])
}

impl Credentials {
    pub fn connect(&self, client: usize, keep_alive: u16) -> Connect {
        let id = device_id(client);
        let (user, password) = match self {
            Self::Hub { host, key, expiry } => device_login(host, &id, key, *expiry),
            Self::Provisioned {
                host,
                group,
                expiry,
            } => device_login(host, &id, &group.derive(&id), *expiry),
            Self::Dps {
                id_scope,
                group,
                expiry,
            } => (
                dps_user(id_scope, &id),
                registration_token(id_scope, &id, group, *expiry),
            ),
            Self::DpsCertificate { id_scope } => (dps_user(id_scope, &id), String::new()),
        };
        let mut connect = Connect::new(id);
        connect.keep_alive = keep_alive;
        connect.set_login(user, password);
        connect
    }
}

fn dps_user(id_scope: &str, id: &str) -> String {
    format!("{id_scope}/registrations/{id}/api-version=2019-03-31")
}

/// Of a member of an enrollment group.
pub fn registration_token(id_scope: &str, id: &str, group: &SymmetricKey, expiry: u64) -> String {
    let resource = format!("{id_scope}/registrations/{id}");
    sas::sign(&resource, &group.derive(id), expiry, Some("registration"))
}

fn device_login(host: &str, id: &str, key: &SymmetricKey, expiry: u64) -> (String, String) {
    let user = format!("{host}/{id}/?api-version=2021-04-12");
    (
        user,
        sas::sign(&format!("{host}/devices/{id}"), key, expiry, None),
    )
}

/// What a device of a hub listens to: commands, method calls, twin answers, desired properties.
pub fn device_filters(client: usize) -> Vec<String> {
    vec![
        format!("devices/{}/messages/devicebound/#", device_id(client)),
        "$iothub/methods/POST/#".into(),
        "$iothub/twin/res/#".into(),
        "$iothub/twin/PATCH/properties/desired/#".into(),
    ]
}
