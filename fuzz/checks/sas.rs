//! Tokens: no text panics, every question has an answer, and what we sign we accept.

use azimuth_wire::SymmetricKey;
use azimuth_wire::sas::{self, SasToken};

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let key = SymmetricKey::from_bytes(&[7; 32]);
    if let Ok(token) = SasToken::parse(text) {
        token.covers("hub.azure-devices.net/devices/dev1");
        token.names("0ne00000000/registrations/dev1");
        token.expired(token.expiry(), 300);
        assert!(token.covers(token.resource()) || !sound(token.resource()));
        assert_eq!(token.signer(&key, &key).is_some(), token.signed_by(&key));
        assert!(token.string_to_sign().starts_with(token.resource()));
    }
    let ours = sas::sign(text, &key, 1_893_456_000, Some(text));
    let token = SasToken::parse(&ours).expect("we write what we read");
    assert!(token.signed_by(&key) && token.names(text));
    assert_eq!(token.key_name().unwrap_or(""), text);
}

/// A resource that is its own prefix: it begins with a host and ends with a name.
fn sound(resource: &str) -> bool {
    !resource.is_empty() && !resource.contains("://") && !resource.ends_with('/')
}
