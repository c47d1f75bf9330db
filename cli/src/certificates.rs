//! `azimuth certs` and `azimuth trust`: the CA, its files, and how programs are made to trust it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use azimuth_certs::{
    Authority, KeyChoice, KeyKind, Renewal, ServerIdentity, ServerNames, Thumbprint, TrustFiles,
    bundle, c_header, trust_rows,
};
use azimuth_clock::{Clock, SystemClock};
use clap::{Args, Subcommand, ValueEnum};

use crate::config::{Config, ServerKey};
use crate::hierarchy::Hierarchy;

/// Shows the CA, making it first where there is none, issues a server certificate, or makes a hierarchy of
/// your own for X.509 devices.
#[derive(Debug, Args)]
pub struct Certs {
    #[command(subcommand)]
    command: Option<CertsCommand>,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Show the CA: its file, its thumbprints (the default)
    Show,
    /// Issue a server certificate for names and addresses, for a server of yours beside the simulator
    Server {
        /// Host name or IP address; repeatable
        #[arg(long = "name", required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Kind of key
        #[arg(long, value_enum, default_value_t = Kind::P256)]
        key: Kind,
        /// Writes OUT.pem and OUT.key
        #[arg(long, default_value = "server", value_name = "OUT")]
        out: PathBuf,
    },
    #[command(flatten)]
    Hierarchy(Hierarchy),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    P256,
    Rsa2048,
    Rsa3072,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::P256,
            Kind::Rsa2048 => Self::Rsa2048,
            Kind::Rsa3072 => Self::Rsa3072,
        }
    }
}

/// Writes the CA in every form to a folder and says what each SDK and tool needs.
#[derive(Debug, Args)]
pub struct Trust {
    /// Only this runtime: python, node, c, dotnet, java, mosquitto, curl, go, debian, board …
    #[arg(value_name = "RUNTIME")]
    runtime: Option<String>,
    /// Folder for ca.der, bundle.pem and azimuth_ca.h [default: certs in the data folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// The CA, made on first use, with the files beside it that clients are given.
pub fn authority(config: &Config) -> anyhow::Result<Authority> {
    let folder = config.certs_folder();
    make_folder(&folder)?;
    let authority = Authority::load_or_create(&folder, SystemClock.utc())?;
    let public = public_folder(config);
    make_folder(&public)?;
    // Services that start together share the folder.
    let _writing = crate::paste::lock(&public)?;
    let text = bundle(&system_roots(), authority.certificate_pem());
    write_if_changed(&bundle_file(config), text.as_bytes())?;
    if public != folder {
        write_if_changed(&ca_file(config), authority.certificate_pem().as_bytes())?;
    }
    Ok(authority)
}

/// What clients may read: the CA's folder holds its key, so where services share a folder to be found, the
/// certificate is there and the key is not.
fn public_folder(config: &Config) -> PathBuf {
    config
        .connect
        .clone()
        .unwrap_or_else(|| config.certs_folder())
}

/// The CA alone.
pub fn ca_file(config: &Config) -> PathBuf {
    public_folder(config).join("ca.pem")
}

/// The system's roots and ours in one file, which `SSL_CERT_FILE` may name.
pub fn bundle_file(config: &Config) -> PathBuf {
    public_folder(config).join("bundle.pem")
}

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))
}

/// A TLS server's configuration for these names, its certificates kept in `folder`.
pub fn server(
    config: &Config,
    authority: &Authority,
    folder: &Path,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
) -> anyhow::Result<rustls::ServerConfig> {
    make_folder(folder)?;
    let identity = ServerIdentity::load_or_issue(
        folder,
        authority,
        &ServerNames { dns, ips },
        SystemClock.utc(),
    )?;
    if let Some(Renewal::AnotherAuthority { issuer }) = identity.renewed() {
        tracing::warn!("{}", another_authority(folder, issuer, authority));
    }
    let choice = match config.security.server_key {
        ServerKey::Auto => KeyChoice::Auto,
        ServerKey::Rsa => KeyChoice::Rsa,
        ServerKey::Ecdsa => KeyChoice::Ecdsa,
    };
    Ok(identity.rustls_config(choice, config.security.resumption)?)
}

/// A data folder that came from elsewhere without its CA, or whose CA was made anew.
fn another_authority(folder: &Path, issuer: &str, authority: &Authority) -> String {
    let thumbprint = Thumbprint::sha256(authority.certificate_der()).to_string();
    let short: String = thumbprint.chars().take(8).collect();
    format!(
        "the certificate in {} was issued by another CA ({issuer}); a new one was made under the CA {short}… (SHA-256). \
         Clients that were given the old CA file must be given {}",
        absolute(folder).display(),
        absolute(&authority.path()).display()
    )
}

impl Certs {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let command = match self.command.unwrap_or(CertsCommand::Show) {
            CertsCommand::Hierarchy(hierarchy) => return hierarchy.run(),
            command => command,
        };
        let authority = authority(&config)?;
        match command {
            CertsCommand::Show | CertsCommand::Hierarchy(_) => show(&authority),
            CertsCommand::Server { names, key, out } => {
                let (mut dns, mut ips) = (Vec::new(), Vec::new());
                for name in names {
                    match name.parse() {
                        Ok(ip) => ips.push(ip),
                        Err(_) => dns.push(name),
                    }
                }
                let names = ServerNames { dns, ips };
                let leaf = authority.issue_server(&names, key.into(), SystemClock.utc())?;
                let (pem, key) = (out.with_extension("pem"), out.with_extension("key"));
                fs::write(&pem, &leaf.chain_pem)
                    .with_context(|| format!("{} cannot be written", pem.display()))?;
                write_private(&key, leaf.key_pem.as_bytes())?;
                println!(
                    "Certificate  {}\nKey          {}",
                    pem.display(),
                    key.display()
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(authority: &Authority) {
    let der = authority.certificate_der();
    println!("CA file   {}", absolute(&authority.path()).display());
    println!("SHA-1     {}", Thumbprint::sha1(der));
    println!("SHA-256   {}", Thumbprint::sha256(der));
}

impl Trust {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let authority = authority(&config)?;
        let out = self.out.unwrap_or_else(|| public_folder(&config));
        make_folder(&out)?;
        let file = |name: &str| absolute(&out).join(name).display().to_string();
        let files = TrustFiles {
            pem: absolute(&authority.path()).display().to_string(),
            der: file("ca.der"),
            bundle: file("bundle.pem"),
            header: file("azimuth_ca.h"),
        };
        write_if_changed(Path::new(&files.der), &authority.export_der())?;
        let text = bundle(&system_roots(), authority.certificate_pem());
        write_if_changed(Path::new(&files.bundle), text.as_bytes())?;
        write_if_changed(
            Path::new(&files.header),
            c_header(authority.certificate_pem(), "azimuth_ca").as_bytes(),
        )?;
        let rows = trust_rows(&files);
        let wanted: Vec<_> = rows
            .iter()
            .filter(|row| self.runtime.as_ref().is_none_or(|name| row.name == name))
            .collect();
        if wanted.is_empty() {
            let names: Vec<_> = rows.iter().map(|row| row.name).collect();
            anyhow::bail!("no such runtime; known: {}", names.join(", "));
        }
        for row in wanted {
            println!("{} ({})", row.title, row.name);
            row.shell.iter().for_each(|line| println!("    $ {line}"));
            row.code.iter().for_each(|line| println!("    {line}"));
            if !row.note.is_empty() {
                println!("    {}", row.note);
            }
            println!();
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A path that means the same from any folder.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn system_roots() -> String {
    fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default()
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

pub fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("{} cannot be written", path.display()))
}
