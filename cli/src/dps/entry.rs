//! What `azimuth dps enrollment` and `azimuth dps group` have in common: records by id, made out of flags.
//!
//! What may not enter: what only one of the two has; rules about enrollments, which the DPS has.

use anyhow::bail;
use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::attestation::{self, Proof};
use super::path;
use super::terms::{Terms, writable};
use crate::ask::Ask;
use crate::endpoint::Open;
use crate::listing::cell;

/// One of the two kinds of records.
pub struct Kind {
    /// As people and commands call it.
    pub noun: &'static str,
    pub collection: &'static str,
    /// The member that holds its id.
    pub id: &'static str,
    /// What people are shown of one, in this order.
    pub members: &'static [&'static str],
    /// What to do where one is not there.
    pub missing: &'static str,
    /// What to do next about the keys of one.
    pub keys: fn(&str) -> String,
}

/// Names one.
#[derive(Debug, Args)]
pub struct Named {
    /// Registration id of an individual enrollment, id of a group
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    named: Named,
    /// With its symmetric keys
    #[arg(long)]
    show_keys: bool,
    /// As JSON, whole
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// As JSON, whole but for the keys
    #[arg(long)]
    pub json: bool,
}

/// What is the same whether one is made or changed.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    terms: Terms,
    /// Print it as JSON, with its keys
    #[arg(long)]
    json: bool,
}

/// What only one of the two kinds has, laid over a record.
type Own<'a> = &'a dyn Fn(&mut Value) -> anyhow::Result<()>;

impl Show {
    pub async fn run(self, kind: &Kind, dps: &Open) -> anyhow::Result<()> {
        let path = path(kind.collection, &self.named.id);
        let record = super::shown(dps, &path, self.show_keys, kind.missing).await?;
        super::print_record(&record, self.json, kind.members)
    }
}

impl Change {
    pub async fn create(
        &self,
        kind: &Kind,
        proof: &impl Proof,
        own: Own<'_>,
        dps: &Open,
    ) -> anyhow::Result<()> {
        let id = &self.named.id;
        let mut record = json!({ (kind.id): id, "attestation": null });
        let hubs = self.terms.hubs(dps).await?;
        self.lay_over(&mut record, proof, own, &hubs)?;
        let hint = format!(
            "Change it with `azimuth dps {} update {id}`, or delete it first.",
            kind.noun
        );
        let path = path(kind.collection, id);
        let answer = Ask::new(Method::PUT, &path)
            .body(record)
            .hints(&[(StatusCode::CONFLICT, &hint)])
            .of(dps)
            .await?;
        self.told("created", kind, &answer.body)
    }

    pub async fn update(
        &self,
        kind: &Kind,
        proof: &impl Proof,
        own: Own<'_>,
        dps: &Open,
    ) -> anyhow::Result<()> {
        if self.is_silent(proof, own) {
            let noun = kind.noun;
            bail!("say what to change; `azimuth dps {noun} update --help` lists what can be");
        }
        let path = path(kind.collection, &self.named.id);
        let hints = [(StatusCode::NOT_FOUND, kind.missing)];
        let found = Ask::get(&path).hints(&hints).of(dps).await?;
        let mut record = writable(found.body);
        let hubs = self.terms.hubs(dps).await?;
        self.lay_over(&mut record, proof, own, &hubs)?;
        let answer = super::write_back(dps, &path, record).await?;
        self.told("updated", kind, &answer)
    }

    /// Whether no flag says anything: then nothing is laid over anything.
    fn is_silent(&self, proof: &impl Proof, own: Own<'_>) -> bool {
        let mut record = json!({ "attestation": { "type": "none" } });
        let before = record.clone();
        let laid = self.lay_over(&mut record, proof, own, self.terms.given_hubs());
        laid.is_ok() && record == before
    }

    fn lay_over(
        &self,
        record: &mut Value,
        proof: &impl Proof,
        own: Own<'_>,
        hubs: &[String],
    ) -> anyhow::Result<()> {
        own(record)?;
        self.terms.lay_over(record, hubs)?;
        proof.lay_over(&mut record["attestation"])
    }

    fn told(&self, what: &str, kind: &Kind, record: &Value) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(record)?);
            return Ok(());
        }
        let (noun, id) = (kind.noun, &self.named.id);
        let status = cell(record, "provisioningStatus");
        println!("{what} the {noun} {id} ({status})");
        let attestation = &record["attestation"];
        if attestation["type"] == "symmetricKey" {
            println!("  {}", (kind.keys)(id));
        }
        for (name, said) in attestation::lines(attestation).iter().skip(1) {
            println!("  {}: {said}", name.trim_start());
        }
        Ok(())
    }
}
