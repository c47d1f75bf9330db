//! What can be done with one device or one module, whichever it is: show, create, change, delete, its connection string
//! and its keys.
//!
//! What may not enter: what only one of the two has.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::identity::{Name, Renewed, Which};
use super::proof::Proof;
use super::told;
use crate::ask;
use crate::config::Config;
use crate::endpoint::Open;
use crate::follow::{Target, print_line};

/// `N` names it, `T` are the flags that say what it is beside its proof.
#[derive(Debug, Subcommand)]
pub enum Verb<N: Args, T: Args> {
    /// Show one
    Show {
        #[command(flatten)]
        named: N,
        /// As JSON, whole, with its keys
        #[arg(long)]
        json: bool,
    },
    /// Create one, and print what it connects with
    Create(Change<N, T>),
    /// Change one; what is not said stays. Disabling a device cuts it off at once
    Update(Change<N, T>),
    /// Delete one with its twin, a device with its modules; a DPS does not notice, and puts a device back when it registers again
    Delete {
        #[command(flatten)]
        named: N,
    },
    /// Print what an SDK is given to be it
    ConnectionString {
        #[command(flatten)]
        named: N,
        #[command(flatten)]
        which: Which,
    },
    /// Make new keys, or swap the two
    RenewKey {
        #[command(flatten)]
        named: N,
        /// Which of its keys
        #[arg(long, value_enum, value_name = "KEY")]
        key: Renewed,
    },
}

/// What it is to be.
#[derive(Debug, Args)]
pub struct Change<N: Args, T: Args> {
    #[command(flatten)]
    named: N,
    #[command(flatten)]
    proof: Proof,
    #[command(flatten)]
    terms: T,
    /// Print it as JSON, whole, with its keys
    #[arg(long)]
    json: bool,
}

/// Names one, in one hub.
pub trait Named: Args {
    /// What people are shown of one, in this order.
    const MEMBERS: &[&str];

    fn name(&self) -> Name<'_>;

    fn at(&self) -> &Target;
}

/// What one is beside its proof.
pub trait Terms: Args {
    /// Writes what was said into it; the rest of it stays.
    async fn lay_over(&self, identity: &mut Value, hub: &Open) -> anyhow::Result<()>;

    /// What a change has done.
    fn done(&self) -> &'static str {
        "changed"
    }
}

impl<N: Named, T: Terms> Verb<N, T> {
    pub async fn run(self, config: &Config) -> anyhow::Result<()> {
        match self {
            Self::Show { named, json } => {
                let identity = named.name().read(&named.at().open(config).await?).await?;
                ask::print_record(&identity, json, N::MEMBERS, |_, _| None)
            }
            Self::Create(to_be) => {
                let (hub, name) = (to_be.named.at().open(config).await?, to_be.named.name());
                let mut identity = json!({ "deviceId": name.device });
                if let Some(module) = name.module {
                    identity["moduleId"] = module.into();
                }
                to_be.lay_over(&mut identity, &hub).await?;
                let made = name.create(&hub, identity).await?;
                let string = name.connection_string(&hub, &made, Default::default())?;
                let sentence = format!("{name} is in {}\n{string}", hub.label());
                told(&made, to_be.json, sentence)
            }
            Self::Update(to_be) => {
                let (hub, name) = (to_be.named.at().open(config).await?, to_be.named.name());
                let mut identity = name.read(&hub).await?;
                to_be.lay_over(&mut identity, &hub).await?;
                let written = name.write_back(&hub, identity).await?;
                let sentence = format!("{name} is {} in {}", to_be.terms.done(), hub.label());
                told(&written, to_be.json, sentence)
            }
            Self::Delete { named } => {
                let (hub, name) = (named.at().open(config).await?, named.name());
                name.delete(&hub).await?;
                print_line(format!("deleted {name} in {}", hub.label()))
            }
            Self::ConnectionString { named, which } => {
                let (hub, name) = (named.at().open(config).await?, named.name());
                let identity = name.read(&hub).await?;
                print_line(name.connection_string(&hub, &identity, which.key)?)
            }
            Self::RenewKey { named, key } => {
                let (hub, name) = (named.at().open(config).await?, named.name());
                name.renew_key(&hub, key).await?;
                print_line(format!("{name}: {} in {}", key.done(), hub.label()))
            }
        }
    }
}

impl<N: Named, T: Terms> Change<N, T> {
    async fn lay_over(&self, identity: &mut Value, hub: &Open) -> anyhow::Result<()> {
        if let Some(authentication) = self.proof.asked()? {
            identity["authentication"] = authentication;
        }
        self.terms.lay_over(identity, hub).await
    }
}
