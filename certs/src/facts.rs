//! What is asked of a certificate again and again while a chain is followed, read once.
//!
//! May not enter: whether any of it is acceptable.

use x509_parser::prelude::X509Certificate;

use crate::info::{name_text, text};
use crate::validity::{Validity, from_unix_seconds};

#[derive(Debug)]
pub(crate) struct Facts {
    /// As .NET writes it.
    pub subject_name: String,
    pub common_name: Option<String>,
    /// In DER, as `issuer` is.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub validity: Validity,
    pub why_no_authority: Option<&'static str>,
    pub path_length: Option<u32>,
}

impl Facts {
    pub fn of(parsed: &X509Certificate<'_>) -> Self {
        let validity = parsed.validity();
        let common_name = parsed.subject().iter_common_name().last();
        let constraints = parsed.basic_constraints().ok().flatten();
        Self {
            subject_name: name_text(parsed.subject()),
            common_name: common_name.and_then(|name| text(name.attr_value())),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            validity: Validity {
                not_before: from_unix_seconds(validity.not_before.timestamp()),
                not_after: from_unix_seconds(validity.not_after.timestamp()),
            },
            why_no_authority: why_no_authority(parsed),
            path_length: constraints.and_then(|found| found.value.path_len_constraint),
        }
    }
}

fn why_no_authority(parsed: &X509Certificate<'_>) -> Option<&'static str> {
    if !parsed.is_ca() {
        let old = parsed.version().0 < 2;
        return Some(match old {
            true => "a certificate of version 1 or 2 has no basic constraints to say so",
            false => "its basic constraints do not say CA:TRUE",
        });
    }
    let signs = match parsed.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign(),
        Ok(None) => true,
        Err(_) => false,
    };
    (!signs).then_some("its key usage does not allow to sign certificates")
}
