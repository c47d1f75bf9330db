//! One telemetry message as bytes: who sent it, its properties, its body.
//!
//! The form, version 1: the version byte; a byte of flags (bit 0: a module id follows the device id); device id, module
//! id, generation id, auth method, source, each a length and UTF-8; the number of system properties, each a name and a
//! value; the number of application properties, each a name and a value whose length is one more than its bytes, 0
//! standing for null; the rest is the body. Lengths and numbers are LEB128, in their shortest spelling only, so that an
//! event has exactly one form.
//!
//! May not enter: sequence numbers and times (the record around the envelope has them), topics, property-bag text.

use std::fmt;
use std::marker::PhantomData;

/// A message as it goes into the log and comes out of it. Borrows everything; decoding copies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub device_id: &'a str,
    pub module_id: Option<&'a str>,
    pub generation_id: &'a str,
    /// JSON text, as in `iothub-connection-auth-method`.
    pub auth_method: &'a str,
    /// `iothub-message-source`, for a device's own messages `Telemetry`.
    pub source: &'a str,
    /// Names as on the Event Hubs compatible endpoint, such as `message-id`, `content-type`, `dt-subject`.
    pub system: Pairs<'a, &'a str>,
    /// In the order sent; a name without `=` has no value. Duplicates were resolved by the caller.
    pub application: Pairs<'a, Option<&'a str>>,
    pub body: &'a [u8],
}

impl<'a> Event<'a> {
    /// Appends this event's bytes to `out`; reuse `out` and no message costs an allocation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            device_id,
            module_id,
            generation_id,
            auth_method,
            source,
            system,
            application,
            body,
        } = *self;
        out.reserve(self.encoded_len_at_most());
        out.extend_from_slice(&[VERSION, if module_id.is_some() { HAS_MODULE } else { 0 }]);
        put_text(out, device_id);
        if let Some(module_id) = module_id {
            put_text(out, module_id);
        }
        put_text(out, generation_id);
        put_text(out, auth_method);
        put_text(out, source);
        put_pairs(out, system);
        put_pairs(out, application);
        out.extend_from_slice(body);
    }

    /// Reads what [`encode`](Self::encode) wrote. Any other bytes are refused, none make it panic.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut input = Input { rest: bytes };
        match input.byte()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let has_module = match input.byte()? {
            0 => false,
            HAS_MODULE => true,
            other => return Err(Malformed::Flags(other)),
        };
        Ok(Self {
            device_id: input.text()?,
            module_id: if has_module {
                Some(input.text()?)
            } else {
                None
            },
            generation_id: input.text()?,
            auth_method: input.text()?,
            source: input.text()?,
            system: input.pairs()?,
            application: input.pairs()?,
            body: input.rest,
        })
    }

    fn encoded_len_at_most(&self) -> usize {
        let texts = [
            self.device_id,
            self.module_id.unwrap_or(""),
            self.generation_id,
            self.auth_method,
            self.source,
        ];
        let texts: usize = texts.iter().map(|text| text.len() + MAX_NUMBER).sum();
        2 + texts + self.system.len_at_most() + self.application.len_at_most() + self.body.len()
    }
}

/// A list of properties, either the caller's (from a slice) or one inside an encoded event.
#[derive(Clone, Copy)]
pub struct Pairs<'a, V>(List<'a, V>);

impl<'a, V: Value<'a>> Pairs<'a, V> {
    pub fn new(pairs: &'a [(&'a str, V)]) -> Self {
        Self(List::Given(pairs))
    }

    pub fn len(&self) -> usize {
        match self.0 {
            List::Given(pairs) => pairs.len(),
            List::Encoded { count, .. } => count,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> Iter<'a, V> {
        Iter(self.0)
    }

    /// The value of the first property with this very name.
    pub fn value(&self, name: &str) -> Option<V> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    fn len_at_most(&self) -> usize {
        MAX_NUMBER
            + match self.0 {
                List::Given(pairs) => pairs
                    .iter()
                    .map(|(name, value)| name.len() + value.bytes() + 2 * MAX_NUMBER)
                    .sum(),
                List::Encoded { bytes, .. } => bytes.len(),
            }
    }
}

