//! Lists in pages: enrollments, groups, and the registrations of a group.
//!
//! What may not enter: how pages are cut; `paging` knows.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use azimuth_wire::EnrollmentGroupId;
use azimuth_wire::enrollment::EnrollmentGroup;
use serde::Serialize;

use super::paging::{CONTINUATION, Place, check_query, continuation};
use super::{Office, Refused, Shown, json, read_or_nothing};
use crate::enrollment::Entry;
use crate::error::Error;
use crate::records;

impl Office {
    pub(super) async fn entries<E: Entry + Shown>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refused> {
        check_query(&read_or_nothing(body).await?)?;
        let place = Place::of(headers, E::ROOM)?;
        let (entries, next) = self
            .enrollments
            .page::<E>(place.after.as_deref(), place.limit)?;
        let mut shown = Vec::with_capacity(entries.len());
        for entry in entries {
            let state = if E::OWNS_REGISTRATION {
                self.state(&entry.folded_id())?
            } else {
                None
            };
            shown.push(entry.without_keys().with_state(state));
        }
        Ok(page(E::ITEM_TYPE, &shown, E::ROOM, next))
    }

    /// A group that is no more has no list, though its registrations stay.
    pub(super) async fn registrations(
        &self,
        method: &Method,
        group: &EnrollmentGroupId,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refused> {
        if *method != Method::POST {
            return Err(Error::MethodNotAllowed.into());
        }
        check_query(&read_or_nothing(body).await?)?;
        let collection = format!("registrations/{}", group.folded());
        let place = Place::of(headers, &collection)?;
        let present: Option<EnrollmentGroup> = self.enrollments.entry(&group.folded())?;
        let (states, next) = match present {
            Some(_) => records::of_group(&*self.store, group, place.after.as_deref(), place.limit)?,
            None => (Vec::new(), None),
        };
        Ok(page("DeviceRegistration", &states, &collection, next))
    }
}

/// The continuation is there only when more is: clients take its mere presence for that.
fn page<T: Serialize>(
    item_type: &'static str,
    items: &[T],
    collection: &str,
    next: Option<String>,
) -> Response {
    let mut response = json(item_type, &items);
    if let Some(next) = next {
        let token = continuation(collection, &next);
        let token = HeaderValue::try_from(token).expect("base64 is a header value");
        response.headers_mut().insert(CONTINUATION, token);
    }
    response
}

#[cfg(test)]
mod tests;
