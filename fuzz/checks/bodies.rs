//! JSON that devices, back ends and webhooks send: no body panics, what is taken is kept as it was, and what is not
//! is told in Azure's numbers. The first byte says whose body the rest is.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::UNIX_EPOCH;

use azimuth_dps::allocation::webhook::{Verdict, verdict};
use azimuth_dps::enrollment::{Enrollments, Entry};
use azimuth_storage::Store;
use azimuth_wire::ca_certificate::CaCertificateBody;
use azimuth_wire::enrollment::{EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::etag::IfMatch;
use azimuth_wire::linked_hub::{IotHubChange, IotHubDefinition};
use azimuth_wire::registration::RegisterRequest;

const HUB: &str = "contoso-hub-east.azure-devices.net";

pub fn check(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind {
        b'r' => {
            let _ = RegisterRequest::parse(body);
        }
        b'i' => entry::<IndividualEnrollment>(body),
        b'g' => entry::<EnrollmentGroup>(body),
        b'w' => choice(body),
        b'h' => {
            let _ = serde_json::from_slice::<IotHubChange>(body);
            if let Ok(link) = serde_json::from_slice::<IotHubDefinition>(body) {
                let text = serde_json::to_vec(&link).expect("a struct with text keys");
                assert!(
                    serde_json::from_slice(&text)
                        .is_ok_and(|again: IotHubDefinition| again == link)
                );
            }
        }
        _ => {
            if let Ok(body) = serde_json::from_slice::<CaCertificateBody>(body) {
                let _ = (body.certificate(), body.is_verified());
            }
        }
    }
}

/// Creates, replaces and reads back, as the service API does.
fn entry<E: Entry>(body: &[u8]) {
    let Ok(given) = serde_json::from_slice::<E>(body) else {
        return;
    };
    let store: Arc<dyn Store> = azimuth_storage::memory();
    let enrollments = Enrollments::open(store, || vec![HUB.into()]).expect("an empty store opens");
    for condition in [IfMatch::Absent, IfMatch::Any] {
        match at_once(enrollments.put(given.clone(), &condition, UNIX_EPOCH)) {
            Ok(kept) => {
                let found = enrollments.entry::<E>(&given.folded_id());
                let found = found.expect("it was written").expect("it is there");
                let text =
                    |entry: &E| serde_json::to_string(entry).expect("a struct with text keys");
                assert_eq!(text(&found), text(&kept));
                let _ = kept.terms();
            }
            Err(error) => assert_eq!(error.code() / 1000, 400, "{error}"),
        }
    }
}

fn choice(body: &[u8]) {
    let linked = [HUB.to_owned()];
    if let Verdict::Chosen(chosen) = verdict(200, body, &linked) {
        assert!(linked.contains(&chosen.hub));
    }
}

/// In memory nothing is waited for.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}