impl<'a, V: Value<'a>> IntoIterator for Pairs<'a, V> {
    type Item = (&'a str, V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, V: Value<'a> + PartialEq> PartialEq for Pairs<'a, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, V: Value<'a> + Eq> Eq for Pairs<'a, V> {}

impl<'a, V: Value<'a> + fmt::Debug> fmt::Debug for Pairs<'a, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Walks a list of properties in its order.
#[derive(Clone)]
pub struct Iter<'a, V>(List<'a, V>);

impl<'a, V: Value<'a>> Iterator for Iter<'a, V> {
    type Item = (&'a str, V);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            List::Given(pairs) => {
                let (first, rest) = pairs.split_first()?;
                *pairs = rest;
                Some(*first)
            }
            List::Encoded { count, bytes, .. } => {
                *count = count.checked_sub(1)?;
                let mut input = Input { rest: bytes };
                // Decoding walked the whole list once, so neither can fail.
                let pair = (input.text().ok()?, V::read(&mut input).ok()?);
                *bytes = input.rest;
                Some(pair)
            }
        }
    }
}

/// Why bytes are not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("event version {0} is not known")]
    Version(u8),
    #[error("event flags {0:#04x} are not known")]
    Flags(u8),
    #[error("the event ends too early")]
    Short,
    #[error("a length in the event is out of range")]
    Number,
    #[error("a text in the event is not UTF-8")]
    Text,
}

/// What a property may have as its value: a text, or for application properties perhaps none.
pub trait Value<'a>: Copy + sealed::Sealed {
    #[doc(hidden)]
    fn put(self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn bytes(self) -> usize;
    #[doc(hidden)]
    fn read(input: &mut Input<'a>) -> Result<Self, Malformed>;
}

impl<'a> Value<'a> for &'a str {
    fn put(self, out: &mut Vec<u8>) {
        put_text(out, self);
    }

    fn bytes(self) -> usize {
        self.len()
    }

    fn read(input: &mut Input<'a>) -> Result<Self, Malformed> {
        input.text()
    }
}

impl<'a> Value<'a> for Option<&'a str> {
    fn put(self, out: &mut Vec<u8>) {
        let Some(text) = self else { return out.push(0) };
        put_number(out, text.len() + 1);
        out.extend_from_slice(text.as_bytes());
    }

    fn bytes(self) -> usize {
        self.map_or(0, str::len)
    }

    fn read(input: &mut Input<'a>) -> Result<Self, Malformed> {
        match input.number()?.checked_sub(1) {
            None => Ok(None),
            Some(len) => input.text_of(len).map(Some),
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for Option<&str> {}
}

#[derive(Clone, Copy)]
enum List<'a, V> {
    Given(&'a [(&'a str, V)]),
    Encoded {
        count: usize,
        bytes: &'a [u8],
        value: PhantomData<V>,
    },
}

fn put_pairs<'a, V: Value<'a>>(out: &mut Vec<u8>, pairs: Pairs<'a, V>) {
    put_number(out, pairs.len());
    match pairs.0 {
        List::Encoded { bytes, .. } => out.extend_from_slice(bytes),
        List::Given(pairs) => {
            for &(name, value) in pairs {
                put_text(out, name);
                value.put(out);
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The bytes of an event not read yet.
#[doc(hidden)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(first)
    }

    fn number(&mut self) -> Result<usize, Malformed> {
        let mut number = 0u64;
        for shift in (0..MAX_NUMBER as u32).map(|place| place * 7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 != 0 {
                continue;
            }
            let shortest = byte != 0 || shift == 0;
            return usize::try_from(number)
                .ok()
                .filter(|_| shortest)
                .ok_or(Malformed::Number);
        }
        Err(Malformed::Number)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.number()?;
        self.text_of(len)
    }

    fn text_of(&mut self, len: usize) -> Result<&'a str, Malformed> {
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| Malformed::Text)
    }

    fn pairs<V: Value<'a>>(&mut self) -> Result<Pairs<'a, V>, Malformed> {
        let count = self.number()?;
        let before = self.rest;
        // A pair takes two bytes at least, so a count that lies ends in `Short` after as many steps as there are bytes.
        for _ in 0..count {
            self.text()?;
            V::read(self)?;
        }
        let bytes = before
            .get(..before.len() - self.rest.len())
            .ok_or(Malformed::Short)?;
        Ok(Pairs(List::Encoded {
            count,
            bytes,
            value: PhantomData,
        }))
    }
}

