//! Etags and the `If-Match` header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a request demands of the present version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// No header, or an empty one.
    Absent,
    /// `*`: the resource must exist, any version will do.
    Any,
    /// This version.
    Etag(String),
}

impl IfMatch {
    /// Reads the header: blanks, an optional `W/` and one pair of double quotes are cut.
    pub fn parse(header: Option<&str>) -> Self {
        let Some(text) = header else {
            return Self::Absent;
        };
        let text = text.trim();
        let text = text.strip_prefix("W/").unwrap_or(text);
        let text = text
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .unwrap_or(text);
        match text {
            "" => Self::Absent,
            "*" => Self::Any,
            etag => Self::Etag(etag.into()),
        }
    }
}

/// The etag of a device identity: base64 of a decimal counter.
pub fn of_counter(counter: u64) -> String {
    STANDARD.encode(counter.to_string())
}

/// The counter behind a device identity's etag, if it is one.
pub fn counter_of(etag: &str) -> Option<u64> {
    let text = String::from_utf8(STANDARD.decode(etag).ok()?).ok()?;
    text.parse().ok()
}

/// The etag of a twin: base64 of a counter in eight bytes, the highest first.
pub fn of_twin(counter: u64) -> String {
    STANDARD.encode(counter.to_be_bytes())
}

/// The etag of a DPS record: base64 of a quoted GUID.
pub fn of_guid(guid: &str) -> String {
    STANDARD.encode(format!("\"{guid}\""))
}

/// The GUID behind the etag of a DPS record, if it is one.
pub fn guid_of(etag: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(etag).ok()?).ok()?;
    let guid = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(guid.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_behind_an_etag_is_found_again() {
        assert_eq!(of_counter(727_894_863), "NzI3ODk0ODYz");
        for (etag, counter) in [
            ("NzI3ODk0ODYz", Some(727_894_863)),
            ("MQ==", Some(1)),
            ("AAAAAAAAAAE=", None),
            ("MQ", None),
            ("", None),
        ] {
            assert_eq!(counter_of(etag), counter, "{etag}");
        }
    }

    #[test]
    fn if_match_is_read_with_and_without_quotes() {
        let etag = |text: &str| IfMatch::Etag(text.into());
        for (header, expected) in [
            (None, IfMatch::Absent),
            (Some(""), IfMatch::Absent),
            (Some("  "), IfMatch::Absent),
            (Some("\"\""), IfMatch::Absent),
            (Some("*"), IfMatch::Any),
            (Some("\"*\""), IfMatch::Any),
            (Some("MQ=="), etag("MQ==")),
            (Some(" \"MQ==\" "), etag("MQ==")),
            (Some("W/\"MQ==\""), etag("MQ==")),
            (Some("\"\"MQ==\"\""), etag("\"MQ==\"")),
            (Some("\""), etag("\"")),
            (Some("\"MQ=="), etag("\"MQ==")),
        ] {
            assert_eq!(IfMatch::parse(header), expected, "{header:?}");
        }
    }
}
