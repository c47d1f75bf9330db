//! Messages: system and application properties and the property bag of MQTT topics.
//!
//! One model; the bag is its form on MQTT. Bodies are never looked at here.

use std::borrow::Cow;

use crate::percent;

/// A property without a value is `None`; `name=` is the empty string.
pub type Property<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// Why a property bag is refused. Azure closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBag {
    #[error("a second `=` in one pair; write it as %3D")]
    SecondEquals,
    #[error("a pair begins with `=`; a name must stand before it")]
    NoName,
    #[error("an empty pair: `&` at the start, at the end or doubled")]
    EmptyPair,
    #[error("a `/` inside the bag; write it as %2F")]
    ExtraSegment,
}

/// Properties of a bag, in the order sent, the last of repeated names winning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertyBag<'a>(pub Vec<Property<'a>>);

impl<'a> PropertyBag<'a> {
    /// Reads the text after `messages/events/`. One leading `?` and one trailing `/` are dropped.
    pub fn parse(bag: &'a str) -> Result<Self, InvalidBag> {
        let bag = bag.strip_suffix('/').unwrap_or(bag);
        let bag = bag.strip_prefix('?').unwrap_or(bag);
        if bag.contains('/') {
            return Err(InvalidBag::ExtraSegment);
        }
        let mut properties: Vec<Property<'a>> = Vec::new();
        if bag.is_empty() {
            return Ok(Self(properties));
        }
        for pair in bag.split('&') {
            let (name, value) = match pair.split_once('=') {
                _ if pair.is_empty() => return Err(InvalidBag::EmptyPair),
                Some(("", _)) => return Err(InvalidBag::NoName),
                Some((_, value)) if value.contains('=') => return Err(InvalidBag::SecondEquals),
                Some((name, value)) => (name, Some(percent::decode(value))),
                None => (pair, None),
            };
            let name = percent::decode(name);
            match properties.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => properties.push((name, value)),
            }
        }
        Ok(Self(properties))
    }
}

/// Writes a bag: RFC 3986 unreserved characters stay, everything else as upper-case `%XX`.
pub fn encode_bag<'a>(properties: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut bag = String::new();
    for (name, value) in properties {
        if !bag.is_empty() {
            bag.push('&');
        }
        bag.push_str(&percent::encode(name));
        if let Some(value) = value {
            bag.push('=');
            bag.push_str(&percent::encode(value));
        }
    }
    bag
}

/// The system property that a bag name stands for; `None` for application properties.
///
/// Names are exact; a `$.`-name that is not in Azure's table is an application property.
pub fn system_property(bag_name: &str) -> Option<&'static str> {
    Some(match bag_name {
        "$.mid" => "message-id",
        "$.cid" => "correlation-id",
        "$.uid" => "user-id",
        "$.to" => "to",
        "$.exp" => "absolute-expiry-time",
        "$.ct" => "content-type",
        "$.ce" => "content-encoding",
        "$.on" => "iothub-outputname",
        "$.sub" => "dt-subject",
        "$.ifid" => "iothub-interface-id",
        "$.schema" => "iothub-message-schema",
        "$.ctime" | "iothub-creation-time-utc" => "iothub-creation-time-utc",
        "$.cdid" => "iothub-connection-device-id",
        "$.cmid" => "iothub-connection-module-id",
        "$.diagid" => "diagnostic-id",
        "$.diagctx" => "diagnostic-correlation-context",
        "iothub-ack" => "iothub-ack",
        "iothub-operation" => "iothub-operation",
        _ => return None,
    })
}