const VERSION: u8 = 1;
const HAS_MODULE: u8 = 1;

/// Bytes of the longest LEB128 number read: 5 carry 35 bits, far above any event.
const MAX_NUMBER: usize = 5;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const AUTH: &str =
        r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;

    #[test]
    fn an_event_is_these_very_bytes() {
        let event = Event {
            device_id: "d",
            module_id: Some("m"),
            generation_id: "7",
            auth_method: "{}",
            source: "T",
            system: Pairs::new(&[("mid", "1")]),
            application: Pairs::new(&[("a", None), ("b", Some("")), ("c", Some("é"))]),
            body: b"xy",
        };
        let expected = b"\x01\x01\x01d\x01m\x017\x02{}\x01T\x01\x03mid\x011\x03\x01a\x00\x01b\x01\x01c\x03\xc3\xa9xy";
        assert_eq!(encoded(&event), expected);
        assert_eq!(Event::decode(expected).unwrap(), event);
    }

    #[test]
    fn a_property_is_found_by_its_name() {
        let bytes = encoded(&Event {
            device_id: "d",
            module_id: None,
            generation_id: "",
            auth_method: AUTH,
            source: "Telemetry",
            system: Pairs::new(&[("content-type", "application/json"), ("message-id", "1")]),
            application: Pairs::new(&[("level", None)]),
            body: &[],
        });
        let event = Event::decode(&bytes).unwrap();
        assert_eq!(event.system.value("message-id"), Some("1"));
        assert_eq!(event.system.value("Message-Id"), None);
        assert_eq!(event.application.value("level"), Some(None));
        assert_eq!(event.application.len(), 1);
        assert_eq!(event.body, b"");
    }

    #[test]
    fn bytes_that_are_no_event_are_refused() {
        let rows: [(&[u8], Malformed); 8] = [
            (b"", Malformed::Short),
            (b"\x02", Malformed::Version(2)),
            (b"\x01\x02", Malformed::Flags(2)),
            (b"\x01\x00\x05dev", Malformed::Short),
            (b"\x01\x00\x01\xff", Malformed::Text),
            (b"\x01\x00\x81\x00d", Malformed::Number),
            (
                b"\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Malformed::Number,
            ),
            (
                b"\x01\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f",
                Malformed::Short,
            ),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Event::decode(bytes), Err(expected), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(
            ids in (".{0,200}", proptest::option::of(".{0,9}"), "[0-9]{0,18}", ".{0,140}", ".{0,20}"),
            system in proptest::collection::vec((".{0,9}", ".{0,140}"), 0..5),
            application in proptest::collection::vec((".{0,9}", proptest::option::of(".{0,140}")), 0..5),
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let system: Vec<_> = system.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let application: Vec<_> = application.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
            let event = Event {
                device_id: &ids.0,
                module_id: ids.1.as_deref(),
                generation_id: &ids.2,
                auth_method: &ids.3,
                source: &ids.4,
                system: Pairs::new(&system),
                application: Pairs::new(&application),
                body: &body,
            };
            let bytes = encoded(&event);
            prop_assert!(bytes.len() <= event.encoded_len_at_most());
            let decoded = Event::decode(&bytes).unwrap();
            prop_assert_eq!(decoded, event);
            prop_assert_eq!(encoded(&decoded), bytes);
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_is_accepted_has_one_form(
            mut bytes in proptest::collection::vec(prop_oneof![0u8..5, any::<u8>()], 0..80),
        ) {
            if let Some(first) = bytes.first_mut() { *first = VERSION }
            if let Ok(event) = Event::decode(&bytes) {
                prop_assert_eq!(encoded(&event), bytes.clone());
            }
        }
    }

    fn encoded(event: &Event<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event.encode(&mut out);
        out
    }
}
