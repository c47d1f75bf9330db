//! `GET /azimuth/eventSubscriptions`: how the subscriptions of Event Grid do; and the page that validates a webhook by hand.

use axum::response::Response;

use super::{Rest, answer, paths};
use crate::error::Error;

impl Rest {
    pub(super) fn event_subscriptions(&self) -> Result<Response, Error> {
        let posts = self.notifier.posts().iter();
        let all: Vec<_> = posts.map(|post| post.status()).collect();
        answer::json(&all)
    }

    /// Whoever has the code was sent it: there are no other credentials.
    pub(super) fn validate(&self, name: &str, query: Option<&str>) -> Result<Response, Error> {
        let code = paths::parameter(query, "code").unwrap_or_default();
        let mut posts = self.notifier.posts().iter();
        let post = posts.find(|post| post.name().eq_ignore_ascii_case(name));
        match post.is_some_and(|post| post.opened(&code)) {
            true => answer::json(&"The webhook is validated."),
            false => Err(Error::Validation),
        }
    }
}
