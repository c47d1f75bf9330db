//! Who may enter: shared access signatures of devices, of modules and of policies, client certificates, and
//! why not. Pure.
//!
//! Devices and modules are judged for MQTT, policy tokens for REST. Every refusal has its rule, one sentence,
//! and the arithmetic; no key, no token and no signature is in any of them. May not enter: sockets,
//! the store, the clock.

mod certificate;
mod refusal;

use std::time::{Duration, SystemTime};

use azimuth_broker::{Hello, Refusal, Will};
use azimuth_certs::Ca;
use azimuth_wire::Identity as Name;
use azimuth_wire::policy::HubRights;
use azimuth_wire::registry::{Authentication, Status};
use azimuth_wire::sas::SasToken;
use azimuth_wire::time::unix_seconds;
use azimuth_wire::topic::hub::DeviceTopic;
use azimuth_wire::user_name::{HubUserName, InvalidUserName};

use crate::error::Error;
use crate::policies::{Policies, Policy};
use crate::registry::Identity;

use certificate::Shown;
pub use refusal::Asker;

/// By what a hub judges credentials.
#[derive(Debug)]
pub struct Rules {
    /// Names and addresses of the hub; the first is the canonical name.
    pub host_names: Vec<String>,
    pub policies: Policies,
    pub clock_skew: Duration,
}

/// A device or module that may enter.
#[derive(Debug)]
pub struct Entry {
    pub user_name: HubUserName,
    pub identity: Identity,
    /// What `iothub-connection-auth-method` says.
    pub auth_method: &'static str,
    /// `se` of the token, seconds since 1970; none for a certificate.
    pub expiry: Option<u64>,
}

impl Rules {
    /// Judges a CONNECT. `cas` are the CA certificates of the hub, `find` looks an identity up in the
    /// registry.
    pub fn device(
        &self,
        hello: &Hello,
        cas: &[Ca],
        now: SystemTime,
        find: impl Fn(&Name) -> Result<Option<Identity>, Error>,
    ) -> Result<Entry, Refusal> {
        let user_name = hello.user_name.as_deref().unwrap_or_default();
        let user_name =
            HubUserName::parse(user_name, &hello.client_id).map_err(|invalid| match invalid {
                InvalidUserName::ClientId { .. } => refusal::client_id(&invalid),
                invalid => refusal::user_name(&invalid),
            })?;
        if !self.is_me(&user_name.host) {
            return Err(refusal::host(&user_name.host, &self.host_names));
        }
        let name = &user_name.identity;
        if let Some(will) = &hello.will {
            check_will(will, name)?;
        }
        let asker = Asker::Device;
        let password = hello.password.as_ref();
        let Some(password) = password.filter(|password| !password.0.is_empty()) else {
            return Self::by_certificate(hello, user_name, cas, now, find);
        };
        let token = SasToken::parse(&password.0).map_err(|why| refusal::malformed(asker, why))?;
        let resource = resource(name);
        let by_policy = match token.key_name() {
            None => None,
            Some(key_name) => {
                Some(self.policy(asker, &token, key_name, HubRights::DeviceConnect)?)
            }
        };
        if by_policy.is_some() {
            self.check(asker, &token, &resource, by_policy, None, now)?;
        }
        let identity = look_up(name, &find)?;
        if by_policy.is_none() {
            self.check(asker, &token, &resource, None, Some(&identity), now)?;
        }
        enabled(&identity, &find)?;
        Ok(Entry {
            auth_method: match (by_policy, &identity.module_id) {
                (Some(_), _) => BY_POLICY,
                (None, None) => BY_DEVICE_KEY,
                (None, Some(_)) => BY_MODULE_KEY,
            },
            expiry: Some(token.expiry()),
            identity,
            user_name,
        })
    }

    fn by_certificate(
        hello: &Hello,
        user_name: HubUserName,
        cas: &[Ca],
        now: SystemTime,
        find: impl Fn(&Name) -> Result<Option<Identity>, Error>,
    ) -> Result<Entry, Refusal> {
        let shown = Shown {
            name: &user_name.identity,
            chain: &hello.peer.certificates,
            now,
        };
        if shown.chain.is_empty() {
            return Err(refusal::no_credentials(Asker::Device));
        }
        let identity = look_up(&user_name.identity, &find)?;
        let auth_method = certificate::judge(&shown, &identity, cas)?;
        enabled(&identity, &find)?;
        Ok(Entry {
            auth_method,
            expiry: None,
            identity,
            user_name,
        })
    }

    /// Judges the `Authorization` header of a request to `path` (decoded, without the leading slash);
    /// hands out the policy's name. `needed` may be nothing: then any policy will do.
    pub fn service(
        &self,
        header: Option<&str>,
        path: &str,
        needed: HubRights,
        now: SystemTime,
    ) -> Result<&str, Refusal> {
        let asker = Asker::Service;
        let header = header.filter(|header| !header.trim().is_empty());
        let header = header.ok_or_else(|| refusal::no_credentials(asker))?;
        let token = SasToken::parse(header).map_err(|why| refusal::malformed(asker, why))?;
        let Some(key_name) = token.key_name() else {
            return Err(refusal::no_policy());
        };
        let policy = self.policy(asker, &token, key_name, needed)?;
        self.check(asker, &token, path, Some(policy), None, now)?;
        Ok(&policy.keys.name)
    }

