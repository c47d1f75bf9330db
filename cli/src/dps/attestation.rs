//! How devices prove who they are: as flags say it, laid over the `attestation` of a record, and as people read it.
//!
//! What may not enter: whether it is acceptable; the DPS says so.

use std::path::PathBuf;

use anyhow::bail;
use azimuth_certs::Certificate;
use clap::Args;
use serde_json::{Value, json};

use crate::ca_certificate::read_certificate;

/// Of a single device.
#[derive(Debug, Args)]
pub struct DeviceProof {
    #[command(flatten)]
    keys: Keys,
    /// The device's certificate, PEM or DER: it proves itself with that, and has no symmetric keys
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Another certificate that is taken as well, for a change from one to the other
    #[arg(long, value_name = "FILE")]
    secondary_certificate: Option<PathBuf>,
    /// Endorsement key of the device's TPM, base64 of its TPM2B_PUBLIC: it proves itself over HTTPS by holding that TPM
    #[arg(long, value_name = "KEY")]
    endorsement_key: Option<String>,
    /// Storage root key of the same TPM, which need not be known
    #[arg(long, value_name = "KEY")]
    storage_root_key: Option<String>,
}

/// Of many devices.
#[derive(Debug, Args)]
pub struct GroupProof {
    #[command(flatten)]
    keys: Keys,
    /// Signing certificate, PEM or DER: the root or intermediate CA whose devices come in. The chain above it has to
    /// lead to a verified CA certificate of the DPS
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Another signing certificate that is taken as well, for a change from one to the other
    #[arg(long, value_name = "FILE")]
    secondary_certificate: Option<PathBuf>,
    /// CA certificate of the DPS instead, by its name in `azimuth dps certificate list`
    #[arg(long, value_name = "NAME")]
    ca_name: Option<String>,
    /// Another CA certificate of the DPS that is taken as well
    #[arg(long, value_name = "NAME")]
    secondary_ca_name: Option<String>,
}

#[derive(Debug, Args)]
struct Keys {
    /// Primary symmetric key, base64 of 16 to 64 bytes [default: one is made]
    #[arg(long, value_name = "KEY")]
    primary_key: Option<String>,
    /// Secondary symmetric key [default: one is made]
    #[arg(long, value_name = "KEY")]
    secondary_key: Option<String>,
}

/// What flags say about an attestation.
pub trait Proof {
    fn ways(&self) -> anyhow::Result<Vec<Way>>;

    /// Writes what was said into an attestation; the rest of it stays. Null is one that is yet to be.
    fn lay_over(&self, attestation: &mut Value) -> anyhow::Result<()> {
        let mut said = self.ways()?.into_iter().filter(Way::is_said);
        let way = match (said.next(), said.next()) {
            (Some(_), Some(_)) => bail!(
                "symmetric keys, certificates, names of CA certificates and keys of a TPM exclude each other; give one of them"
            ),
            (Some(way), None) => way,
            (None, _) if attestation.is_null() => Way::symmetric(None, None),
            (None, _) => return Ok(()),
        };
        way.lay_over(attestation)
    }
}

impl Proof for DeviceProof {
    fn ways(&self) -> anyhow::Result<Vec<Way>> {
        let leaves = certificates(&self.certificate, &self.secondary_certificate)?;
        Ok(vec![
            self.keys.way(),
            Way::x509("clientCertificates", leaves),
            Way::tpm(
                text_of(&self.endorsement_key),
                text_of(&self.storage_root_key),
            ),
        ])
    }
}

impl Proof for GroupProof {
    fn ways(&self) -> anyhow::Result<Vec<Way>> {
        let signing = certificates(&self.certificate, &self.secondary_certificate)?;
        let names = [&self.ca_name, &self.secondary_ca_name];
        let names = names.map(|name| name.as_deref().map(Value::from));
        Ok(vec![
            self.keys.way(),
            Way::x509("signingCertificates", signing),
            Way::x509("caReferences", names),
        ])
    }
}

impl Keys {
    fn way(&self) -> Way {
        Way::symmetric(text_of(&self.primary_key), text_of(&self.secondary_key))
    }
}

