//! Import and export jobs as JSON: what a client asks for and what a hub answers.
//!
//! Shapes and their checks only. May not enter: what a job does, where a container is.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::members::{Members, expected};
use crate::registry::InvalidBody;
use crate::time::Timestamp;

/// What a job does with the identities of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobKind {
    Import,
    Export,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobStatus {
    Enqueued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// Where blobs are. Whoever knows the text may read and write there, so nothing shows it by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerUri(String);

impl ContainerUri {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ContainerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContainerUri(..)")
    }
}

/// A blob by the container it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    pub container: ContainerUri,
    pub blob: String,
}

/// A job that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobBody {
    Import {
        input: BlobPlace,
        /// For the errors of single lines.
        output: BlobPlace,
    },
    Export {
        output: BlobPlace,
        exclude_keys: bool,
        /// Of the blob for configurations, where they are wanted.
        configurations: Option<String>,
    },
}

/// Why a job cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    #[error(transparent)]
    Body(#[from] InvalidBody),
    #[error(
        "`storageAuthenticationType` identityBased needs a managed identity, which this hub has not: use \
         keyBased, with a shared access signature in the URI of the container"
    )]
    IdentityBased,
    #[error("importing configurations")]
    Configurations,
}

impl JobBody {
    /// Reads the body of a request that makes a job.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidJob> {
        let value: Value = serde_json::from_slice(json)
            .map_err(|error| InvalidBody::NotJson(error.to_string()))?;
        let Value::Object(members) = &value else {
            return Err(expected("the body", "an object").into());
        };
        let members = Members(members);
        let is = |given: &str, name: &str| given.eq_ignore_ascii_case(name);
        match members.filled("storageAuthenticationType")? {
            Some(kind) if is(kind, "identityBased") => return Err(InvalidJob::IdentityBased),
            Some(kind) if !is(kind, "keyBased") => {
                return Err(expected("storageAuthenticationType", "`keyBased`").into());
            }
            Some(_) | None => {}
        }
        let kind = members.filled("type")?.unwrap_or_default();
        let with_configurations = members.flag("includeConfigurations")?;
        if is(kind, "import") {
            if with_configurations {
                return Err(InvalidJob::Configurations);
            }
            Ok(Self::Import {
                input: place(
                    &members,
                    "inputBlobContainerUri",
                    "inputBlobName",
                    DEVICES_BLOB,
                )?,
                output: place(
                    &members,
                    "outputBlobContainerUri",
                    "outputBlobName",
                    ERRORS_BLOB,
                )?,
            })
        } else if is(kind, "export") {
            let configurations = blob_name(&members, "configurationsBlobName", CONFIGURATIONS_BLOB);
            Ok(Self::Export {
                output: place(
                    &members,
                    "outputBlobContainerUri",
                    "outputBlobName",
                    DEVICES_BLOB,
                )?,
                exclude_keys: members.flag("excludeKeysInExport")?,
                configurations: with_configurations.then_some(configurations?),
            })
        } else {
            Err(expected("type", "`import` or `export`").into())
        }
    }

    pub fn kind(&self) -> JobKind {
        match self {
            Self::Import { .. } => JobKind::Import,
            Self::Export { .. } => JobKind::Export,
        }
    }

    pub fn output(&self) -> &BlobPlace {
        match self {
            Self::Import { output, .. } | Self::Export { output, .. } => output,
        }
    }
}

fn place(
    members: &Members<'_>,
    uri: &'static str,
    name: &'static str,
    default: &str,
) -> Result<BlobPlace, InvalidBody> {
    let container = members.filled(uri)?;
    let container = container.ok_or_else(|| expected(uri, "the URI of a container"))?;
    Ok(BlobPlace {
        container: ContainerUri::new(container),
        blob: blob_name(members, name, default)?,
    })
}

/// 1 to 1024 characters; parts between slashes that lead nowhere else.
fn blob_name(
    members: &Members<'_>,
    name: &'static str,
    default: &str,
) -> Result<String, InvalidBody> {
    let blob = members.filled(name)?.unwrap_or(default);
    let part_is_fine = |part: &str| !matches!(part, "" | "." | "..");
    let fine = blob.chars().count() <= 1024
        && !blob.chars().any(|c| c.is_control() || c == '\\')
        && blob.split('/').all(part_is_fine);
    match fine {
        true => Ok(blob.to_owned()),
        false => Err(expected(name, "the name of a blob")),
    }
}

const DEVICES_BLOB: &str = "devices.txt";
const ERRORS_BLOB: &str = "importErrors.log";
const CONFIGURATIONS_BLOB: &str = "configurations.txt";

