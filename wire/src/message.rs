//! Messages: system and application properties and the property bag of MQTT topics.
//!
//! One model; the bag is its form on MQTT. Bodies are never looked at here.

use std::borrow::Cow;
use std::collections::HashMap;

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
        if bag.is_empty() {
            return Ok(Self::default());
        }
        let pairs = 1 + bag.bytes().filter(|byte| *byte == b'&').count();
        let mut properties = Vec::with_capacity(pairs.min(FEW));
        for pair in bag.split('&') {
            properties.push(property(pair)?);
        }
        keep_last_values(&mut properties);
        Ok(Self(properties))
    }
}

/// What a device sends in practice, and more.
const FEW: usize = 32;

fn property(pair: &str) -> Result<Property<'_>, InvalidBag> {
    let (name, value) = match pair.split_once('=') {
        None if pair.is_empty() => return Err(InvalidBag::EmptyPair),
        Some(("", _)) => return Err(InvalidBag::NoName),
        Some((_, value)) if value.contains('=') => return Err(InvalidBag::SecondEquals),
        Some((name, value)) => (name, Some(percent::decode(value))),
        None => (pair, None),
    };
    Ok((percent::decode(name), value))
}

/// Of each name the first place and the last value stay. A topic has room for thousands of names:
/// only few are compared each with each.
fn keep_last_values(properties: &mut Vec<Property<'_>>) {
    if properties.len() <= FEW {
        let mut at = 1;
        while at < properties.len() {
            let (before, rest) = properties.split_at_mut(at);
            let known = before.iter_mut().find(|known| known.0 == rest[0].0);
            let Some(known) = known else {
                at += 1;
                continue;
            };
            known.1 = rest[0].1.take();
            properties.remove(at);
        }
        return;
    }
    let mut first_places = HashMap::new();
    let mut kept: Vec<Property<'_>> = Vec::with_capacity(properties.len());
    for (name, value) in properties.drain(..) {
        match first_places.get(&name) {
            Some(&place) => {
                let place: &mut Property<'_> = &mut kept[place];
                place.1 = value;
            }
            None => {
                first_places.insert(name.clone(), kept.len());
                kept.push((name, value));
            }
        }
    }
    *properties = kept;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_value_wins_in_the_first_place_however_many_there_are() {
        for count in [2, FEW, FEW + 1, 5000] {
            let bag: Vec<_> = (0..count).map(|n| format!("p{n}={n}")).collect();
            let bag = format!("{}&p0=last&p1", bag.join("&"));
            let PropertyBag(properties) = PropertyBag::parse(&bag).unwrap();
            assert_eq!(properties.len(), count);
            assert_eq!(properties[0], ("p0".into(), Some("last".into())));
            assert_eq!(properties[1], ("p1".into(), None));
            let names = properties.iter().map(|(name, _)| name.to_string());
            assert!(names.eq((0..count).map(|n| format!("p{n}"))), "{count}");
        }
    }

    #[test]
    fn a_plain_bag_borrows_and_takes_one_vector() {
        let PropertyBag(properties) = PropertyBag::parse("$.ct=text&a=b+c&d").unwrap();
        assert_eq!(properties.capacity(), 3);
        for (name, value) in properties {
            assert!(matches!(name, Cow::Borrowed(_)));
            assert!(matches!(value, None | Some(Cow::Borrowed(_))));
        }
    }

    #[test]
    fn names_of_system_properties_are_exact() {
        for (name, expected) in [
            ("$.mid", Some("message-id")),
            ("$.MID", None),
            ("$.ctime", Some("iothub-creation-time-utc")),
            ("iothub-creation-time-utc", Some("iothub-creation-time-utc")),
            ("$.unknown", None),
            ("mid", None),
            ("", None),
        ] {
            assert_eq!(system_property(name), expected, "{name}");
        }
    }
}
