//! `azimuth certs root|intermediate|leaf|verification`: a hierarchy of one's own, to try X.509 out with.
//!
//! The CA of the simulator has no part in it. What may not enter: what makes a certificate good.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use azimuth_certs::{Made, Signer, VerificationCode, Wish, root, self_signed_leaf};
use azimuth_clock::{Clock, SystemClock};
use clap::{Args, Subcommand};

use crate::certificates::{Kind, write_private};

#[derive(Debug, Subcommand)]
pub enum Hierarchy {
    /// Make a root CA of your own, to add to the CA certificates of a DPS
    Root {
        #[command(flatten)]
        wish: Words,
    },
    /// Make an intermediate CA, to stand between a root and devices
    Intermediate {
        #[command(flatten)]
        wish: Words,
        /// The CA that signs: ISSUER.pem and ISSUER.key, with ISSUER.chain.pem if it is an intermediate one
        #[arg(long, value_name = "ISSUER")]
        issuer: PathBuf,
        /// How many more CAs may stand below it [default: any number]
        #[arg(long, value_name = "N")]
        path_length: Option<u8>,
    },
    /// Make a device's certificate; NAME is its registration id
    ///
    /// A device uses OUT.chain.pem, which holds its certificate and the intermediate ones, and OUT.key.
    Leaf {
        #[command(flatten)]
        wish: Words,
        /// The CA that signs; without one the certificate signs itself, for an individual enrollment
        #[arg(long, value_name = "ISSUER")]
        issuer: Option<PathBuf>,
    },
    /// Sign the verification code of a DPS, which proves that you hold the key of a CA
    Verification {
        /// 48 hexadecimal digits, as the DPS generated them
        #[arg(value_name = "CODE")]
        code: VerificationCode,
        /// The CA whose key is proven: ISSUER.pem and ISSUER.key
        #[arg(long, value_name = "ISSUER")]
        issuer: PathBuf,
        /// Writes OUT.pem and OUT.key
        #[arg(long, default_value = "verification", value_name = "OUT")]
        out: PathBuf,
    },
}

/// What is asked of any new certificate.
#[derive(Debug, Args)]
pub struct Words {
    /// Common name
    #[arg(value_name = "NAME")]
    name: String,
    /// Kind of key
    #[arg(long, value_enum, default_value_t = Kind::P256)]
    key: Kind,
    /// Days it is valid, at most as long as its issuer; 0 makes one that has just expired
    #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(0..=9000))]
    days: u32,
    /// Writes OUT.pem, OUT.key and, below a root, OUT.chain.pem [default: the name]
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
}

impl Hierarchy {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let now = SystemClock.utc();
        let (made, out) = match self {
            Self::Root { wish } => (root(wish.at(now))?, wish.out()),
            Self::Intermediate {
                wish,
                issuer,
                path_length,
            } => {
                let made = signer(&issuer, now)?.intermediate(wish.at(now), path_length)?;
                (made, wish.out())
            }
            Self::Leaf { wish, issuer } => {
                let made = match issuer {
                    Some(issuer) => signer(&issuer, now)?.leaf(wish.at(now))?,
                    None => self_signed_leaf(wish.at(now))?,
                };
                (made, wish.out())
            }
            Self::Verification { code, issuer, out } => {
                let mut made = signer(&issuer, now)?.proof(&code, Kind::P256.into(), now)?;
                made.chain_pem.clear();
                (made, out)
            }
        };
        write(&made, &out)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Words {
    fn at(&self, now: SystemTime) -> Wish<'_> {
        Wish {
            common_name: &self.name,
            key: self.key.into(),
            days: self.days,
            now,
        }
    }

    fn out(&self) -> PathBuf {
        let out = self.out.clone();
        out.unwrap_or_else(|| PathBuf::from(self.name.replace('/', "_")))
    }
}

/// A CA by the stem of its files.
pub fn signer(issuer: &Path, now: SystemTime) -> anyhow::Result<Signer> {
    let read = |ending| {
        let path = file(issuer, ending);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    };
    // A root has none.
    let chain = fs::read_to_string(file(issuer, "chain.pem")).unwrap_or_default();
    let signer = Signer::read(&read("pem")?, &read("key")?, &chain, now);
    signer.with_context(|| format!("{} cannot sign", issuer.display()))
}

fn write(made: &Made, out: &Path) -> anyhow::Result<()> {
    let (pem, key, chain) = (file(out, "pem"), file(out, "key"), file(out, "chain.pem"));
    let put = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    put(&pem, &made.certificate_pem)?;
    write_private(&key, made.key_pem.as_bytes())?;
    println!("Certificate  {}", pem.display());
    if !made.chain_pem.is_empty() {
        put(&chain, &made.chain_pem)?;
        println!("Chain        {}", chain.display());
    }
    println!("Key          {}", key.display());
    println!("SHA-256      {}", made.certificate()?.sha256());
    Ok(())
}

/// Ids may hold dots, so an ending is put behind and replaces nothing.
fn file(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
