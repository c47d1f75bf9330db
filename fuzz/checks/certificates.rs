//! Certificates in whatever form people store them: no bytes panic, what is read says the same twice, and a
//! path is one.

use std::time::{Duration, UNIX_EPOCH};

use azimuth_certs::{Certificate, VerificationCode, check_possession, verify_chain};

pub fn check(data: &[u8]) {
    let Ok(found) = Certificate::read_all(data) else {
        return;
    };
    for one in &found {
        let again = Certificate::read_first(one.base64().as_bytes());
        assert!(again.is_ok_and(|again| again == *one));
        assert!(Certificate::from_der(one.der()).is_ok_and(|again| again == *one));
        let _ = (one.info(), one.validity(), one.path_length());
        let _ = (one.common_name(), one.is_self_issued());
        assert_eq!(one.is_authority(), one.why_no_authority().is_none());
    }
    // A device sends its leaf first, and what is trusted may be the last.
    let (leaf, last) = (&found[0], &found[found.len() - 1]);
    // When the published vectors are valid.
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    match verify_chain(&found, std::slice::from_ref(last), now) {
        Ok(path) => {
            assert!(path.first() == Some(&leaf) && path.last() == Some(&last));
            for pair in path.windows(2) {
                assert!(pair[0].names_as_issuer(pair[1]) && pair[0].is_signed_by(pair[1]));
            }
            assert!(path.iter().all(|one| one.validity().contains(now)));
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
    let code = VerificationCode::from_random([7; 24]);
    assert!(check_possession(last, &code, leaf, now).is_err());
}
