//! A device at a DPS: what its CONNECT, or its request over HTTPS, claims.
//!
//! Read once, when it connects or asks. What may not enter: whether the claim is true.

use std::sync::Arc;

use azimuth_broker::{Hello, Owner, Peer, Principal, Refusal};
use azimuth_certs::Certificate;
use azimuth_wire::api_version::ApiVersion;
use azimuth_wire::sas::{Malformed, SasToken};
use azimuth_wire::user_name::DpsUserName;
use azimuth_wire::{IdScope, RegistrationId};
use parking_lot::Mutex;

use crate::attempt::Proof;
use crate::attestation::{Attested, x509};
use crate::enrollment::Terms;
use crate::explain;

/// A device on the line. Its claim is not proven yet.
#[derive(Clone)]
pub struct Registrant(pub Arc<Claims>);

/// Who it says it is, where it comes from and what it brought to prove it.
pub struct Claims {
    pub owner: Owner,
    pub registration_id: RegistrationId,
    /// What its token must be for.
    pub resource: String,
    pub api_version: ApiVersion,
    pub credential: Credential,
    pub transport: Transport,
    pub peer: Arc<Peer>,
    /// The last verdict, good while no enrollment was written and the credential runs.
    pub proven: Mutex<Option<(u64, Arc<Proven>)>>,
}

/// How it came: not every proof may come every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Mqtt,
    Https,
}

/// What it brought.
pub enum Credential {
    /// Over HTTPS: a device with a TPM comes without at first.
    Nothing,
    Token(Result<SasToken, Malformed>),
    /// Its chain, leaf first. The leaf's common name is the registration id.
    Certificate(Vec<Certificate>),
}

impl Claims {
    /// The device's own certificate, where it brought one to prove itself with.
    pub fn leaf(&self) -> Option<&Certificate> {
        match &self.credential {
            Credential::Certificate(chain) => chain.first(),
            Credential::Nothing | Credential::Token(_) => None,
        }
    }
}

/// A credential that was taken, and what its enrollment says.
pub struct Proven {
    pub terms: Arc<Terms>,
    pub attested: Attested,
    /// How it was proven, for the explanation.
    pub proof: Arc<Proof>,
    /// It is over by then; seconds since 1970.
    pub until: u64,
}

impl Registrant {
    /// Reads a CONNECT. Whether its credential is right is judged at register, as Azure does it.
    pub fn introduced(hello: Hello, id_scope: &IdScope) -> Result<Self, Refusal> {
        let user_name = hello.user_name.as_deref().unwrap_or_default();
        if user_name.is_empty() {
            return Err(explain::no_user_name());
        }
        let name = DpsUserName::parse(user_name, &hello.client_id)
            .map_err(|error| explain::bad_user_name(&error))?;
        if name.id_scope != *id_scope {
            return Err(explain::unknown_scope(&name.id_scope, id_scope));
        }
        check_api_version(name.api_version)?;
        let password = hello.password.as_ref().map(|password| password.0.as_str());
        let credential = credential(password, &hello.peer, &name.registration_id)?;
        if matches!(credential, Credential::Nothing) {
            return Err(explain::no_credentials());
        }
        Ok(Self::new(
            id_scope,
            name.registration_id,
            name.api_version,
            credential,
            Transport::Mqtt,
            hello.peer,
        ))
    }

    pub fn new(
        id_scope: &IdScope,
        registration_id: RegistrationId,
        api_version: ApiVersion,
        credential: Credential,
        transport: Transport,
        peer: Arc<Peer>,
    ) -> Self {
        Self(Arc::new(Claims {
            owner: Owner::new(&registration_id.folded()),
            resource: format!("{id_scope}/registrations/{registration_id}"),
            registration_id,
            api_version,
            credential,
            transport,
            peer,
            proven: Mutex::default(),
        }))
    }
}

/// What the device showed in its handshake, if the leaf is one for its registration id. A certificate
/// above the leaf that cannot be read helps nobody and is left out.
fn chain(peer: &Peer, id: &RegistrationId) -> Result<Vec<Certificate>, Refusal> {
    let mut shown = peer
        .certificates
        .iter()
        .map(|der| Certificate::from_der(der));
    let Some(Ok(leaf)) = shown.next() else {
        return Err(explain::unreadable_certificate());
    };
    if !x509::names(&leaf, id) {
        return Err(explain::other_common_name(id, &leaf));
    }
    Ok(std::iter::once(leaf).chain(shown.flatten()).collect())
}

impl Principal for Registrant {
    fn owner(&self) -> &Owner {
        &self.0.owner
    }
}

impl std::fmt::Debug for Registrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registrant")
            .field(&self.0.registration_id)
            .finish()
    }
}

/// What a device brought: a token where there is one, else the certificate of its connection.
pub fn credential(
    token: Option<&str>,
    peer: &Peer,
    id: &RegistrationId,
) -> Result<Credential, Refusal> {
    match token.filter(|token| !token.is_empty()) {
        Some(token) => Ok(Credential::Token(SasToken::parse(token))),
        None if !peer.certificates.is_empty() => Ok(Credential::Certificate(chain(peer, id)?)),
        None => Ok(Credential::Nothing),
    }
}

/// Refuses a version that Azure never had.
pub fn check_api_version(version: ApiVersion) -> Result<(), Refusal> {
    if known(version) {
        return Ok(());
    }
    Err(explain::unknown_api_version(version))
}

/// One of Azure's, or newer than all of them.
fn known(version: ApiVersion) -> bool {
    KNOWN.iter().any(|known| known.parse() == Ok(version)) || version > ApiVersion::new(2025, 7, 1)
}

const KNOWN: [&str; 11] = [
    "2019-03-31",
    "2021-06-01",
    "2018-11-01",
    "2021-10-01",
    "2019-04-15",
    "2018-09-01-preview",
    "2018-04-01",
    "2017-11-15",
    "2021-11-01-preview",
    "2025-07-01-preview",
    "2025-07-01",
];
