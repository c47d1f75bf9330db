//! Topics, filters, property bags and user names: no text panics, and what is read is written and
//! read again. In a user name, the client id follows after a line feed.

use azimuth_wire::Identity;
use azimuth_wire::message::{PropertyBag, encode_bag};
use azimuth_wire::percent;
use azimuth_wire::topic::dps::{RequestTopic, ResponseTopic};
use azimuth_wire::topic::hub::{DeviceTopic, HubTopic, Interests};
use azimuth_wire::user_name::{DpsUserName, HubUserName};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let device = Identity::device("dev1".parse().expect("a plain id"));
    let module = Identity {
        module: Some("mod1".parse().expect("a plain id")),
        ..device.clone()
    };
    for identity in [&device, &module] {
        Interests::parse(text, identity);
        hub_topics(text, identity);
    }
    dps_topics(text);
    bag(text);
    user_names(text);
    assert_eq!(percent::decode(&percent::encode(text)), text);
}

fn hub_topics(text: &str, identity: &Identity) {
    match DeviceTopic::parse(text, identity) {
        Ok(topic) => {
            let written = topic.text(identity);
            assert_eq!(DeviceTopic::parse(&written, identity), Ok(topic));
        }
        Err(error) => assert!(error.to_string().len() < 2000),
    }
    if let Some(topic) = HubTopic::parse(text, identity) {
        let written = topic.to_string();
        assert_eq!(HubTopic::parse(&written, identity), Some(topic));
    }
}

fn dps_topics(text: &str) {
    if let Ok(topic) = RequestTopic::parse(text) {
        assert_eq!(RequestTopic::parse(&topic.to_string()), Ok(topic));
    }
    if let Some(topic) = ResponseTopic::parse(text) {
        assert_eq!(ResponseTopic::parse(&topic.to_string()), Some(topic));
    }
}

fn bag(text: &str) {
    let Ok(bag) = PropertyBag::parse(text) else {
        return;
    };
    let pairs = bag.0.iter();
    let written = encode_bag(pairs.map(|(name, value)| (name.as_ref(), value.as_deref())));
    assert_eq!(PropertyBag::parse(&written), Ok(bag));
}

fn user_names(text: &str) {
    let (name, client_id) = text.split_once('\n').unwrap_or((text, "dev1"));
    if let Ok(name) = HubUserName::parse(name, client_id) {
        assert_eq!(name.identity.to_string(), client_id);
    }
    if let Ok(name) = DpsUserName::parse(name, client_id) {
        assert!(
            name.registration_id
                .as_str()
                .eq_ignore_ascii_case(client_id)
        );
    }
}
