//! One identity of a request with many: what its mode does. Identity and twin are written as one.
//!
//! May not enter: HTTP, the items around it.

use azimuth_wire::Identity as Name;
use azimuth_wire::etag::IfMatch;
use azimuth_wire::registry::bulk::{BulkItem, ImportMode};

use super::{Registry, Written};
use crate::error::Error;
use crate::twin::DesiredChange;

/// What an item did beside being stored.
#[derive(Debug)]
pub enum Applied {
    Written(Box<Written>),
    /// These are no more.
    Deleted(Vec<Name>),
    Twin(Option<DesiredChange>),
}

impl Registry {
    /// Carries out one item, all of it or nothing.
    pub async fn apply(&self, item: BulkItem) -> Result<Applied, Error> {
        let BulkItem {
            name,
            mode,
            etag,
            twin_etag,
            body,
            twin,
        } = item;
        let any = |etag: &Option<String>| etag.clone().map_or(IfMatch::Any, IfMatch::Etag);
        match mode {
            ImportMode::Delete => {
                let gone = self.delete(&name, &IfMatch::Any).await?;
                Ok(Applied::Deleted(gone))
            }
            ImportMode::DeleteIfMatchEtag => {
                let gone = self.delete(&name, &any(&etag)).await?;
                Ok(Applied::Deleted(gone))
            }
            ImportMode::UpdateTwin => {
                let written = self.patch_twin(&name, &IfMatch::Any, &twin).await?;
                Ok(Applied::Twin(written.desired))
            }
            ImportMode::UpdateTwinIfMatchEtag => {
                let written = self.patch_twin(&name, &any(&twin_etag), &twin).await?;
                Ok(Applied::Twin(written.desired))
            }
            ImportMode::Create
            | ImportMode::Update
            | ImportMode::UpdateIfMatchEtag
            | ImportMode::CreateOrUpdate
            | ImportMode::CreateOrUpdateIfMatchEtag => {
                let creates = |there: bool| match mode {
                    ImportMode::Create => true,
                    ImportMode::CreateOrUpdate | ImportMode::CreateOrUpdateIfMatchEtag => !there,
                    _ => false,
                };
                let demands_etag = matches!(
                    mode,
                    ImportMode::UpdateIfMatchEtag | ImportMode::CreateOrUpdateIfMatchEtag
                );
                let condition = |there: bool| match creates(there) {
                    true => IfMatch::Absent,
                    false if demands_etag => any(&etag),
                    false => IfMatch::Any,
                };
                let written = self.write(&name, condition, body, &twin).await?;
                Ok(Applied::Written(written.into()))
            }
        }
    }
}
