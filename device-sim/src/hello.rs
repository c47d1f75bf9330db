//! How a device introduces itself: CONNECT at the DPS and at the hub, with a fresh SAS token, or with none where a
//! certificate says who it is.
//!
//! The only file of the crate that touches keys.

use std::time::Duration;

use azimuth_wire::SymmetricKey;
use azimuth_wire::sas;
use rumqttc::mqttbytes::v4::{Connect, Login};

use crate::plan::{Credential, Dps, Plan};

/// Longer than the longest `retry-after` that is obeyed on the line.
const DPS_KEEP_ALIVE: u16 = 600;
const PRODUCT: &str = concat!("azimuth-device-sim%2F", env!("CARGO_PKG_VERSION"));

/// CONNECT at the DPS (Azure: DPS MQTT support). `unix` is now, in seconds since 1970.
pub(crate) fn dps(plan: &Plan, dps: &Dps, id: &str, unix: u64) -> Connect {
    let scope = dps.id_scope.as_str();
    let password = key(plan, id).map(|key| {
        let resource = format!("{scope}/registrations/{id}");
        sas::sign(&resource, &key, expiry(plan, unix), Some("registration"))
    });
    Connect {
        keep_alive: DPS_KEEP_ALIVE,
        clean_session: true,
        login: Some(Login::new(
            format!("{scope}/registrations/{id}/api-version=2021-06-01&ClientVersion={PRODUCT}"),
            password.unwrap_or_default(),
        )),
        ..Connect::new(id)
    }
}

/// `Authorization` at the DPS over HTTPS, by a key that came for the TPM.
pub(crate) fn registration(
    plan: &Plan,
    dps: &Dps,
    id: &str,
    key: &SymmetricKey,
    unix: u64,
) -> String {
    let resource = format!("{}/registrations/{id}", dps.id_scope);
    sas::sign(&resource, key, expiry(plan, unix), Some("registration"))
}

/// CONNECT at the hub (Azure: IoT Hub MQTT support). The session is kept, as with every SDK.
/// `registration` is what the key is derived from, `device` who the device is at this hub; `delivered` is
/// the key that came with the assignment, where one did.
pub(crate) fn hub(
    plan: &Plan,
    host: &str,
    registration: &str,
    device: &str,
    delivered: Option<&SymmetricKey>,
    unix: u64,
) -> Connect {
    let policy = match &plan.credential {
        Credential::GroupKey(_)
        | Credential::DeviceKey(_)
        | Credential::Certificates(_)
        | Credential::Tpms(_) => None,
        Credential::ConnectionString(string) | Credential::HubPolicy(string) => {
            string.key_name.as_deref()
        }
    };
    let key = delivered.cloned().or_else(|| key(plan, registration));
    let password = key.map(|key| {
        let resource = format!("{host}/devices/{device}");
        sas::sign(&resource, &key, expiry(plan, unix), policy)
    });
    Connect {
        keep_alive: u16::try_from(plan.keep_alive.as_secs()).unwrap_or(u16::MAX),
        clean_session: false,
        login: Some(Login::new(
            format!("{host}/{device}/?api-version=2021-04-12&DeviceClientType={PRODUCT}"),
            password.unwrap_or_default(),
        )),
        ..Connect::new(device)
    }
}

/// How long a token is used: 85 % of its life, as Azure's SDKs do. None where there is no token.
pub(crate) fn use_of_token(plan: &Plan) -> Option<Duration> {
    let certificates = matches!(plan.credential, Credential::Certificates(_));
    (!certificates).then(|| plan.token_life.mul_f64(0.85))
}

fn expiry(plan: &Plan, unix: u64) -> u64 {
    unix.saturating_add(plan.token_life.as_secs())
}

