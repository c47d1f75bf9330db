//! Percent-encoding as Azure's clients and services use it (RFC 3986).
//!
//! `+` is always a plus sign here; form encoding may not enter.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but `A-Z a-z 0-9 - _ . ~` is escaped, with upper-case hex.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Escapes all but the unreserved characters of RFC 3986.
pub fn encode(text: &str) -> Cow<'_, str> {
    utf8_percent_encode(text, RESERVED).into()
}

/// Undoes escapes. A malformed escape, and one that is not UTF-8, stays as it was written.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap_or_else(|_| Cow::Owned(decode_what_is_utf8(text)))
}

/// Goes from run of escapes to run of escapes: a character never spans text and an escape.
fn decode_what_is_utf8(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let run = escaped_bytes(&rest[before.len()..]);
        if run.is_empty() {
            decoded.push('%');
            rest = after;
            continue;
        }
        let mut written = before.len();
        for chunk in run.utf8_chunks() {
            decoded.push_str(chunk.valid());
            written += 3 * chunk.valid().len();
            let end = written + 3 * chunk.invalid().len();
            decoded.push_str(&rest[written..end]);
            written = end;
        }
        rest = &rest[written..];
    }
    decoded.push_str(rest);
    decoded
}

/// The bytes of the escapes that `text` begins with, each three characters long.
fn escaped_bytes(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::new();
    for escape in text.as_bytes().chunks_exact(3) {
        let (b'%', Some(high), Some(low)) = (escape[0], digit(escape[1]), digit(escape[2])) else {
            break;
        };
        bytes.push((high * 16 + low) as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_escape_of_utf8_stays_as_it_was_written() {
        for (text, decoded) in [
            ("a+b", "a+b"),
            ("a%2Bb%2bc", "a+b+c"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%FF", "%FF"),
            ("a%20%fF%20b", "a %fF b"),
            ("%E2%82%AC%E2%82%C3%A9", "€%E2%82é"),
            ("%E2€%82%AC", "%E2€%82%AC"),
            ("%%41%", "%A%"),
            ("%€%41%FF", "%€A%FF"),
            ("%F0%9F%98%80%F0%9F%98", "😀%F0%9F%98"),
        ] {
            assert_eq!(decode(text), decoded, "{text}");
        }
    }

    #[test]
    fn only_unreserved_characters_are_written_plainly() {
        assert_eq!(encode("aZ09-_.~"), "aZ09-_.~");
        assert_eq!(encode(" !'()*+/%"), "%20%21%27%28%29%2A%2B%2F%25");
        assert!(matches!(encode("plain"), Cow::Borrowed(_)));
    }
}
