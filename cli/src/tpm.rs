//! `azimuth tpm`: TPMs of software, a file each, for simulated devices to register with.
//!
//! The file's name is the registration id. What may not enter: what a TPM does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use azimuth_tpm::SoftwareTpm;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use crate::certificates::write_private;

/// Makes TPMs of software, to try TPM attestation with.
///
/// They keep nothing from who reads their files: never use one for a device that matters.
#[derive(Debug, Args)]
pub struct Tpm {
    #[command(subcommand)]
    command: TpmCommand,
}

#[derive(Debug, Subcommand)]
enum TpmCommand {
    /// Make TPMs, and say how each is enrolled
    Create {
        /// Where their files go: ID.pem for the registration id ID
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// How many
        #[arg(long, short = 'n', default_value_t = 1, value_name = "N",
              value_parser = clap::value_parser!(u64).range(1..=10_000))]
        count: u64,
    },
}

impl Tpm {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let TpmCommand::Create { folder, count } = self.command;
        fs::create_dir_all(&folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        for _ in 0..count {
            create(&folder)?;
        }
        println!(
            "\nThen: azimuth device-sim --tpm {}",
            folder.to_string_lossy()
        );
        Ok(ExitCode::SUCCESS)
    }
}

fn create(folder: &Path) -> anyhow::Result<()> {
    let tpm = SoftwareTpm::generate()?;
    let id = tpm.endorsement_key().registration_id();
    let key = STANDARD.encode(tpm.endorsement_key().bytes());
    let pem: String = tpm.to_pkcs8()?.iter().map(|der| pem(der)).collect();
    write_private(&folder.join(format!("{id}.pem")), pem.as_bytes())?;
    println!("azimuth dps enrollment create {id} --endorsement-key {key}");
    Ok(())
}

/// The TPMs of a folder, each with its registration id, in the order of their ids.
pub fn read_all(folder: &Path) -> anyhow::Result<Vec<(String, Arc<SoftwareTpm>)>> {
    let unreadable = || format!("the folder of TPMs {} cannot be read", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        let id = path.file_stem().and_then(|stem| stem.to_str());
        if let (Some(id), true) = (id, path.extension().is_some_and(|end| end == "pem")) {
            found.push((id.to_owned(), Arc::new(read(&path)?)));
        }
    }
    if found.is_empty() {
        let folder = folder.display();
        bail!("{folder} holds no TPM; make one with `azimuth tpm create --folder {folder}`");
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<SoftwareTpm> {
    let what = || {
        format!(
            "{} is not a TPM that `azimuth tpm create` made",
            path.display()
        )
    };
    let text = fs::read(path).with_context(what)?;
    let keys: Result<Vec<_>, _> = PrivatePkcs8KeyDer::pem_slice_iter(&text).collect();
    let keys = keys.with_context(what)?;
    let [endorsement, storage_root] = keys.as_slice() else {
        bail!(what());
    };
    let tpm = SoftwareTpm::from_pkcs8(
        endorsement.secret_pkcs8_der(),
        storage_root.secret_pkcs8_der(),
    );
    tpm.with_context(what)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body: Vec<_> = lines.collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        body.join("\n")
    )
}
