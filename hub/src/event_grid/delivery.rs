//! Requests to a webhook: how they look, and what an answer means.
//!
//! May not enter: when they are made, what becomes of an event.

use azimuth_webhook::{HeaderMap, HeaderName, HeaderValue, Method, NoAnswer, Question};
use serde_json::Value;

use super::event::GridEvent;
use super::handshake::ORIGIN;
use super::queue::Outcome;
use super::subscription::{Schema, Subscription};

/// Events on their way, `attempts` tries after the first.
pub fn notification<'a>(
    subscription: &'a Subscription,
    topic: &str,
    events: &[GridEvent],
    attempts: u32,
) -> Question<'a> {
    let mut shown = events
        .iter()
        .map(|event| event.json(subscription.schema, topic));
    let (kind, body) = match (subscription.schema, events) {
        (Schema::EventGrid, _) => (JSON, Value::Array(shown.collect())),
        (Schema::CloudEvents, [_]) => (CLOUD_EVENT, shown.next().unwrap_or_default()),
        (Schema::CloudEvents, _) => (CLOUD_EVENTS, Value::Array(shown.collect())),
    };
    let first = events.first().map_or("", |event| event.id.as_str());
    let headers = [
        ("content-type", kind),
        ("aeg-event-type", "Notification"),
        ("aeg-subscription-name", &subscription.name),
        ("aeg-delivery-count", &attempts.to_string()),
        ("aeg-data-version", "1"),
        ("aeg-metadata-version", "1"),
        ("aeg-output-event-id", first),
    ];
    Question {
        method: Method::POST,
        url: &subscription.url,
        headers: headers_of(&headers),
        body: body.to_string().into(),
    }
}

/// Asks for the validation code.
pub fn validation<'a>(subscription: &'a Subscription, body: &Value) -> Question<'a> {
    let headers = [
        ("content-type", JSON),
        ("aeg-event-type", "SubscriptionValidation"),
        ("aeg-subscription-name", &subscription.name),
        ("aeg-delivery-count", "0"),
        ("aeg-data-version", "1"),
        ("aeg-metadata-version", "1"),
    ];
    Question {
        method: Method::POST,
        url: &subscription.url,
        headers: headers_of(&headers),
        body: body.to_string().into(),
    }
}

/// Asks whether events may come.
pub fn permission(subscription: &Subscription) -> Question<'_> {
    Question {
        method: Method::OPTIONS,
        url: &subscription.url,
        headers: headers_of(&[("webhook-request-origin", ORIGIN)]),
        body: Default::default(),
    }
}

/// What a failed try is counted as.
pub fn outcome(no_answer: &NoAnswer) -> Outcome {
    match no_answer {
        NoAnswer::TimedOut | NoAnswer::Busy => Outcome::TimedOut,
        NoAnswer::TooLong | NoAnswer::Unreachable(_) => Outcome::Unreachable,
    }
}

fn headers_of(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_str(value).ok()?;
        Some((HeaderName::from_static(name), value))
    });
    pairs.collect()
}

const JSON: &str = "application/json; charset=utf-8";
const CLOUD_EVENT: &str = "application/cloudevents+json; charset=utf-8";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json; charset=utf-8";
