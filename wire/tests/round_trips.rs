//! What is written is read back as it was, for any value.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, UNIX_EPOCH};

use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::message::{PropertyBag, encode_bag};
use azimuth_wire::sas::{self, SasToken};
use azimuth_wire::time::Timestamp;
use azimuth_wire::topic::dps::{RequestTopic, ResponseTopic};
use azimuth_wire::topic::hub::{DeviceTopic, HubTopic};
use azimuth_wire::user_name::HubUserName;
use azimuth_wire::{Identity, SymmetricKey, percent};
use proptest::option;
use proptest::prelude::*;

fn identity() -> impl Strategy<Value = Identity> {
    let id = || "[A-Za-z0-9:.+%_#*?!(),=@$'-]{1,20}";
    (id(), option::of(id())).prop_map(|(device, module)| Identity {
        device: device.parse().unwrap(),
        module: module.map(|id| id.parse().unwrap()),
    })
}

/// Ids whose first segment after the ids cannot be taken for parameters.
fn plain_identity() -> impl Strategy<Value = Identity> {
    let id = || "[A-Za-z0-9:.+%_#*!()@$'-][A-Za-z0-9:.+%_#*?!(),@$'-]{0,20}";
    (id(), option::of(id())).prop_map(|(device, module)| Identity {
        device: device.parse().unwrap(),
        module: module.map(|id| id.parse().unwrap()),
    })
}

fn key() -> impl Strategy<Value = SymmetricKey> {
    prop::collection::vec(any::<u8>(), 16..=64).prop_map(|bytes| SymmetricKey::from_bytes(&bytes))
}

/// Names of which none is empty, none repeats.
fn properties() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    prop::collection::btree_map(".{1,6}", option::of(".{0,8}"), 0..40)
        .prop_map(|map| map.into_iter().collect())
}

const REQUEST_ID: &str = "[^&]{1,12}";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn telemetry(identity in identity(), properties in properties()) {
        let bag = properties.iter().map(|(n, v)| (n.as_str().into(), v.as_deref().map(Into::into)));
        let topic = DeviceTopic::Telemetry(PropertyBag(bag.collect()));
        let text = topic.text(&identity);
        prop_assert_eq!(DeviceTopic::parse(&text, &identity), Ok(topic));
    }

    #[test]
    fn property_bags(properties in properties()) {
        let pairs = || properties.iter().map(|(n, v)| (n.as_str(), v.as_deref()));
        let bag = encode_bag(pairs());
        let read = PropertyBag::parse(&bag).unwrap().0;
        prop_assert!(read.iter().map(|(n, v)| (n.as_ref(), v.as_deref())).eq(pairs()));
    }

    #[test]
    fn what_a_device_asks(
        identity in identity(), request_id in REQUEST_ID, if_version: Option<u64>, status: i32,
    ) {
        let request_id = request_id.as_str();
        for topic in [
            DeviceTopic::TwinGet { request_id },
            DeviceTopic::TwinPatchReported { request_id, if_version },
            DeviceTopic::MethodResponse { status, request_id },
        ] {
            let text = topic.text(&identity);
            prop_assert_eq!(DeviceTopic::parse(&text, &identity), Ok(topic));
        }
    }

    #[test]
    fn what_a_hub_says(
        identity in identity(), request_id in REQUEST_ID, version: Option<u64>, status: u16,
        name in "[?]?[^/$]{1,12}", bag in "[a-z0-9%=&]{0,20}",
    ) {
        let (identity, request_id, name, bag) = (&identity, &*request_id, &*name, &*bag);
        let mut topics = vec![
            HubTopic::TwinResponse { status, request_id, version },
            HubTopic::DesiredPatch { version: version.unwrap_or(1) },
            HubTopic::Method { name, request_id },
            HubTopic::CloudToDevice { identity, bag },
        ];
        if identity.module.is_some() {
            topics.push(HubTopic::ModuleInput { identity, input: name, bag });
        }
        for topic in topics {
            let text = topic.to_string();
            prop_assert_eq!(HubTopic::parse(&text, identity), Some(topic));
        }
    }

    #[test]
    fn what_a_dps_hears_and_answers(
        request_id in "[^&]{0,12}", operation_id in "[^&]{0,12}", status: u16,
        retry_after: Option<u32>,
    ) {
        let (request_id, operation_id) = (&*request_id, &*operation_id);
        for topic in [
            RequestTopic::Register { request_id },
            RequestTopic::OperationStatus { request_id, operation_id },
        ] {
            let text = topic.to_string();
            prop_assert_eq!(RequestTopic::parse(&text), Ok(topic));
        }
        let answer = ResponseTopic { status, request_id, retry_after };
        let text = answer.to_string();
        prop_assert_eq!(ResponseTopic::parse(&text), Some(answer));
    }

    #[test]
    fn connection_strings(
        identity in option::of(identity()), key in key(), host in "[a-z0-9.-]{1,20}",
        key_name in "[A-Za-z0-9_@.-]{1,12}", gateway in option::of("[a-z0-9.-]{1,20}"),
    ) {
        let mut connection = match identity {
            Some(identity) => ConnectionString::device(&host, identity, key),
            None => ConnectionString::policy(&host, &key_name, key),
        };
        connection.gateway_host_name = gateway;
        prop_assert_eq!(connection.reveal().parse(), Ok(connection));
    }

    #[test]
    fn user_names(identity in plain_identity(), client_type in ".{0,12}") {
        let escaped = percent::encode(&client_type);
        let client_id = identity.to_string();
        let text = format!("h/{identity}/?api-version=2021-04-12&DeviceClientType={escaped}");
        let name = HubUserName::parse(&text, &client_id).unwrap();
        prop_assert_eq!(name.identity, identity);
        prop_assert_eq!(name.api_version, Some(ApiVersion::new(2021, 4, 12)));
        prop_assert_eq!(name.client_type, Some(client_type));
    }

    #[test]
    fn tokens(identity in identity(), key in key(), expiry: u64, host in "[a-z0-9.-]{1,20}") {
        let resource = match &identity.module {
            Some(module) => format!("{host}/devices/{}/modules/{module}", identity.device),
            None => format!("{host}/devices/{}", identity.device),
        };
        let token = SasToken::parse(&sas::sign(&resource, &key, expiry, None)).unwrap();
        prop_assert!(token.signed_by(&key) && token.covers(&resource) && token.names(&resource));
        prop_assert_eq!(token.expiry(), expiry);
    }

    /// From year 1 to year 9999, and beyond both.
    #[test]
    fn times(seconds in -70_000_000_000_i64..300_000_000_000, nanoseconds in 0_u32..1_000_000_000) {
        let at = if seconds < 0 {
            UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds)
        } else {
            UNIX_EPOCH + Duration::new(seconds.unsigned_abs(), nanoseconds)
        };
        let at = Timestamp::from(at);
        for text in [at.to_string(), at.to_seven_digits()] {
            let read: Timestamp = serde_json::from_value(text.into()).unwrap();
            prop_assert_eq!(read, at);
        }
    }
}
