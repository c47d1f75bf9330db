//! Devices with certificates, out of files: who they are and what they show.
//!
//! What may not enter: whom a DPS lets in.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use azimuth_certs::{Certificate, client_certificate};
use rustls::client::ResolvesClientCert;

/// Devices by the common names of their certificates, which are their registration ids.
#[derive(Debug, Default)]
pub struct Leaves {
    pub names: Vec<String>,
    /// In the same order.
    pub certificates: Vec<Arc<dyn ResolvesClientCert>>,
}

impl Leaves {
    /// One device: its certificate with those above it, leaf first, and its key.
    pub fn one(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let mut leaves = Self::default();
        leaves.add(chain, &read(chain)?, key)?;
        Ok(leaves)
    }

    /// Every NAME.chain.pem that has a NAME.key beside it, as `azimuth certs leaf` writes them; those of CAs are
    /// passed over.
    pub fn folder(folder: &Path) -> anyhow::Result<Self> {
        let unreadable = || format!("the folder {} cannot be read", folder.display());
        let files = fs::read_dir(folder).with_context(unreadable)?;
        let files = files.map(|file| file.map(|file| file.path()));
        let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>().with_context(unreadable)?;
        files.sort();
        let mut leaves = Self::default();
        for chain in files {
            let Some(key) = key_beside(&chain).filter(|key| key.exists()) else {
                continue;
            };
            let text = read(&chain)?;
            if !leaf(&chain, &text)?.is_authority() {
                leaves.add(&chain, &text, &key)?;
            }
        }
        if leaves.names.is_empty() {
            bail!(
                "{} holds no NAME.chain.pem of a device with a NAME.key beside it; make some with `azimuth certs leaf NAME --out {}`",
                folder.display(),
                folder.join("NAME").display()
            );
        }
        Ok(leaves)
    }

    fn add(&mut self, chain: &Path, text: &str, key: &Path) -> anyhow::Result<()> {
        let leaf = leaf(chain, text)?;
        let name = leaf.common_name();
        let name = name.with_context(|| {
            format!(
                "the certificate in {} has no common name, so it is no device's",
                chain.display()
            )
        })?;
        let shown = client_certificate(text, &read(key)?)
            .with_context(|| format!("{} and {} cannot be used", chain.display(), key.display()))?;
        self.names.push(name.to_owned());
        self.certificates.push(shown);
        Ok(())
    }
}

fn key_beside(chain: &Path) -> Option<PathBuf> {
    let stem = chain
        .file_name()
        .and_then(OsStr::to_str)?
        .strip_suffix(".chain.pem")?;
    Some(chain.with_file_name(format!("{stem}.key")))
}

fn leaf(chain: &Path, text: &str) -> anyhow::Result<Certificate> {
    let leaf = Certificate::read_first(text.as_bytes());
    leaf.with_context(|| format!("{} holds no certificate", chain.display()))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, SystemTime};

    use azimuth_certs::{KeyKind, Made, Signer, Wish, root};

    use super::*;

    fn wish(name: &str) -> Wish<'_> {
        Wish {
            common_name: name,
            key: KeyKind::P256,
            days: 1,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000),
        }
    }

    fn write(folder: &Path, stem: &str, made: &Made) {
        fs::write(folder.join(format!("{stem}.chain.pem")), &made.chain_pem).unwrap();
        fs::write(folder.join(format!("{stem}.key")), &made.key_pem).unwrap();
    }

    #[test]
    fn a_folder_is_a_fleet_of_the_leaves_in_it() {
        let folder = std::env::temp_dir().join(format!("azimuth-leaves-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let empty = Leaves::folder(&folder).unwrap_err().to_string();
        assert!(empty.contains("azimuth certs leaf"), "{empty}");

        let now = wish("").now;
        let root = Signer::of(&root(wish("r")).unwrap(), now).unwrap();
        let line = root.intermediate(wish("line"), None).unwrap();
        let signer = Signer::of(&line, now).unwrap();
        write(&folder, "line", &line);
        write(&folder, "b.2", &signer.leaf(wish("pump-2")).unwrap());
        write(&folder, "a", &signer.leaf(wish("pump-1")).unwrap());
        fs::write(folder.join("lonely.chain.pem"), "no key beside it").unwrap();
        let leaves = Leaves::folder(&folder).unwrap();
        assert_eq!(leaves.names, ["pump-1", "pump-2"]);
        assert_eq!(leaves.certificates.len(), 2);

        let (chain, other) = (folder.join("a.chain.pem"), folder.join("b.2.key"));
        let error = Leaves::one(&chain, &other).unwrap_err();
        assert!(format!("{error:#}").contains("cannot be used"), "{error:#}");
        assert_eq!(
            Leaves::one(&chain, &folder.join("a.key")).unwrap().names,
            ["pump-1"]
        );
        fs::remove_dir_all(folder).unwrap();
    }
}