    fn policy(
        &self,
        asker: Asker,
        token: &SasToken,
        name: &str,
        needed: HubRights,
    ) -> Result<&Policy, Refusal> {
        let policy = self.policies.policy(name);
        let policy = policy
            .ok_or_else(|| refusal::unknown_policy(asker, token, name, &self.policies.names()))?;
        if needed != HubRights::default() && !policy.rights.any_of(needed) {
            return Err(refusal::no_right(asker, policy, needed));
        }
        Ok(policy)
    }

    /// Resource, then signature, then expiry: a wrong key on an expired token reports the key.
    fn check(
        &self,
        asker: Asker,
        token: &SasToken,
        path: &str,
        policy: Option<&Policy>,
        own: Option<&Identity>,
        now: SystemTime,
    ) -> Result<(), Refusal> {
        if !self.covers(token, path) {
            let canonical = self.host_names.first().map_or("", String::as_str);
            return Err(refusal::wrong_resource(
                asker,
                token,
                &format!("{canonical}/{path}"),
                &self.host_names,
            ));
        }
        let (whose, primary, secondary) = match (policy, own) {
            (Some(policy), _) => {
                let keys = &policy.keys;
                let whose = format!("policy `{}`", keys.name);
                (whose, &keys.primary_key, &keys.secondary_key)
            }
            (None, Some(own)) => match &own.authentication {
                Authentication::Sas { primary, secondary } => {
                    (refusal::subject(own), primary, secondary)
                }
                Authentication::SelfSigned { .. }
                | Authentication::CertificateAuthority
                | Authentication::None => {
                    return Err(refusal::wrong_authentication(own));
                }
            },
            (None, None) => return Err(refusal::no_policy()),
        };
        if token.signer(primary, secondary).is_none() {
            return Err(refusal::wrong_key(asker, token, &whose));
        }
        let (now, skew) = (unix_seconds(now), self.clock_skew.as_secs());
        if token.expired(now, skew) {
            return Err(refusal::expired(asker, token, now, skew));
        }
        Ok(())
    }

    /// Whether a name is one of this hub's, with or without a port.
    fn is_me(&self, host: &str) -> bool {
        let bare = host
            .rsplit_once(':')
            .filter(|(bare, port)| !bare.contains(':') && is_port(port))
            .map_or(host, |(bare, _)| bare);
        let same =
            |name: &String| name.eq_ignore_ascii_case(bare) || name.eq_ignore_ascii_case(host);
        self.host_names.iter().any(same)
    }

    /// Whether `sr` covers the path under any name of this hub; with a port where `sr` has one.
    fn covers(&self, token: &SasToken, path: &str) -> bool {
        let port = port(token.resource());
        self.host_names.iter().any(|name| {
            token.covers(&format!("{name}/{path}"))
                || port
                    .as_ref()
                    .is_some_and(|port| token.covers(&format!("{name}:{port}/{path}")))
        })
    }
}

fn look_up(
    name: &Name,
    find: impl Fn(&Name) -> Result<Option<Identity>, Error>,
) -> Result<Identity, Refusal> {
    let find = |name: &Name| find(name).map_err(|error| refusal::store(&error));
    if let Some(identity) = find(name)? {
        return Ok(identity);
    }
    Err(match &name.module {
        Some(module) if find(&name.of_device())?.is_some() => {
            refusal::unknown_module(&name.device, module)
        }
        Some(_) | None => refusal::unknown_device(&name.device),
    })
}

/// A module may enter while its device may.
fn enabled(
    identity: &Identity,
    find: impl Fn(&Name) -> Result<Option<Identity>, Error>,
) -> Result<(), Refusal> {
    let disabled = |device: &Identity| match device.status {
        Status::Enabled => Ok(()),
        Status::Disabled => Err(refusal::disabled_device(device)),
    };
    match identity.module_id {
        None => disabled(identity),
        Some(_) => disabled(&look_up(&identity.name().of_device(), find)?),
    }
}

/// The stamp on messages of a connection that a device key opened; member order as Azure's.
const BY_DEVICE_KEY: &str =
    r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;
/// … a module's key.
const BY_MODULE_KEY: &str =
    r#"{"scope":"module","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;
/// … that a policy's key opened.
const BY_POLICY: &str =
    r#"{"scope":"hub","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;

/// Where an identity stands: in tokens, and in front of its topics.
pub fn resource(name: &Name) -> String {
    match &name.module {
        Some(module) => format!("devices/{}/modules/{module}", name.device),
        None => format!("devices/{}", name.device),
    }
}

/// A will is telemetry of its own sender, or there is none.
fn check_will(will: &Will, name: &Name) -> Result<(), Refusal> {
    if will.exactly_once {
        return Err(refusal::will_quality());
    }
    match DeviceTopic::parse(&will.topic, name) {
        Ok(DeviceTopic::Telemetry(_)) => Ok(()),
        Ok(_) => Err(refusal::will_topic(&will.topic, name, None)),
        Err(why) => Err(refusal::will_topic(&will.topic, name, Some(&why))),
    }
}

/// The port in `sr`, at whichever depth of encoding.
fn port(resource: &str) -> Option<String> {
    let once = azimuth_wire::percent::decode(resource);
    let twice = azimuth_wire::percent::decode(&once);
    let text = twice.split_once("://").map_or(&*twice, |(_, rest)| rest);
    let (host, port) = text.split('/').next()?.rsplit_once(':')?;
    (!host.contains(':') && is_port(port)).then(|| port.to_owned())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}
