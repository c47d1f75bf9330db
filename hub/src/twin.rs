//! Device twins, which are not simulated: requests get Azure's shape of a refusal.
//!
//! The status is 404, that of Azure's 404013 FeatureNotSupported: device SDKs raise it to the
//! application at once, whereas they repeat a request that was answered with 5xx. The body is never
//! left out, because the Node SDK looks at nothing but `errorCode` in it.

use std::time::SystemTime;

use azimuth_broker::{Outbound, QoS};
use azimuth_wire::ErrorCode;
use azimuth_wire::time::Timestamp;
use azimuth_wire::topic::hub::HubTopic;
use serde::Serialize;

/// The answer to a twin request that is refused.
pub fn refused(request_id: &str, code: ErrorCode, message: &str, now: SystemTime) -> Outbound {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        error_code: u32,
        tracking_id: String,
        message: &'a str,
        timestamp_utc: Timestamp,
    }
    let topic = HubTopic::TwinResponse {
        status: code.status(),
        request_id,
        version: None,
    };
    let body = Body {
        error_code: code.number(),
        tracking_id: uuid::Uuid::new_v4().simple().to_string(),
        message,
        timestamp_utc: now.into(),
    };
    Outbound {
        topic: topic.to_string(),
        payload: serde_json::to_vec(&body)
            .expect("numbers and texts are JSON")
            .into(),
        qos: QoS::AtMostOnce,
    }
}
