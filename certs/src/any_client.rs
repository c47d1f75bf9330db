//! A TLS server's side of client certificates: asked for, never demanded, any certificate accepted.
//!
//! The handshake proves only that the client holds the key of the certificate it showed. Whether
//! that certificate lets it in is decided later, by the service, with the right error code.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    SignatureScheme,
};
use x509_parser::asn1_rs::{Any, FromDer};
use x509_parser::prelude::X509Certificate;

/// Lets every client certificate through the handshake whose key the client proves to hold.
///
/// rustls' own signature check refuses certificates of version 1, which
/// `openssl x509 -req -signkey` makes when no extension file is given, so the check is done here with the same
/// algorithms.
#[derive(Debug)]
pub struct AnyClientCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyClientCertificate {
    pub fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self {
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: a client with several certificates must not hold back the self-signed one.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Unreadable bytes could be compared with nothing later on.
        parse(end_entity).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(&self.algorithms, message, certificate, signed, usize::MAX)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !TLS13_SCHEMES.contains(&signed.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        // RFC 8446 §4.2.3 ties a scheme to one curve: only the first algorithm of a scheme counts.
        check_signature(&self.algorithms, message, certificate, signed, 1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn check_signature(
    algorithms: &WebPkiSupportedAlgorithms,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    at_most: usize,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = parse(certificate)?;
    let key = certificate.public_key();
    let algorithm = key_algorithm(key.raw).ok_or(CertificateError::BadEncoding)?;
    let of_scheme = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == signed.scheme)
        .map(|(_, algorithms)| *algorithms)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let valid = of_scheme
        .iter()
        .take(at_most)
        .filter(|candidate| candidate.public_key_alg_id().as_ref() == algorithm)
        .any(|candidate| {
            let bits = &key.subject_public_key.data;
            let verdict = candidate.verify_signature(bits, message, signed.signature());
            verdict.is_ok()
        });
    match valid {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) | Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

/// The content of the algorithm identifier, the first part of a `SubjectPublicKeyInfo`.
fn key_algorithm(key: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(key).ok()?;
    let (_, identifier) = Any::from_der(outer.data).ok()?;
    Some(identifier.data)
}

/// TLS 1.3 has no PKCS #1 v1.5 and no SHA-1 in handshake signatures (RFC 8446 §4.2.3).
const TLS13_SCHEMES: [SignatureScheme; 7] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];
