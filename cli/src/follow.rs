//! `azimuth events` and `azimuth why`: line streams of a service, over authenticated HTTPS.
//!
//! What may not enter: what a line means beyond how it is shown.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, bail};
use azimuth_monitor::Lines;
use azimuth_wire::connection_string::ConnectionString;
use azimuth_wire::time;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::config::Config;
use crate::dps;
use crate::endpoint::Endpoint;
use crate::paste::Paste;

/// Follows the telemetry of a hub: each message with its properties, as lines or JSON.
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    at: Target,
    /// Only messages of this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<u16>,
    /// `now`, `start`, `sequence:N`, `offset:N` or `time:2026-01-01T00:00:00Z`
    #[arg(long, default_value = "now", value_name = "POSITION")]
    from: String,
    /// Stop at the newest message instead of waiting for more
    #[arg(long)]
    once: bool,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object a line, whole
    #[arg(long)]
    json: bool,
}

/// Shows refusals: who, what, by which rule, and the arithmetic behind it.
#[derive(Debug, Args)]
pub struct Why {
    #[command(flatten)]
    at: Target,
    /// Which service's refusals
    #[arg(long, value_enum, default_value_t = Service::All)]
    service: Service,
    /// Only those that concern this client, device or registration
    #[arg(value_name = "WHO")]
    who: Option<String>,
    /// Instead: why this registration got the hub it has, or none, step by step
    #[arg(long, value_name = "ID", conflicts_with_all = ["who", "follow", "service"])]
    registration: Option<String>,
    /// Connection string of the DPS, with --registration, instead of what the data folder knows
    #[arg(
        long,
        env = "AZIMUTH_DPS_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING"
    )]
    dps_connection_string: Option<String>,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a line, whole
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    All,
    Hub,
    Dps,
}

/// Which service is asked.
#[derive(Debug, Args)]
pub struct Target {
    /// Hub by name, host name or address [default: the first, or all where several can be asked]
    #[arg(long, global = true, env = "AZIMUTH_HUB", value_name = "HUB")]
    hub: Option<String>,
    /// A policy's connection string instead of what the data folder knows
    #[arg(
        long,
        global = true,
        env = "IOTHUB_CONNECTION_STRING",
        hide_env_values = true,
        value_name = "STRING"
    )]
    connection_string: Option<String>,
    /// CA file, with --connection-string
    #[arg(long, global = true, env = "SSL_CERT_FILE", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Events {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        let endpoint = self.at.hub(&config)?;
        let from = match self.from.as_str() {
            "now" => "latest",
            "start" => "earliest",
            position => position,
        };
        let mut query = vec![
            ("from", from.to_owned()),
            ("follow", (!self.once).to_string()),
        ];
        query.extend(self.device.map(|device| ("deviceId", device)));
        query.extend(
            self.partition
                .map(|partition| ("partition", partition.to_string())),
        );
        let mut left = self.count.unwrap_or(u64::MAX);
        run(async move {
            let show = |line: &str| {
                print_line(if self.json {
                    line.to_owned()
                } else {
                    event_line(line)
                })?;
                left -= 1;
                Ok(left > 0)
            };
            follow(&endpoint, "/azimuth/events", &query, show).await
        })
    }
}

