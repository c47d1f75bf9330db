//! What devices and modules have in common: a record under a path, with keys.
//!
//! What may not enter: what only one of the two has.

use std::fmt;

use anyhow::bail;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::{Identity, SymmetricKey};
use clap::{Args, ValueEnum};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::endpoint::Open;

/// A device, or a module of one.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    pub device: &'a str,
    pub module: Option<&'a str>,
}

/// Which of the two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Slot {
    #[default]
    Primary,
    Secondary,
}

/// Which keys are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Renewed {
    Primary,
    Secondary,
    Both,
    /// None: each takes the other's place
    Swap,
}

/// Chooses a key.
#[derive(Debug, Args)]
pub struct Which {
    /// Which of its keys
    #[arg(long, value_enum, default_value_t = Slot::Primary, value_name = "KEY")]
    pub key: Slot,
}

impl Renewed {
    /// What was done.
    pub fn done(self) -> &'static str {
        match self {
            Self::Primary => "the primary key is new",
            Self::Secondary => "the secondary key is new",
            Self::Both => "both keys are new",
            Self::Swap => "the keys are swapped",
        }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module {
            Some(module) => write!(f, "{}/{module}", self.device),
            None => f.write_str(self.device),
        }
    }
}

impl Name<'_> {
    pub fn path(&self) -> String {
        self.below("/devices")
    }

    pub fn twin(&self) -> String {
        self.below("/twins")
    }

    fn below(&self, collection: &str) -> String {
        use azimuth_wire::percent::encode;
        let device = format!("{collection}/{}", encode(self.device));
        match self.module {
            Some(module) => format!("{device}/modules/{}", encode(module)),
            None => device,
        }
    }

    /// What to do where it is not there.
    fn missing(&self) -> String {
        match self.module {
            Some(_) => format!(
                "`azimuth hub module list {}` shows those there are; --hub names another hub.",
                self.device
            ),
            None => {
                "`azimuth hub device list` shows those there are; --hub names another hub.".into()
            }
        }
    }

    /// Asks about it; refusals say what to do next.
    pub async fn ask(&self, hub: &Open, ask: Ask<'_>) -> anyhow::Result<Value> {
        let missing = self.missing();
        let mut hints = vec![(StatusCode::NOT_FOUND, missing.as_str())];
        if self.module.is_some() {
            hints.push((StatusCode::UNAUTHORIZED, NO_DEVICE));
        }
        Ok(ask.hints(&hints).of(hub).await?.body)
    }

    pub async fn read(&self, hub: &Open) -> anyhow::Result<Value> {
        self.ask(hub, Ask::get(&self.path())).await
    }

    pub async fn read_twin(&self, hub: &Open) -> anyhow::Result<Value> {
        self.ask(hub, Ask::get(&self.twin())).await
    }

    pub async fn write_twin(
        &self,
        hub: &Open,
        method: Method,
        twin: Value,
    ) -> anyhow::Result<Value> {
        let path = self.twin();
        let write = Ask::new(method, &path).headers(&[("if-match", "*")]);
        self.ask(hub, write.body(twin)).await
    }

    pub async fn create(&self, hub: &Open, identity: Value) -> anyhow::Result<Value> {
        let path = self.path();
        let exists = "`show` shows it, `update` changes it.";
        let mut hints = vec![(StatusCode::CONFLICT, exists)];
        if self.module.is_some() {
            hints.push((StatusCode::UNAUTHORIZED, NO_DEVICE));
        }
        let put = Ask::new(Method::PUT, &path).body(identity).hints(&hints);
        Ok(put.of(hub).await?.body)
    }

    /// Writes back what was read, changed; refused when somebody else wrote it since.
    pub async fn write_back(&self, hub: &Open, identity: Value) -> anyhow::Result<Value> {
        let etag = format!("\"{}\"", identity["etag"].as_str().unwrap_or("*"));
        let path = self.path();
        let condition = [("if-match", etag.as_str())];
        let put = Ask::new(Method::PUT, &path).headers(&condition);
        self.ask(hub, put.body(identity)).await
    }

    pub async fn delete(&self, hub: &Open) -> anyhow::Result<()> {
        let path = self.path();
        let delete = Ask::new(Method::DELETE, &path).headers(&[("if-match", "*")]);
        self.ask(hub, delete).await?;
        Ok(())
    }

    pub async fn renew_key(&self, hub: &Open, which: Renewed) -> anyhow::Result<()> {
        let policy_key = match which {
            Renewed::Primary => "primaryKey",
            Renewed::Secondary => "secondaryKey",
            Renewed::Both => "both",
            Renewed::Swap => return self.swap_keys(hub).await,
        };
        let mut named = json!({ "id": self.device });
        if let Some(module) = self.module {
            named["moduleId"] = module.into();
        }
        let wanted = json!({ "policyKey": policy_key, "devices": [named] });
        let answer = Ask::new(Method::POST, "/devices/keys/regenerate").body(wanted);
        let answer = answer.of_any(hub).await?;
        match answer.body["errors"].as_array().map_or(&[][..], |all| all) {
            [] if answer.status.is_success() => Ok(()),
            [] => bail!(answer.refusal(hub, &[])),
            [error, ..] => {
                let said = ["errorStatus", "message", "errorCode"].map(|member| &error[member]);
                let said = said.into_iter().find(|said| !said.is_null());
                let said = said.unwrap_or(error).to_string();
                bail!("the key was not renewed: {}", said.trim_matches('"'))
            }
        }
    }

    async fn swap_keys(&self, hub: &Open) -> anyhow::Result<()> {
        let mut identity = self.read(hub).await?;
        let keys = &mut identity["authentication"]["symmetricKey"];
        let (primary, secondary) = (keys["primaryKey"].take(), keys["secondaryKey"].take());
        if primary.is_null() || secondary.is_null() {
            bail!("it has no keys: it proves itself with a certificate");
        }
        *keys = json!({ "primaryKey": secondary, "secondaryKey": primary });
        self.write_back(hub, identity).await?;
        Ok(())
    }

    /// What an SDK is given to be this device or module.
    pub fn connection_string(
        &self,
        hub: &Open,
        identity: &Value,
        key: Slot,
    ) -> anyhow::Result<String> {
        let member = match key {
            Slot::Primary => "primaryKey",
            Slot::Secondary => "secondaryKey",
        };
        let key = identity["authentication"]["symmetricKey"][member].as_str();
        let key: Option<SymmetricKey> = key.map(str::parse).transpose()?;
        let string = ConnectionString {
            host_name: hub.host_name().into(),
            gateway_host_name: None,
            identity: Some(Identity {
                device: self.device.parse()?,
                module: self.module.map(str::parse).transpose()?,
            }),
            key_name: None,
            x509: key.is_none(),
            key,
        };
        Ok(string.reveal())
    }
}

const NO_DEVICE: &str = "As in Azure, that is also the answer where the device of the module is not there or is disabled; \
    `azimuth hub device show ID` tells.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_in_paths() {
        let name = Name {
            device: "a/b#1",
            module: Some("$m"),
        };
        assert_eq!(name.path(), "/devices/a%2Fb%231/modules/%24m");
        assert_eq!(name.twin(), "/twins/a%2Fb%231/modules/%24m");
    }
}
