//! Devices that prove themselves with a client certificate: the leaf's thumbprint against the registry's,
//! or its chain up to a verified CA certificate of the hub.
//!
//! That the client holds the leaf's key was proven in the TLS handshake. No revocation lists are asked,
//! as in Azure. May not enter: the store, sockets.

mod refusal;

use std::time::SystemTime;

use azimuth_broker::Refusal;
use azimuth_certs::{Ca, Certificate, MOST_STEPS, Thumbprint, helpers, path_to_anchor};
use azimuth_wire::Identity as Name;
use azimuth_wire::registry::Authentication;

use crate::auth::refusal::no_proof;
use crate::registry::Identity;

/// What a client showed, and when.
pub struct Shown<'a> {
    pub name: &'a Name,
    /// DER, leaf first.
    pub chain: &'a [Vec<u8>],
    pub now: SystemTime,
}

/// Holds the chain a client showed against an identity; hands out what messages are stamped with.
pub fn judge(shown: &Shown<'_>, identity: &Identity, cas: &[Ca]) -> Result<&'static str, Refusal> {
    let leaf = shown.chain.first().map(|der| Certificate::from_der(der));
    let Some(Ok(leaf)) = leaf else {
        return Err(refusal::unreadable_certificate());
    };
    match &identity.authentication {
        Authentication::SelfSigned { primary, secondary } => {
            let configured = [primary, secondary];
            let matches = configured.into_iter().flatten().any(|thumbprint| {
                let thumbprint = thumbprint.as_str().parse::<Thumbprint>();
                thumbprint.is_ok_and(|thumbprint| thumbprint.matches(leaf.der()))
            });
            if !matches {
                return Err(refusal::wrong_thumbprint(identity, &leaf, configured));
            }
            if !leaf.validity().contains(shown.now) {
                return Err(refusal::certificate_out_of_time(&leaf, shown.now));
            }
            Ok(match identity.module_id {
                None => BY_THUMBPRINT,
                Some(_) => BY_THUMBPRINT_OF_MODULE,
            })
        }
        Authentication::CertificateAuthority => {
            by_authority(shown, leaf, cas)?;
            Ok(match identity.module_id {
                None => BY_AUTHORITY,
                Some(_) => BY_AUTHORITY_OF_MODULE,
            })
        }
        Authentication::Sas { .. } => Err(refusal::not_by_certificate(identity)),
        Authentication::None => Err(no_proof(identity)),
    }
}

/// The leaf bears the name of the identity, to the letter, and a verified CA is above it.
fn by_authority(shown: &Shown<'_>, leaf: Certificate, cas: &[Ca]) -> Result<(), Refusal> {
    let name = shown.name.to_string();
    if leaf.common_name() != Some(name.as_str()) {
        return Err(refusal::other_common_name(&name, &leaf));
    }
    let mut chain = vec![leaf];
    // What cannot be read helps nobody; a chain that needed it breaks there.
    let others = shown.chain.iter().skip(1).take(MOST_STEPS);
    chain.extend(others.flat_map(|der| Certificate::from_der(der)));
    let leaf = &chain[0];
    let helpers = helpers(&chain, &[], cas);
    let path_to = |anchors: &[&Certificate]| {
        let path = path_to_anchor(leaf, &helpers, anchors, shown.now);
        path.map(drop)
    };
    let verified: Vec<_> = cas.iter().filter(|ca| ca.verified).collect();
    let anchors: Vec<_> = verified.iter().map(|ca| &ca.certificate).collect();
    let Err(broken) = path_to(&anchors) else {
        return Ok(());
    };
    let mut unverified = cas.iter().filter(|ca| !ca.verified);
    if let Some(ca) = unverified.find(|ca| path_to(&[&ca.certificate]).is_ok()) {
        return Err(refusal::unverified_ca(&name, ca));
    }
    let names: Vec<_> = verified.iter().map(|ca| ca.name.as_str()).collect();
    Err(refusal::broken_chain(&name, &chain, &names, &broken))
}

/// The stamp on messages of a connection that a certificate with a known thumbprint opened; member
/// order as Azure's.
const BY_THUMBPRINT: &str = r#"{"scope":"device","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}"#;
const BY_THUMBPRINT_OF_MODULE: &str = r#"{"scope":"module","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}"#;
/// … that a certificate below a CA of the hub opened.
const BY_AUTHORITY: &str = r#"{"scope":"device","type":"x509CertificateAuthority","issuer":"external","acceptingIpFilterRule":null}"#;
const BY_AUTHORITY_OF_MODULE: &str = r#"{"scope":"module","type":"x509CertificateAuthority","issuer":"external","acceptingIpFilterRule":null}"#;
