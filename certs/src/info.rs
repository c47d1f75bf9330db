//! What the service APIs show of a certificate: `X509CertificateInfo`.
//!
//! Names are written as .NET writes them, because that is what Azure's service runs on.

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::Certificate;
use crate::thumbprint::upper_hex;
use crate::validity::utc_text;

/// The fields of `X509CertificateInfo`, in the order Azure documents them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateInfo {
    /// Most specific part first: `CN=x, OU=y, O=z, C=US`.
    pub subject_name: String,
    pub sha1_thumbprint: String,
    pub sha256_thumbprint: String,
    pub issuer_name: String,
    /// `2024-01-01T00:00:00Z`.
    pub not_before_utc: String,
    pub not_after_utc: String,
    /// Upper-case hexadecimal, an even number of digits.
    pub serial_number: String,
    /// 1 to 3.
    pub version: u32,
}

impl CertificateInfo {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        let parsed = certificate.parsed();
        let validity = certificate.validity();
        Self {
            subject_name: name_text(parsed.subject()),
            sha1_thumbprint: certificate.sha1().to_string(),
            sha256_thumbprint: certificate.sha256().to_string(),
            issuer_name: name_text(parsed.issuer()),
            not_before_utc: utc_text(validity.not_before),
            not_after_utc: utc_text(validity.not_after),
            serial_number: upper_hex(parsed.raw_serial()),
            version: parsed.version().0.saturating_add(1),
        }
    }
}

/// A name in .NET's order and style.
pub(crate) fn name_text(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes: Vec<String> = part.iter().map(attribute_text).collect();
        attributes.join(" + ")
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(", ")
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(id, _)| *id == oid);
    let kind = short.map_or_else(|| format!("OID.{oid}"), |(_, short)| (*short).to_owned());
    let value = attribute.attr_value();
    let value = text(value).unwrap_or_else(|| format!("#{}", upper_hex(value.data)));
    format!("{kind}={}", quoted(&value))
}

/// A string of any of the kinds that names are written in.
pub(crate) fn text(value: &Any<'_>) -> Option<String> {
    if value.tag() == Tag::BmpString {
        let units = value.data.chunks_exact(2).map(|pair| match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        });
        return String::from_utf16(&units.collect::<Vec<_>>()).ok();
    }
    match value.tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::T61String
        | Tag::NumericString
        | Tag::VisibleString => std::str::from_utf8(value.data).ok().map(str::to_owned),
        _ => None,
    }
}

/// .NET puts quotes around a value with a separator in it, and doubles the quotes inside.
fn quoted(value: &str) -> String {
    let special = |c: char| {
        matches!(
            c,
            ',' | '+' | '=' | '"' | '\n' | '\r' | '<' | '>' | '#' | ';'
        )
    };
    let edge = value.starts_with(' ') || value.ends_with(' ');
    if value.is_empty() || edge || value.contains(special) {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value.to_owned()
}

const SHORT_NAMES: [(&str, &str); 14] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "S"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "T"),
    ("2.5.4.42", "G"),
    ("2.5.4.43", "I"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "E"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_separators_stand_in_quotes() {
        for (value, text) in [
            ("plain", "plain"),
            ("two words", "two words"),
            ("Contoso, Inc.", "\"Contoso, Inc.\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            (" edge", "\" edge\""),
        ] {
            assert_eq!(quoted(value), text);
        }
    }
}
