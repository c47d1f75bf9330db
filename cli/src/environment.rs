//! `azimuth env`: the environment block for an SDK.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::config::Config;
use crate::paste::{Form, Paste};

/// `eval "$(azimuth env)"` in a shell, then run any official sample.
#[derive(Debug, Args)]
pub struct Env {
    /// Registration id whose key is derived; a device of this name is provisioned by its first run
    #[arg(long, default_value = "contoso-simdevice-east", value_name = "ID")]
    device: String,
    /// Hub whose connection strings are printed, by name or address [default: the first]
    #[arg(long, value_name = "HUB")]
    hub: Option<String>,
    /// Names instead of addresses, for a device to whom the names lead here: in a container, or with DNS
    #[arg(long)]
    names: bool,
    /// The block also writes the CA and the system's roots to this file, where it is evaluated: for
    /// machines that do not see the simulator's folders
    #[arg(long, env = "AZIMUTH_ENV_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl Env {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let paste = Paste::load(config.connect_folder())?;
        let form = if self.names {
            Form::Name
        } else {
            Form::Address
        };
        let bundle = match &self.ca_file {
            None => format!("'{}'", paste.ca_bundle.display()),
            Some(file) => {
                let pem = fs::read_to_string(&paste.ca_file).with_context(|| {
                    format!("the CA file {} cannot be read", paste.ca_file.display())
                })?;
                print!("{}", write_bundle(&file.display().to_string(), &pem));
                match file.is_absolute() {
                    true => format!("'{}'", file.display()),
                    false => format!("\"$PWD\"'/{}'", file.display()),
                }
            }
        };
        let hub = paste.hub(self.hub.as_deref())?;
        print!("{}", paste.environment(&self.device, hub, form, &bundle));
        Ok(ExitCode::SUCCESS)
    }
}

/// Shell words that put the system's roots and the CA into a file.
fn write_bundle(file: &str, pem: &str) -> String {
    let pem = pem.trim_end();
    format!(
        "{{ cat /etc/ssl/certs/ca-certificates.crt 2>/dev/null; cat <<'PEM'\n{pem}\nPEM\n}} > '{file}'\n"
    )
}
