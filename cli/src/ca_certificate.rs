//! `azimuth hub certificate` and `azimuth dps certificate`: the CA certificates of a service, and the proof that one
//! holds a CA's key.
//!
//! What may not enter: what proves it; the service decides.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use azimuth_certs::{Certificate, KeyKind, VerificationCode};
use azimuth_clock::{Clock, SystemClock};
use azimuth_wire::percent;
use clap::Subcommand;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ask::{self, Ask};
use crate::endpoint::Open;
use crate::follow::print_line;
use crate::hierarchy::signer;
use crate::listing::{Table, cell};

/// Whose CA certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Hub,
    Dps,
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Upload a CA certificate; it lets nobody in before it is verified
    Upload {
        /// What it is called from now on: letters, digits, `-`, `.` and `_`
        #[arg(value_name = "NAME")]
        name: String,
        /// The certificate, PEM or DER
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Verified at once: nobody has to prove that the key is theirs
        #[arg(long)]
        verified: bool,
    },
    /// List all CA certificates
    List {
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Show one CA certificate
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// As JSON, whole
        #[arg(long)]
        json: bool,
    },
    /// Print a new verification code, to be signed with the CA's key; an older one no longer counts
    VerificationCode {
        /// Name of the CA certificate
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Prove that the CA's key is yours: by a certificate that signs the verification code, or by the key itself
    Verify {
        /// Name of the CA certificate
        #[arg(value_name = "NAME")]
        name: String,
        /// The proof, PEM or DER: a certificate of this CA whose common name is the verification code
        #[arg(
            value_name = "PROOF",
            required_unless_present = "issuer",
            conflicts_with = "issuer"
        )]
        proof: Option<PathBuf>,
        /// Where the key is at hand, all in one step: ISSUER.pem and ISSUER.key. A new code is asked for and signed; the
        /// key stays here
        #[arg(long, value_name = "ISSUER")]
        issuer: Option<PathBuf>,
    },
    /// Delete a CA certificate: nobody comes in by it any more
    Delete {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl Of {
    fn word(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Dps => "dps",
        }
    }

    /// What a deletion means.
    fn after_deletion(self) -> &'static str {
        match self {
            Self::Hub => "nobody connects by it any more, and who is on the line stays there",
            Self::Dps => "nobody comes in by it, and who is in a hub stays there",
        }
    }

    fn missing(self) -> String {
        format!(
            "`azimuth {} certificate list` shows those there are.",
            self.word()
        )
    }
}