/// One way to prove oneself, with its two slots.
#[derive(Debug)]
pub struct Way {
    kind: &'static str,
    /// Below the kind, where it has several.
    member: Option<&'static str>,
    slots: [(&'static str, Option<Value>); 2],
}

impl Way {
    fn symmetric(primary: Option<Value>, secondary: Option<Value>) -> Self {
        Self {
            kind: "symmetricKey",
            member: None,
            slots: [("primaryKey", primary), ("secondaryKey", secondary)],
        }
    }

    fn x509(member: &'static str, [primary, secondary]: [Option<Value>; 2]) -> Self {
        Self {
            kind: "x509",
            member: Some(member),
            slots: [("primary", primary), ("secondary", secondary)],
        }
    }

    fn tpm(endorsement_key: Option<Value>, storage_root_key: Option<Value>) -> Self {
        Self {
            kind: "tpm",
            member: None,
            slots: [
                ("endorsementKey", endorsement_key),
                ("storageRootKey", storage_root_key),
            ],
        }
    }

    fn is_said(&self) -> bool {
        self.slots.iter().any(|(_, value)| value.is_some())
    }

    fn lay_over(self, attestation: &mut Value) -> anyhow::Result<()> {
        if attestation.is_null() {
            *attestation = json!({ "type": self.kind, (self.kind): {} });
        }
        if attestation["type"] != self.kind {
            let present = attestation["type"].as_str().unwrap_or("none");
            bail!(
                "its attestation is {present} and cannot become {}; delete the entry and create it anew",
                self.kind
            );
        }
        let mut holder = &mut attestation[self.kind];
        // With another endorsement key it is another TPM, of which nothing else is known.
        if self.kind == "tpm" && self.slots[0].1.is_some() {
            *holder = json!({});
        }
        if let Some(member) = self.member {
            // Of the members of x509 exactly one is there.
            if holder[member].is_null() {
                *holder = json!({ (member): {} });
            }
            holder = &mut holder[member];
        }
        for (slot, value) in self.slots {
            if let Some(value) = value {
                holder[slot] = value;
            }
        }
        Ok(())
    }
}

fn text_of(flag: &Option<String>) -> Option<Value> {
    flag.as_deref().map(Value::from)
}

fn certificates(
    primary: &Option<PathBuf>,
    secondary: &Option<PathBuf>,
) -> anyhow::Result<[Option<Value>; 2]> {
    let enrolled = |file: &Option<PathBuf>| {
        let certificate = file.as_deref().map(read_certificate).transpose()?;
        anyhow::Ok(certificate.as_ref().map(enrolled))
    };
    Ok([enrolled(primary)?, enrolled(secondary)?])
}

/// A certificate in its slot: itself alone, whatever else the file holds.
pub fn enrolled(certificate: &Certificate) -> Value {
    json!({ "certificate": certificate.base64() })
}

/// An attestation as people read it: what it is, and a line for each certificate.
pub fn lines(attestation: &Value) -> Vec<(String, String)> {
    let mut lines = vec![("attestation".into(), text(&attestation["type"]))];
    if attestation["type"] == "tpm" {
        let how = "over HTTPS, where it proves that it holds the TPM";
        lines.push(("  registers".into(), how.into()));
    }
    let x509 = &attestation["x509"];
    for slot in ["primary", "secondary"] {
        for member in ["clientCertificates", "signingCertificates"] {
            let info = &x509[member][slot]["info"];
            if !info.is_null() {
                lines.push((format!("  {slot} certificate"), described(info)));
            }
        }
        if let Some(name) = x509["caReferences"][slot].as_str() {
            lines.push((format!("  {slot} CA"), name.into()));
        }
    }
    lines
}

fn described(info: &Value) -> String {
    format!(
        "{}, until {}, SHA-256 {}",
        text(&info["subjectName"]),
        text(&info["notAfterUtc"]),
        text(&info["sha256Thumbprint"])
    )
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys(primary: Option<&str>) -> Keys {
        Keys {
            primary_key: primary.map(String::from),
            secondary_key: None,
        }
    }

    fn group(primary: Option<&str>, ca_name: Option<&str>, secondary: Option<&str>) -> GroupProof {
        GroupProof {
            keys: keys(primary),
            certificate: None,
            secondary_certificate: None,
            ca_name: ca_name.map(String::from),
            secondary_ca_name: secondary.map(String::from),
        }
    }

    #[test]
    fn what_is_not_said_stays_and_one_kind_stays_itself() {
        let present = json!({ "type": "symmetricKey", "symmetricKey": {} });
        let signing = json!({ "type": "x509", "x509": { "signingCertificates": { "primary": { "info": {} } } } });
        let named = |slots: Value| json!({ "type": "x509", "x509": { "caReferences": slots } });
        for (proof, before, after) in [
            (group(None, None, None), Value::Null, Some(present.clone())),
            (
                group(None, None, None),
                signing.clone(),
                Some(signing.clone()),
            ),
            (
                group(Some("k"), None, None),
                present.clone(),
                Some(json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": "k" } })),
            ),
            (group(Some("k"), None, None), signing.clone(), None),
            (group(None, Some("a"), None), present, None),
            (group(Some("k"), Some("a"), None), Value::Null, None),
            (
                group(None, Some("a"), None),
                Value::Null,
                Some(named(json!({ "primary": "a" }))),
            ),
            (
                group(None, None, Some("b")),
                named(json!({ "primary": "a" })),
                Some(named(json!({ "primary": "a", "secondary": "b" }))),
            ),
            (
                group(None, Some("a"), None),
                signing,
                Some(named(json!({ "primary": "a" }))),
            ),
        ] {
            let mut attestation = before.clone();
            let laid = proof.lay_over(&mut attestation);
            assert_eq!(
                laid.ok().map(|()| attestation),
                after,
                "{proof:?} over {before}"
            );
        }
    }

    #[test]
    fn another_endorsement_key_is_another_tpm() {
        let tpm = |endorsement: Option<&str>, storage_root: Option<&str>| DeviceProof {
            keys: keys(None),
            certificate: None,
            secondary_certificate: None,
            endorsement_key: endorsement.map(String::from),
            storage_root_key: storage_root.map(String::from),
        };
        let one = json!({ "type": "tpm", "tpm": { "endorsementKey": "e" } });
        let both =
            json!({ "type": "tpm", "tpm": { "endorsementKey": "e", "storageRootKey": "s" } });
        let symmetric = json!({ "type": "symmetricKey", "symmetricKey": {} });
        for (proof, before, after) in [
            (tpm(Some("e"), None), Value::Null, Some(one.clone())),
            (tpm(Some("e"), Some("s")), Value::Null, Some(both.clone())),
            (tpm(Some("e"), None), both.clone(), Some(one.clone())),
            (tpm(None, Some("s")), one, Some(both)),
            (tpm(Some("e"), None), symmetric, None),
        ] {
            let mut attestation = before.clone();
            let laid = proof.lay_over(&mut attestation);
            assert_eq!(
                laid.ok().map(|()| attestation),
                after,
                "{proof:?} over {before}"
            );
        }
    }

    #[test]
    fn a_file_that_holds_a_key_beside_the_certificate_gives_away_the_certificate_alone() {
        let folder =
            std::env::temp_dir().join(format!("azimuth-attestation-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = azimuth_certs::self_signed_leaf(azimuth_certs::Wish {
            common_name: "d",
            key: azimuth_certs::KeyKind::P256,
            days: 1,
            now: std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_900_000_000),
        });
        let made = made.unwrap();
        let file = folder.join("both.pem");
        std::fs::write(&file, format!("{}{}", made.key_pem, made.certificate_pem)).unwrap();
        let proof = DeviceProof {
            keys: keys(None),
            certificate: Some(file),
            secondary_certificate: None,
            endorsement_key: None,
            storage_root_key: None,
        };
        let mut attestation = Value::Null;
        proof.lay_over(&mut attestation).unwrap();
        let certificate = made.certificate().unwrap().base64();
        assert_eq!(
            attestation,
            json!({ "type": "x509", "x509": { "clientCertificates": { "primary": { "certificate": certificate } } } })
        );
        std::fs::write(folder.join("none.pem"), "nothing").unwrap();
        let error = read_certificate(&folder.join("none.pem")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("is no certificate in PEM or DER")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn certificates_are_shown_a_line_each() {
        let info = json!({ "subjectName": "CN=d", "notAfterUtc": "2030-01-01T00:00:00Z", "sha256Thumbprint": "AB" });
        let leaf = json!({ "type": "x509", "x509": { "clientCertificates": { "secondary": { "info": info } } } });
        let line = |name: &str, said: &str| (name.to_owned(), said.to_owned());
        assert_eq!(
            lines(&leaf),
            [
                line("attestation", "x509"),
                line(
                    "  secondary certificate",
                    "CN=d, until 2030-01-01T00:00:00Z, SHA-256 AB"
                )
            ]
        );
        let named = json!({ "type": "x509", "x509": { "caReferences": { "primary": "root" } } });
        assert_eq!(lines(&named)[1], line("  primary CA", "root"));
    }
}
