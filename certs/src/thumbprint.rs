//! Thumbprints: the SHA-1 or SHA-256 of a certificate's DER, as Azure writes and compares them.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use crate::Error;

/// One thumbprint. Its text is upper-case hexadecimal without colons; reading ignores case and
/// colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thumbprint {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl Thumbprint {
    pub fn sha1(der: &[u8]) -> Self {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, der);
        Self::Sha1(hash.as_ref().try_into().expect("SHA-1 has 20 bytes"))
    }

    pub fn sha256(der: &[u8]) -> Self {
        let hash = digest(&SHA256, der);
        Self::Sha256(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// This is the thumbprint of the certificate `der`.
    pub fn matches(&self, der: &[u8]) -> bool {
        match self {
            Self::Sha1(_) => *self == Self::sha1(der),
            Self::Sha256(_) => *self == Self::sha256(der),
        }
    }
}

impl FromStr for Thumbprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadThumbprint(text.chars().count());
        let digits = text.trim().chars().filter(|c| *c != ':');
        let digits: Option<Vec<u8>> = digits
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let bytes: Vec<u8> = match digits {
            Some(digits) if digits.len() % 2 == 0 => digits
                .chunks_exact(2)
                .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
                .collect(),
            Some(_) | None => return Err(bad()),
        };
        if let Ok(hash) = bytes.as_slice().try_into() {
            return Ok(Self::Sha1(hash));
        }
        bytes
            .as_slice()
            .try_into()
            .map(Self::Sha256)
            .map_err(|_| bad())
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha1(hash) => hash,
            Self::Sha256(hash) => hash,
        };
        f.write_str(&upper_hex(bytes))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn upper_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X}").expect("a String takes any text");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_that_is_no_thumbprint_is_refused() {
        let long = "A".repeat(41);
        for text in ["", "abc", "zz", &long, &"é".repeat(20), &"g".repeat(40)] {
            assert!(text.parse::<Thumbprint>().is_err(), "{text}");
        }
    }
}
