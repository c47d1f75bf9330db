//! A job with its containers: found and tried before it is taken on, as Azure does.
//!
//! May not enter: the records of jobs.

use azimuth_wire::job::{BlobPlace, JobBody};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::desk::{JobConfig, Jobs};
use super::record::Progress;
use super::{export, import};
use crate::blob::{self, Container, Failure, Places, Source};
use crate::error::Error;

/// A job that can begin.
pub enum Work {
    Import {
        container: Container,
        input: Source,
        /// For the errors of single lines.
        errors: Target,
    },
    Export {
        output: Target,
        exclude_keys: bool,
        configurations: Option<String>,
    },
}

/// A blob that is to be written.
pub struct Target {
    pub container: Container,
    pub blob: String,
}

/// Why a job did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    Cancelled,
    Failed(String),
}

impl Work {
    /// Opens the containers and tries in each what the job will need of it.
    pub async fn check(body: &JobBody, config: &JobConfig) -> Result<Self, Error> {
        match body {
            JobBody::Import { input, output } => {
                let places = places(&[input, output], config)?;
                let container = open(&input.container, &places, "input")?;
                let source = container.find(&input.blob).await.map_err(|failure| {
                    let what = "read from input blob container";
                    match failure {
                        Failure::Missing => refused(
                            what,
                            Failure::Other(format!("it has no blob `{}`", input.blob)),
                        ),
                        failure => refused(what, failure),
                    }
                })?;
                Ok(Self::Import {
                    container,
                    input: source,
                    errors: target(output, &places).await?,
                })
            }
            JobBody::Export {
                output,
                exclude_keys,
                configurations,
            } => {
                let places = places(&[output], config)?;
                Ok(Self::Export {
                    output: target(output, &places).await?,
                    exclude_keys: *exclude_keys,
                    configurations: configurations.clone(),
                })
            }
        }
    }

    pub async fn run(
        self,
        jobs: &Jobs,
        cancel: &CancellationToken,
        progress: impl Fn(Progress),
    ) -> Result<(), Stopped> {
        progress(Progress::default());
        match self {
            Self::Import {
                container,
                input,
                errors,
            } => import::run(jobs, &container, &input, &errors, cancel, progress).await,
            Self::Export {
                output,
                exclude_keys,
                configurations,
            } => {
                export::run(jobs, &output, exclude_keys, cancel, progress).await?;
                match configurations {
                    Some(blob) => export::no_configurations(&output, blob, cancel).await,
                    None => Ok(()),
                }
            }
        }
    }
}

/// Waits for a container, but no longer than the job lasts.
pub async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    what: &str,
    asked: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Stopped> {
    let answer = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Stopped::Cancelled),
        answer = asked => answer,
    };
    answer.map_err(|failure| failed(what, &failure))
}

pub fn failed(what: &str, failure: &Failure) -> Stopped {
    Stopped::Failed(format!("{what}: {failure}"))
}

fn places(wanted: &[&BlobPlace], config: &JobConfig) -> Result<Places, Error> {
    let with_tls = wanted.iter().any(|place| {
        let uri = place.container.reveal();
        uri.get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
    });
    let client = blob::client(&config.roots_pem, with_tls);
    Ok(Places {
        client: client.map_err(Error::BlobContainer)?,
        folder: config.folder.clone(),
    })
}

fn open(
    uri: &azimuth_wire::job::ContainerUri,
    places: &Places,
    which: &str,
) -> Result<Container, Error> {
    Container::open(uri.reveal(), places).map_err(|why| {
        Error::BlobContainer(format!("Unable to access {which} blob container: {why}"))
    })
}

/// Writes, reads and deletes a blob of no other use.
async fn target(place: &BlobPlace, places: &Places) -> Result<Target, Error> {
    let container = open(&place.container, places, "output")?;
    let probe = format!("azimuth-{}.probe", Uuid::new_v4());
    let written = async { container.write(&probe)?.finish().await };
    let written = written.await;
    written.map_err(|failure| refused("write to output blob container", failure))?;
    let found = container.find(&probe).await;
    let deleted = container.delete(&probe).await;
    found.map_err(|failure| refused("read from output blob container", failure))?;
    deleted.map_err(|failure| refused("delete from output blob container", failure))?;
    Ok(Target {
        container,
        blob: place.blob.clone(),
    })
}

fn refused(what: &str, failure: Failure) -> Error {
    Error::BlobContainer(match failure {
        Failure::Unauthorized => format!("Unauthorized to {what}"),
        failure => format!("Unable to {what}: {failure}"),
    })
}