impl Why {
    pub fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        if let Some(id) = &self.registration {
            let target = dps::Target::new(self.dps_connection_string, self.at.ca);
            let work = async { print_line(dps::explained(&target, &config, id, self.json).await?) };
            return run(work);
        }
        let endpoints = self.endpoints(&config)?;
        let several = endpoints.len() > 1;
        let shown = move |endpoint: &Endpoint, line: &str| {
            let label = if several { endpoint.label.as_str() } else { "" };
            if self.json {
                line.to_owned()
            } else {
                refusal_lines(label, line)
            }
        };
        let wanted = move |line: &str| {
            self.who
                .as_ref()
                .is_none_or(|who| line.contains(who.as_str()))
        };
        if !self.follow {
            return run(past(endpoints, wanted, shown));
        }
        let (wanted, shown) = (Rc::new(wanted), Rc::new(shown));
        run(async move {
            let mut tasks = tokio::task::JoinSet::new();
            for endpoint in endpoints {
                let (wanted, shown) = (wanted.clone(), shown.clone());
                tasks.spawn_local(async move {
                    let query = [("after", "0".to_owned()), ("follow", "true".to_owned())];
                    let show = |line: &str| {
                        if wanted(line) {
                            print_line(shown(&endpoint, line))?;
                        }
                        Ok(true)
                    };
                    follow(&endpoint, REFUSALS, &query, show).await
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(())
        })
    }

    fn endpoints(&self, config: &Config) -> anyhow::Result<Vec<Endpoint>> {
        if self.at.one() {
            return Ok(vec![self.at.hub(config)?]);
        }
        let paste = Paste::load(config.connect_folder())?;
        let mut endpoints = Vec::new();
        if let Some(dps) = paste.dps.as_ref().filter(|_| self.service != Service::Hub) {
            endpoints.push(Endpoint::dps(&paste, dps)?);
        }
        if self.service != Service::Dps {
            endpoints.extend(hubs(&paste)?);
        }
        if endpoints.is_empty() {
            bail!("no such service runs from this data folder");
        }
        Ok(endpoints)
    }
}

impl Target {
    /// The hub that is named, or all that the data folder knows.
    pub fn hubs(&self, config: &Config) -> anyhow::Result<Vec<Endpoint>> {
        if self.one() {
            return Ok(vec![self.hub(config)?]);
        }
        let hubs = hubs(&Paste::load(config.connect_folder())?)?;
        if hubs.is_empty() {
            bail!("no hub runs from this data folder");
        }
        Ok(hubs)
    }

    fn one(&self) -> bool {
        self.connection_string.is_some() || self.hub.is_some()
    }

    pub fn hub(&self, config: &Config) -> anyhow::Result<Endpoint> {
        if let (Some(string), None) = (&self.connection_string, &self.hub) {
            let string: ConnectionString = string
                .parse()
                .context("the connection string is not usable")?;
            let ca_file = self
                .ca
                .clone()
                .context("--connection-string needs --ca, the file of the CA to trust")?;
            let label = string.host_name.clone();
            return Ok(Endpoint {
                label,
                string,
                address: None,
                otherwise: None,
                port: config.ports.https,
                ca_file,
            });
        }
        let paste = Paste::load(config.connect_folder())?;
        let hub = paste.hub(self.hub.as_deref())?;
        Endpoint::hub(&paste, hub)
    }
}

/// The hubs that somebody started.
pub fn hubs(paste: &Paste) -> anyhow::Result<Vec<Endpoint>> {
    let hubs = paste.hubs.iter();
    hubs.map(|hub| Endpoint::hub(paste, hub)).collect()
}

const REFUSALS: &str = "/azimuth/refusals";

/// What was refused so far, of all services in the order it happened.
async fn past(
    endpoints: Vec<Endpoint>,
    wanted: impl Fn(&str) -> bool,
    shown: impl Fn(&Endpoint, &str) -> String,
) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for endpoint in &endpoints {
        let query = [("after", "0".to_owned()), ("follow", "false".to_owned())];
        let keep = |line: &str| {
            if wanted(line) {
                let record: Value = serde_json::from_str(line)?;
                let at: time::Timestamp = serde_json::from_value(record["at"].clone())?;
                lines.push((at, shown(endpoint, line)));
            }
            Ok(true)
        };
        follow(endpoint, REFUSALS, &query, keep).await?;
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().try_for_each(|(_, line)| print_line(line))
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let work = async {
        tokio::select! {
            done = work => done,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    };
    match local.block_on(&runtime, work) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The reader of a pipe has had enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Asks and hands each line to `show` until it says false or the service ends the answer.
pub async fn follow(
    endpoint: &Endpoint,
    path: &str,
    query: &[(&str, String)],
    mut show: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut response = endpoint.get(path, query).await?;
    if !response.status().is_success() {
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        bail!("{} answered {status}: {body}", endpoint.label);
    }
    let mut lines = Lines::default();
    while let Some(chunk) = response.chunk().await.context("the stream broke")? {
        if !lines.feed(&chunk, &mut show)? {
            return Ok(());
        }
    }
    Ok(())
}

/// A line that somebody reads, or an error: who pipes into `head` reads no further.
pub fn print_line(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// `time  partition/sequence  device  {properties}  body`.
fn event_line(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        return line.into();
    };
    if let Some(skipped) = event.get("skipped") {
        return format!(
            "… {skipped} messages were dropped by retention before they could be shown"
        );
    }
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), ToOwned::to_owned)
    };
    let system = &event["systemProperties"];
    let body = match &event["body"] {
        Value::Null => format!("base64:{}", text(&event["bodyBase64"])),
        body => text(body),
    };
    let mut line = format!(
        "{}  {}/{}  {}",
        text(&event["enqueuedTimeUtc"]),
        text(&event["partition"]),
        text(&event["sequenceNumber"]),
        text(&system["iothub-connection-device-id"]),
    );
    for shown in [
        "message-id",
        "correlation-id",
        "content-type",
        "content-encoding",
    ] {
        if let Some(value) = system.get(shown) {
            line.push_str(&format!("  {shown}={}", text(value)));
        }
    }
    for (name, value) in event["properties"].as_object().into_iter().flatten() {
        line.push_str(&format!("  {name}={}", text(value)));
    }
    line + "  " + &body
}

/// A sentence, and under it the arithmetic.
fn refusal_lines(label: &str, line: &str) -> String {
    let Ok(record) = serde_json::from_str::<Value>(line) else {
        return line.into();
    };
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let who = record["who"].as_str().unwrap_or("an unknown client");
    let mut lines = format!(
        "{}  {label}{}{} of {who} refused ({}): {}\n    rule {}",
        text("at"),
        if label.is_empty() { "" } else { "  " },
        text("operation"),
        text("answer"),
        text("sentence"),
        text("kind"),
    );
    if let Some(remote) = record["remote"].as_str() {
        lines.push_str(&format!("  from {remote}"));
    }
    for (name, value) in record["facts"].as_object().into_iter().flatten() {
        lines.push_str(&format!(
            "\n    {name}: {}",
            value.as_str().unwrap_or_default().replace('\n', "\\n")
        ));
    }
    lines
}
