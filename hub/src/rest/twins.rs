//! Device twins over HTTPS, and the word of a change to the device that listens.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use azimuth_broker::{CloseReason, Outbound, Owner, QoS};
use azimuth_wire::DeviceId;
use azimuth_wire::topic::hub::HubTopic;
use azimuth_wire::twin::TwinBody;

use super::registry::{device_id, if_match, whole};
use super::{Rest, answer};
use crate::error::Error;
use crate::twin::DesiredChange;

/// Bytes of a twin's JSON that are read; a whole one has some 150 thousand with its metadata.
const BODY_LIMIT: usize = 1 << 20;

impl Rest {
    pub(super) fn read_twin(&self, id: &str) -> Result<Response, Error> {
        answer::json(&self.registry.twin(&device_id(id)?)?)
    }

    pub(super) async fn patch_twin(
        &self,
        id: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let id = device_id(id)?;
        let patch = TwinBody::parse(&whole(body, BODY_LIMIT).await?)?;
        let if_match = if_match(headers);
        let written = self.registry.patch_twin(&id, &if_match, &patch).await?;
        self.tell(&id, written.desired);
        answer::json(&written.twin)
    }

    pub(super) async fn replace_twin(
        &self,
        id: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Error> {
        let id = device_id(id)?;
        let body = TwinBody::parse(&whole(body, BODY_LIMIT).await?)?;
        let if_match = if_match(headers);
        let written = self.registry.replace_twin(&id, &if_match, &body).await?;
        self.tell(&id, written.desired);
        answer::json(&written.twin)
    }

    /// Tells a device that is on the line of its new desired properties. One that is not reads them
    /// when it comes; one that takes nothing more has to come again, so that it misses none.
    pub(super) fn tell(&self, id: &DeviceId, change: Option<DesiredChange>) {
        let Some(change) = change else { return };
        let Some(line) = self.presence.line(&Owner::new(id.as_str())) else {
            return;
        };
        let topic = HubTopic::DesiredPatch {
            version: change.version,
        };
        let message = Outbound {
            topic: topic.to_string(),
            payload: change.payload.to_string().into(),
            qos: QoS::AtLeastOnce,
        };
        if line.deliver(message).is_err() {
            line.close(CloseReason::Removed(
                "the device took too few messages to be told of its new desired properties",
            ));
        }
    }
}