fn key(plan: &Plan, registration: &str) -> Option<SymmetricKey> {
    match &plan.credential {
        Credential::GroupKey(group) => Some(group.derive(registration)),
        Credential::DeviceKey(key) => Some(key.clone()),
        Credential::Certificates(_) | Credential::Tpms(_) => None,
        Credential::ConnectionString(string) | Credential::HubPolicy(string) => string.key.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_wire::sas::SasToken;
    use azimuth_wire::user_name::{DpsUserName, HubUserName};

    use super::*;
    use crate::plan::Who;

    const GROUP: &str =
        "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==";
    /// Derived from `GROUP` for `contoso-simdevice-east`.
    const EAST: &str = "p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=";

    #[test]
    fn a_device_of_a_group_signs_with_its_derived_key_at_the_dps_and_at_the_hub() {
        let place = Dps {
            host: "global.azure-devices-provisioning.net".into(),
            port: 8883,
            address: None,
            id_scope: "0ne00002193".parse().unwrap(),
        };
        let id = "contoso-simdevice-east";
        let who = Who::Named(vec![id.into()]);
        let credential = Credential::GroupKey(GROUP.parse().unwrap());
        let plan = Plan::new(who, credential, Some(place.clone()));
        let east: SymmetricKey = EAST.parse().unwrap();

        let connect = dps(&plan, &place, id, 1_000);
        let login = connect.login.unwrap();
        let token = SasToken::parse(&login.password).unwrap();
        assert!(token.signed_by(&east));
        assert!(token.names("0ne00002193/registrations/contoso-simdevice-east"));
        assert_eq!(token.expiry(), 4_600);
        assert_eq!(token.key_name(), Some("registration"));
        assert!(DpsUserName::parse(&login.username, &connect.client_id).is_ok());

        let connect = hub(
            &plan,
            "contoso-east-hub.azure-devices.net",
            id,
            "d1",
            None,
            1_000,
        );
        let login = connect.login.unwrap();
        let token = SasToken::parse(&login.password).unwrap();
        assert!(token.signed_by(&east));
        assert!(token.covers("contoso-east-hub.azure-devices.net/devices/d1"));
        assert_eq!(token.key_name(), None);
        let name = HubUserName::parse(&login.username, &connect.client_id).unwrap();
        assert_eq!(name.host, "contoso-east-hub.azure-devices.net");
        assert_eq!(
            name.client_type.unwrap(),
            format!("azimuth-device-sim/{}", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn a_device_with_a_certificate_sends_no_password() {
        let place = Dps {
            host: "global.azure-devices-provisioning.net".into(),
            port: 8883,
            address: None,
            id_scope: "0ne00002193".parse().unwrap(),
        };
        let who = Who::Named(vec!["d1".into()]);
        let credential = Credential::Certificates(Vec::new());
        let plan = Plan::new(who, credential, Some(place.clone()));
        for connect in [
            dps(&plan, &place, "d1", 0),
            hub(&plan, "h.azure-devices.net", "d1", "d1", None, 0),
        ] {
            let mut bytes = bytes::BytesMut::new();
            connect.write(&mut bytes).unwrap();
            // The flags of CONNECT stand behind the length, the protocol's name and its level.
            let flags = bytes[bytes.windows(4).position(|at| at == b"MQTT").unwrap() + 5];
            assert_eq!(flags & 0b1100_0000, 0b1000_0000, "{connect:?}");
        }
        assert_eq!(use_of_token(&plan), None);
    }

    #[test]
    fn a_policy_signs_for_any_device_and_names_itself() {
        let text = format!(
            "HostName=h.azure-devices.net;SharedAccessKeyName=device;SharedAccessKey={EAST}"
        );
        let who = Who::Numbered {
            name: "d{n}".into(),
            first: 1,
            count: 2,
        };
        let plan = Plan::new(who, Credential::HubPolicy(text.parse().unwrap()), None);
        let connect = hub(&plan, "h.azure-devices.net", "d2", "d2", None, 0);
        let token = SasToken::parse(&connect.login.unwrap().password).unwrap();
        assert_eq!(token.key_name(), Some("device"));
        assert!(token.covers("h.azure-devices.net/devices/d2"));
    }
}
