//! Connection strings: no text panics, and what is read is written and read again.

use azimuth_wire::connection_string::ConnectionString;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<ConnectionString>() {
        Ok(parsed) => {
            let again = parsed.reveal().parse();
            assert_eq!(again.as_ref(), Ok(&parsed));
            if let Some(key) = &parsed.key {
                assert!(!format!("{parsed:?}").contains(key.reveal()));
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000),
    }
}
