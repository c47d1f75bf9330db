//! What can go wrong with our own certificates, and why somebody else's is not accepted.
//!
//! [`Error`] is trouble of ours (files, keys, set-up); [`Refusal`] is a verdict about a certificate that
//! was shown to us, with the rule and the values behind it. No key material enters either.

use std::io;
use std::path::PathBuf;

/// Why certificates of ours could not be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "`{}` is there but `{}` is missing; put the missing file back, or remove both to get a new certificate authority that every client must trust anew",
        present.display(), missing.display()
    )]
    HalfPair { present: PathBuf, missing: PathBuf },
    #[error("`{}` does not hold exactly one readable certificate; nothing was changed", path.display())]
    DamagedCertificate { path: PathBuf },
    #[error("`{}` does not hold a readable P-256 or RSA private key; nothing was changed", path.display())]
    DamagedKey { path: PathBuf },
    #[error("the key in `{}` does not belong to the certificate in `{}`; nothing was changed", key.display(), certificate.display())]
    MismatchedPair { certificate: PathBuf, key: PathBuf },
    #[error("the certificate in `{}` is not a certificate authority; nothing was changed", path.display())]
    NotAnAuthority { path: PathBuf },
    #[error(
        "the certificate authority in `{}` expired at {not_after} and the clock says {now}; set the clock right, or remove the certificate and its key to get a new one that every client must trust anew",
        path.display()
    )]
    AuthorityExpired {
        path: PathBuf,
        not_after: String,
        now: String,
    },
    #[error("the certificate authority in `{}` begins at {not_before} and the clock says {now}; set the clock right", path.display())]
    AuthorityNotYetValid {
        path: PathBuf,
        not_before: String,
        now: String,
    },
    #[error("a server certificate needs at least one name or address")]
    NoNames,
    #[error("`{0}` is not a name that fits in a certificate")]
    BadName(String),
    #[error("making the certificate failed")]
    Issue(#[source] rcgen::Error),
    #[error("the system gave no random bytes")]
    Random,
    #[error("setting up TLS failed")]
    Tls(#[source] rustls::Error),
    #[error(
        "no trusted root certificates were given; the system's store is not used, so name the file of the certificate authority"
    )]
    NoRoots,
    #[error("no certificate was found in the text or bytes given")]
    NoCertificate,
    #[error("bytes that should be a certificate cannot be read as one")]
    UnreadableCertificate,
    #[error("no readable private key was found in the text given")]
    UnreadableKey,
    #[error(
        "a thumbprint is 40 (SHA-1) or 64 (SHA-256) hexadecimal digits, this has {0} characters"
    )]
    BadThumbprint(usize),
    #[error("a verification code is 48 hexadecimal digits")]
    BadVerificationCode,
    #[error("the private key does not belong to the certificate")]
    OtherKey,
    #[error("the issuer cannot sign: {0}")]
    Issuer(#[source] Refusal),
}

/// Why a certificate that was shown is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no certificate was shown")]
    Nothing,
    #[error("`{subject}` was issued by `{issuer}`, which is not among the certificates at hand")]
    IssuerUnknown { subject: String, issuer: String },
    #[error(
        "`{subject}` names `{issuer}` as its issuer, but that certificate's key did not sign it"
    )]
    WrongSignature { subject: String, issuer: String },
    #[error("`{subject}` expired at {not_after}; it is {now}")]
    Expired {
        subject: String,
        not_after: String,
        now: String,
    },
    #[error("`{subject}` is not valid before {not_before}; it is {now}")]
    NotYetValid {
        subject: String,
        not_before: String,
        now: String,
    },
    #[error("`{subject}` issued a certificate but is no certificate authority: {because}")]
    IssuerNotAuthority {
        subject: String,
        because: &'static str,
    },
    #[error("`{subject}` allows {allowed} authorities below it, the chain has {found}")]
    PathTooLong {
        subject: String,
        allowed: u32,
        found: usize,
    },
    #[error("the chain ends at the self-signed `{subject}`, which is not trusted here")]
    UntrustedRoot { subject: String },
    #[error("no trusted certificate was reached within the {limit} steps allowed")]
    TooManySteps { limit: usize },
    #[error("the common name is `{found}`, it must be the verification code `{expected}`")]
    WrongCommonName { expected: String, found: String },
}
