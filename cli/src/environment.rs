//! `azimuth env`: the environment block for an SDK.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::paste::Paste;

/// `eval "$(azimuth env)"` in a shell, then run any official sample.
#[derive(Debug, Args)]
pub struct Env {
    /// Registration id whose key is derived; a device of this name is provisioned by its first run
    #[arg(long, default_value = "contoso-simdevice-east", value_name = "ID")]
    device: String,
    /// Hub whose connection strings are printed, by name or address [default: the first]
    #[arg(long, value_name = "HUB")]
    hub: Option<String>,
}

impl Env {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let paste = Paste::load(&config.data)?;
        print!(
            "{}",
            paste.environment(&self.device, paste.hub(self.hub.as_deref())?)
        );
        Ok(ExitCode::SUCCESS)
    }
}
