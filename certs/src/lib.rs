//! Certificates and keys: our own authority, server identities, chains, thumbprints, proof of possession.
//!
//! Reads and judges certificates and makes ours; every judgement takes the time as an argument.
//! May not enter: who may connect, sockets, MQTT, HTTP, registries. A service asks what a
//! certificate is and decides for itself what that means.
//!
//! One cryptographic provider (aws-lc-rs), always passed explicitly, never the process default.

mod any_client;
mod authority;
mod ca_certificate;
mod ca_certificates;
mod certificate;
mod chain;
mod error;
mod facts;
mod hierarchy;
mod info;
mod leaf;
mod names;
mod pair;
mod possession;
mod server;
mod thumbprint;
mod tls;
mod trust;
mod validity;

pub use any_client::AnyClientCertificate;
pub use authority::Authority;
pub use ca_certificate::{Ca, CaRecord, CaRefusal, MOST_CA_CERTIFICATES, Stamp, helpers};
pub use ca_certificates::{CaCertificates, CaError};
pub use certificate::Certificate;
pub use chain::{MOST_STEPS, path_to_anchor, verify_chain};
pub use error::{Error, Refusal};
pub use hierarchy::{Made, Signer, Wish, root, self_signed_leaf};
pub use info::CertificateInfo;
pub use leaf::{KeyKind, Leaf};
pub use names::ServerNames;
pub use possession::{VerificationCode, check_possession};
pub use server::{Renewal, ServerIdentity};
pub use thumbprint::Thumbprint;
pub use tls::{
    KeyChoice, client_certificate, client_config, client_config_with_certificate,
    client_config_with_system_roots, without_resumption,
};
pub use trust::{Runtime, TrustFiles, bundle, c_header, one_line, trust_rows};
