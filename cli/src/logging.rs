//! The log: text on a terminal, JSON elsewhere, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What says how far a fleet is, in a log without a terminal: shown without being asked for.
pub const PROGRESS: &str = "progress";

/// Starts the log. An unusable filter falls back to the default, with a word about it.
pub fn start(filter: Option<&str>) {
    let usual = format!("warn,{PROGRESS}=info");
    let text = filter.unwrap_or(&usual);
    let (filter, unusable) = match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(&usual), Some(error)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().init();
    }
    if let Some(error) = unusable {
        tracing::warn!(%error, "the log filter `{text}` is not usable");
    }
}
