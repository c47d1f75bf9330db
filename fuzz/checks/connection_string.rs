//! Connection strings: no text panics, and what is read is written and read again.

use azimuth_wire::SymmetricKey;
use azimuth_wire::connection_string::ConnectionString;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<ConnectionString>() {
        Ok(parsed) => {
            let again = parsed.reveal().parse();
            assert_eq!(again.as_ref(), Ok(&parsed));
            // What is shown does not depend on the key: the text of it may stand in another member too.
            let other_key = parsed
                .key
                .as_ref()
                .map(|_| SymmetricKey::from_bytes(&[7; 32]));
            let other = ConnectionString {
                key: other_key,
                ..parsed.clone()
            };
            assert_eq!(format!("{parsed:?}"), format!("{other:?}"));
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
}
