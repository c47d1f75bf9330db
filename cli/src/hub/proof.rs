//! How a device or module proves who it is: as flags say it, in the shape of its `authentication`.
//!
//! What may not enter: whether it is acceptable; the hub says so.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::ca_certificate::read_certificate;

#[derive(Debug, Args)]
pub struct Proof {
    /// How it proves who it is [default: with keys, or with the certificate that is given]
    #[arg(long, value_enum, value_name = "KIND")]
    authentication: Option<Kind>,
    /// Primary key, base64 of 16 to 64 bytes [default: the hub makes both]
    #[arg(long, requires = "secondary_key", value_name = "KEY")]
    primary_key: Option<String>,
    /// Secondary key
    #[arg(long, requires = "primary_key", value_name = "KEY")]
    secondary_key: Option<String>,
    /// Its certificate, PEM or DER: its SHA-256 thumbprint is kept
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Another certificate that is taken as well, for a change from one to the other
    #[arg(long, value_name = "FILE")]
    secondary_certificate: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Tokens signed with one of its two keys
    Sas,
    /// A certificate that the hub knows by its thumbprint
    SelfSigned,
    /// A certificate that one of the hub's CA certificates stands above, with the id as common name
    CertificateAuthority,
}

impl Proof {
    /// The `authentication` that was asked for; none where nothing was.
    pub fn asked(&self) -> anyhow::Result<Option<Value>> {
        let keys = self.primary_key.is_some();
        let certificates = self.certificate.is_some() || self.secondary_certificate.is_some();
        let kind = match (self.authentication, keys, certificates) {
            (None, false, false) => return Ok(None),
            (None | Some(Kind::Sas), _, false) => Kind::Sas,
            (None | Some(Kind::SelfSigned), false, true) => Kind::SelfSigned,
            (Some(Kind::SelfSigned), false, false) => {
                bail!("a self-signed certificate is known by its thumbprint: give --certificate")
            }
            (Some(Kind::CertificateAuthority), false, false) => Kind::CertificateAuthority,
            (_, _, _) => bail!(
                "keys go with `sas` and certificates with `self-signed`; give one kind of proof"
            ),
        };
        Ok(Some(match kind {
            Kind::Sas => json!({ "type": "sas", "symmetricKey": {
                "primaryKey": self.primary_key, "secondaryKey": self.secondary_key } }),
            Kind::SelfSigned => json!({ "type": "selfSigned", "x509Thumbprint": {
                "primaryThumbprint": thumbprint(self.certificate.as_deref())?,
                "secondaryThumbprint": thumbprint(self.secondary_certificate.as_deref())? } }),
            Kind::CertificateAuthority => json!({ "type": "certificateAuthority" }),
        }))
    }
}

fn thumbprint(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let certificate = read_certificate(file)?;
    Ok(Some(certificate.sha256().to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        proof: Proof,
    }

    fn asked(flags: &[&str]) -> anyhow::Result<Option<Value>> {
        let line = Line::try_parse_from(["it"].iter().chain(flags))?;
        line.proof.asked()
    }

    #[test]
    fn the_kind_follows_from_what_is_given() {
        assert_eq!(asked(&[]).unwrap(), None);
        let keys = asked(&["--primary-key", "a", "--secondary-key", "b"])
            .unwrap()
            .unwrap();
        assert_eq!(keys["type"], "sas");
        assert_eq!(keys["symmetricKey"]["secondaryKey"], "b");
        let ca = asked(&["--authentication", "certificate-authority"])
            .unwrap()
            .unwrap();
        assert_eq!(ca, json!({ "type": "certificateAuthority" }));
        let made = asked(&["--authentication", "sas"]).unwrap().unwrap();
        assert!(made["symmetricKey"]["primaryKey"].is_null());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for flags in [
            &["--primary-key", "a"][..],
            &["--authentication", "self-signed"],
            &[
                "--authentication",
                "certificate-authority",
                "--primary-key",
                "a",
                "--secondary-key",
                "b",
            ],
            &["--authentication", "sas", "--certificate", "x.pem"],
        ] {
            assert!(asked(flags).is_err(), "{flags:?}");
        }
    }
}
