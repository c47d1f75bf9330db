//! An export: every identity with its twin, a line each, devices and then modules, in the order of their ids.
//!
//! Each page is one moment of the registry; nobody who writes waits for it. May not enter: what a line looks like.

use tokio_util::sync::CancellationToken;

use super::desk::Jobs;
use super::export_line::{self, KEYS_ARE_LEFT_OUT};
use super::record::Progress;
use super::work::{Stopped, Target, failed, unless_cancelled};
use crate::error::Error;
use crate::registry::Collection;

pub async fn run(
    jobs: &Jobs,
    output: &Target,
    exclude_keys: bool,
    cancel: &CancellationToken,
    progress: impl Fn(Progress),
) -> Result<(), Stopped> {
    let writer = output.container.write(&output.blob);
    let mut writer = writer.map_err(|failure| failed(FAILED, &failure))?;
    let mut lines = Vec::new();
    if exclude_keys {
        lines.extend_from_slice(KEYS_ARE_LEFT_OUT.as_bytes());
        lines.push(b'\n');
    }
    let expected = jobs.registry.statistics().total_device_count;
    let mut done = 0;
    // Devices first: whoever imports needs them before their modules.
    for collection in [Collection::Devices, Collection::Modules] {
        let mut after = None;
        loop {
            let page = jobs.registry.page(collection, after.as_ref(), PAGE);
            let page = page.map_err(unread)?;
            for pair in &page.pairs {
                let twin = jobs.registry.twin_of(pair).map_err(unread)?;
                export_line::write(&pair.identity, &twin, exclude_keys, &mut lines)
                    .map_err(|error| unread(error.into()))?;
            }
            done += page.pairs.len() as u64;
            unless_cancelled(cancel, FAILED, writer.add(&lines)).await?;
            lines.clear();
            progress(Progress::of(done, expected, done));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    unless_cancelled(cancel, FAILED, writer.finish()).await
}

/// This hub has none.
pub async fn no_configurations(
    output: &Target,
    blob: String,
    cancel: &CancellationToken,
) -> Result<(), Stopped> {
    let written = async { output.container.write(&blob)?.finish().await };
    unless_cancelled(cancel, FAILED, written).await
}

fn unread(error: Error) -> Stopped {
    tracing::error!(error = &error as &dyn std::error::Error, "an export failed");
    Stopped::Failed(error.to_string())
}

/// Identities of one page.
const PAGE: usize = 500;

const FAILED: &str = "the output blob could not be written";