impl CaCommand {
    /// Carries it out at the service that `open` opens; a file that is no certificate is no business of it.
    pub async fn run(
        self,
        of: Of,
        open: impl AsyncFnOnce() -> anyhow::Result<Open>,
    ) -> anyhow::Result<ExitCode> {
        let command = self.read()?;
        let service = &Asked {
            of,
            open: open().await?,
        };
        match command {
            Read::Upload(name, certificate, verified) => {
                let body = json!({ "certificate": certificate, "isVerified": verified });
                let hints = [(StatusCode::CONFLICT, TAKEN)];
                let path = path(&name);
                let put = Ask::new(Method::PUT, &path).body(body).hints(&hints);
                let answer = put.of(&service.open).await?.body;
                println!("uploaded {}", described(&answer));
                if !is_verified(&answer) {
                    println!(
                        "  prove that its key is yours: azimuth {} certificate verify {name} --issuer ISSUER",
                        of.word()
                    );
                }
            }
            Read::List { json } => {
                let answer = Ask::get(CERTIFICATES).of(&service.open).await?.body;
                print_all(&answer["value"], json)?;
            }
            Read::Show { name, json } => {
                let answer = service.ask(Method::GET, &path(&name), None).await?;
                match json {
                    true => println!("{}", serde_json::to_string_pretty(&answer)?),
                    false => ask::print_record(&flat(&answer), false, MEMBERS, |_, _| None)?,
                }
            }
            Read::Code(name) => println!("{}", service.code(&name).await?),
            Read::Verify(name, Proof::Signed(proof)) => service.verify(&name, proof).await?,
            Read::Verify(name, Proof::Key(signer)) => {
                let code = service.code(&name).await?;
                let proof = signer.proof(&code, KeyKind::P256, SystemClock.utc())?;
                service.verify(&name, proof.certificate()?.base64()).await?;
            }
            Read::Delete(name) => {
                service.ask(Method::DELETE, &path(&name), None).await?;
                println!("deleted the CA certificate {name}; {}", of.after_deletion());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A command whose files were read.
enum Read {
    Upload(String, String, bool),
    List { json: bool },
    Show { name: String, json: bool },
    Code(String),
    Verify(String, Proof),
    Delete(String),
}

enum Proof {
    /// Base64 of the certificate.
    Signed(String),
    Key(Box<azimuth_certs::Signer>),
}

impl CaCommand {
    fn read(self) -> anyhow::Result<Read> {
        let base64 = |file: &Path| anyhow::Ok(read_certificate(file)?.base64());
        Ok(match self {
            Self::Upload {
                name,
                file,
                verified,
            } => Read::Upload(name, base64(&file)?, verified),
            Self::List { json } => Read::List { json },
            Self::Show { name, json } => Read::Show { name, json },
            Self::VerificationCode { name } => Read::Code(name),
            Self::Verify {
                name,
                proof,
                issuer,
            } => match (proof, issuer) {
                (Some(proof), _) => Read::Verify(name, Proof::Signed(base64(&proof)?)),
                (None, issuer) => {
                    let issuer = issuer.context("give PROOF or --issuer")?;
                    let signer = signer(&issuer, SystemClock.utc())?;
                    Read::Verify(name, Proof::Key(Box::new(signer)))
                }
            },
            Self::Delete { name } => Read::Delete(name),
        })
    }
}

/// A service that runs.
struct Asked {
    of: Of,
    open: Open,
}

impl Asked {
    async fn code(&self, name: &str) -> anyhow::Result<VerificationCode> {
        let path = format!("{}/generateVerificationCode", path(name));
        let answer = self.ask(Method::POST, &path, None).await?;
        let code = answer["properties"]["verificationCode"].as_str();
        let code = code.context("the service answered without a verification code")?;
        code.parse()
            .context("the service answered with what is no verification code")
    }

    async fn verify(&self, name: &str, proof: String) -> anyhow::Result<()> {
        let path = format!("{}/verify", path(name));
        let body = json!({ "certificate": proof });
        let answer = self.ask(Method::POST, &path, Some(body)).await?;
        println!("verified {}", described(&answer));
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let missing = self.of.missing();
        let hints = [(StatusCode::NOT_FOUND, missing.as_str())];
        let mut ask = Ask::new(method, path).hints(&hints);
        if let Some(body) = body {
            ask = ask.body(body);
        }
        Ok(ask.of(&self.open).await?.body)
    }
}

/// The first certificate of a file.
pub fn read_certificate(file: &Path) -> anyhow::Result<Certificate> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Certificate::read_first(&bytes)
        .with_context(|| format!("{} is no certificate in PEM or DER", file.display()))
}

fn path(name: &str) -> String {
    format!("{CERTIFICATES}/{}", percent::encode(name))
}

fn is_verified(answer: &Value) -> bool {
    answer["properties"]["isVerified"] == true
}

fn described(answer: &Value) -> String {
    let verified = match is_verified(answer) {
        true => "verified",
        false => "not verified",
    };
    format!(
        "the CA certificate {} ({}, {verified})",
        cell(answer, "name"),
        cell(&answer["properties"], "subject")
    )
}

/// Its name among its properties.
fn flat(answer: &Value) -> Value {
    let mut flat = answer["properties"].clone();
    flat["name"] = answer["name"].clone();
    flat
}

fn print_all(all: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_line(serde_json::to_string_pretty(all)?);
    }
    let rows: Vec<_> = all.as_array().into_iter().flatten().map(row).collect();
    let lines = Table::of(COLUMNS).lines(&rows);
    lines.iter().try_for_each(print_line)?;
    Ok(())
}

fn row(answer: &Value) -> [String; 5] {
    let properties = &answer["properties"];
    [
        cell(answer, "name"),
        if is_verified(answer) { "yes" } else { "no" }.into(),
        cell(properties, "subject"),
        cell(properties, "expiry"),
        cell(properties, "thumbprint"),
    ]
}

const CERTIFICATES: &str = "/azimuth/certificates";
const COLUMNS: [&str; 5] = ["NAME", "VERIFIED", "SUBJECT", "EXPIRY", "SHA-1"];
const MEMBERS: &[&str] = &[
    "name",
    "subject",
    "isVerified",
    "expiry",
    "thumbprint",
    "created",
    "updated",
];
const TAKEN: &str = "Take another name, or delete that one first.";