/// A job as a hub answers it. Containers are shown to whoever made it, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobProperties {
    pub job_id: String,
    pub start_time_utc: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time_utc: Option<Timestamp>,
    #[serde(rename = "type")]
    pub kind: JobKind,
    pub status: JobStatus,
    /// Hundredths.
    pub progress: u8,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub input_blob_container_uri: Option<ContainerUri>,
    /// Empty in later answers.
    #[serde(serialize_with = "shown")]
    pub output_blob_container_uri: Option<ContainerUri>,
    pub exclude_keys_in_export: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    pub use_secondary_storage_as_source: bool,
}

fn shown<S: serde::Serializer>(
    uri: &Option<ContainerUri>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(uri.as_ref().map_or("", ContainerUri::reveal))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(json: &str) -> Result<JobBody, InvalidJob> {
        JobBody::parse(json.as_bytes())
    }

    #[test]
    fn blobs_have_azures_names_where_none_is_given() {
        let import = r#"{"Type":"Import","inputBlobContainerUri":"in?sig=s","outputBlobContainerUri":"out"}"#;
        let JobBody::Import { input, output } = parse(import).unwrap() else {
            panic!("not an import")
        };
        assert_eq!(
            (input.blob.as_str(), output.blob.as_str()),
            ("devices.txt", "importErrors.log")
        );
        assert_eq!(input.container.reveal(), "in?sig=s");
        assert!(
            !format!("{input:?}").contains("sig"),
            "Debug shows a signature"
        );
        let export = r#"{"type":"export","outputBlobContainerUri":"out","outputBlobName":"a/b.txt",
            "excludeKeysInExport":true,"includeConfigurations":true,"storageAuthenticationType":"KeyBased"}"#;
        assert_eq!(
            parse(export).unwrap(),
            JobBody::Export {
                output: BlobPlace {
                    container: ContainerUri::new("out"),
                    blob: "a/b.txt".into()
                },
                exclude_keys: true,
                configurations: Some("configurations.txt".into()),
            }
        );
    }

    #[test]
    fn every_refusal_says_what_is_wrong() {
        for (json, sentence) in [
            ("[]", "`the body` must be an object"),
            ("{}", "`type` must be `import` or `export`"),
            (
                r#"{"type":"export"}"#,
                "`outputBlobContainerUri` must be the URI of a container",
            ),
            (
                r#"{"type":"import","outputBlobContainerUri":"o"}"#,
                "`inputBlobContainerUri` must be the URI of a container",
            ),
            (
                r#"{"type":"export","outputBlobContainerUri":"o","outputBlobName":"../x"}"#,
                "`outputBlobName` must be the name of a blob",
            ),
            (
                r#"{"type":"export","outputBlobContainerUri":"o","outputBlobName":"/x"}"#,
                "`outputBlobName` must be the name of a blob",
            ),
            (
                r#"{"type":"export","outputBlobContainerUri":1}"#,
                "`outputBlobContainerUri` must be a text",
            ),
            (
                r#"{"type":"export","storageAuthenticationType":"none"}"#,
                "`storageAuthenticationType` must be `keyBased`",
            ),
        ] {
            assert_eq!(parse(json).unwrap_err().to_string(), sentence, "{json}");
        }
        let identity = parse(r#"{"storageAuthenticationType":"IdentityBased"}"#);
        assert_eq!(identity, Err(InvalidJob::IdentityBased));
        let configurations = parse(r#"{"type":"import","includeConfigurations":true}"#);
        assert_eq!(configurations, Err(InvalidJob::Configurations));
        assert!(matches!(
            parse("{"),
            Err(InvalidJob::Body(InvalidBody::NotJson(_)))
        ));
    }

    /// As recorded.
    #[test]
    fn a_job_that_was_just_made_shows_its_containers() {
        let properties = JobProperties {
            job_id: "130c2874-702b-4610-a6ea-2a38ee499d15".into(),
            start_time_utc: serde_json::from_str("\"2021-07-07T20:44:58.0643976Z\"").unwrap(),
            end_time_utc: None,
            kind: JobKind::Import,
            status: JobStatus::Enqueued,
            progress: 0,
            input_blob_container_uri: Some(ContainerUri::new("in")),
            output_blob_container_uri: Some(ContainerUri::new("out")),
            exclude_keys_in_export: false,
            failure_reason: None,
            use_secondary_storage_as_source: false,
        };
        assert_eq!(
            serde_json::to_string(&properties).unwrap(),
            concat!(
                r#"{"jobId":"130c2874-702b-4610-a6ea-2a38ee499d15","startTimeUtc":"2021-07-07T20:44:58.0643976Z","#,
                r#""type":"import","status":"enqueued","progress":0,"inputBlobContainerUri":"in","#,
                r#""outputBlobContainerUri":"out","excludeKeysInExport":false,"useSecondaryStorageAsSource":false}"#
            )
        );
    }
}
