//! Devices that prove themselves with a client certificate: the leaf's thumbprint against the registry's.
//!
//! That the client holds the leaf's key was proven in the TLS handshake. May not enter: chains, since a hub
//! that knows no CA trusts thumbprints alone.

use std::time::SystemTime;

use azimuth_broker::Refusal;
use azimuth_certs::{Certificate, Thumbprint};
use azimuth_wire::registry::Authentication;

use super::refusal;
use crate::registry::Identity;

/// Holds the leaf of the chain a client showed against an identity.
pub fn judge(shown: &[Vec<u8>], identity: &Identity, now: SystemTime) -> Result<(), Refusal> {
    let leaf = shown.first().map(|der| Certificate::from_der(der));
    let Some(Ok(leaf)) = leaf else {
        return Err(refusal::unreadable_certificate());
    };
    let Authentication::SelfSigned { primary, secondary } = &identity.authentication else {
        return Err(refusal::not_by_certificate(identity));
    };
    let configured = [primary, secondary];
    let matches = configured.into_iter().flatten().any(|thumbprint| {
        let thumbprint = thumbprint.as_str().parse::<Thumbprint>();
        thumbprint.is_ok_and(|thumbprint| thumbprint.matches(leaf.der()))
    });
    if !matches {
        return Err(refusal::wrong_thumbprint(identity, &leaf, configured));
    }
    if !leaf.validity().contains(now) {
        return Err(refusal::certificate_out_of_time(&leaf, now));
    }
    Ok(())
}
