//! Symmetric keys: a token signed with an enrollment's key, or with one derived from a group's.
//!
//! The order of Azure's lookup: an individual enrollment decides alone, whatever it decides; only
//! without one are the groups tried. Whether an enrollment is disabled is looked at afterwards.

use std::sync::Arc;

use azimuth_wire::enrollment::{AttestationKind, EnrollmentGroup, IndividualEnrollment};
use azimuth_wire::sas::{CLOCK_SKEW_SECONDS, SasToken, Signer};

use super::{Claim, DeviceKeys, Rejection};
use crate::attempt::{Few, TokenProof};
use crate::enrollment::keys_of;

/// Holds a token against the individual enrollment of its registration id.
pub fn individual(
    token: &SasToken,
    claim: Claim<'_>,
    enrollment: &IndividualEnrollment,
) -> Result<(DeviceKeys, TokenProof), Rejection> {
    let kind = match enrollment.attestation.kind {
        AttestationKind::SymmetricKey => "",
        AttestationKind::X509 => "an X.509 certificate",
        AttestationKind::Tpm => "a TPM, which Azure takes over HTTPS and AMQP but not over MQTT",
        AttestationKind::None => "nothing at all",
    };
    if !kind.is_empty() {
        return Err(Rejection::OtherKind { kind });
    }
    check_claim(token, claim)?;
    let keys = keys_of(&enrollment.attestation);
    let signer = |keys: DeviceKeys| Some((token.signer(&keys.primary, &keys.secondary)?, keys));
    let (signer, keys) = keys.and_then(signer).ok_or_else(|| Rejection::WrongKey {
        string_to_sign: token.string_to_sign(),
    })?;
    let proof = TokenProof {
        key: signer.into(),
        lower_case: false,
        passed: Few::default(),
    };
    Ok((keys, proof))
}

/// Holds a token against the keys derived from each group's two keys. The first hit wins.
pub fn group(
    token: &SasToken,
    claim: Claim<'_>,
    groups: &[Arc<EnrollmentGroup>],
) -> Result<(Arc<EnrollmentGroup>, DeviceKeys, TokenProof), Rejection> {
    check_claim(token, claim)?;
    let symmetric = || {
        let keys =
            |group: &Arc<EnrollmentGroup>| Some((group.clone(), keys_of(&group.attestation)?));
        groups.iter().filter_map(keys)
    };
    let mut passed = Few::default();
    for (group, keys) in symmetric() {
        if let Some((signer, lower_case, derived)) = derived(token, claim, &keys) {
            let proof = TokenProof {
                key: signer.into(),
                lower_case,
                passed,
            };
            return Ok((group, derived, proof));
        }
        passed.push(group.enrollment_group_id.as_str());
    }
    for (group, keys) in symmetric() {
        if token.signer(&keys.primary, &keys.secondary).is_some() {
            let group = group.enrollment_group_id.clone();
            return Err(Rejection::GroupKey { group });
        }
    }
    Err(Rejection::Unknown {
        groups: symmetric().count(),
        string_to_sign: token.string_to_sign(),
    })
}

/// The device's keys if one of them signed, which of them, and whether over the lower-case form: ids compare
/// without regard to case but signatures do not, so that form is tried after the device's own.
fn derived(
    token: &SasToken,
    claim: Claim<'_>,
    group: &DeviceKeys,
) -> Option<(Signer, bool, DeviceKeys)> {
    let derive = |id: &str| DeviceKeys {
        primary: group.primary.derive(id),
        secondary: group.secondary.derive(id),
    };
    let signer = |keys: &DeviceKeys| token.signer(&keys.primary, &keys.secondary);
    let sent = claim.registration_id.as_str();
    let keys = derive(sent);
    if let Some(signer) = signer(&keys) {
        return Some((signer, false, keys));
    }
    if !sent.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let keys = derive(&claim.registration_id.folded());
    Some((signer(&keys)?, true, keys))
}

/// Whether the token is for this registration, and still good.
pub(super) fn check_claim(token: &SasToken, claim: Claim<'_>) -> Result<(), Rejection> {
    if !token.names(claim.resource) {
        return Err(Rejection::Resource {
            given: token.resource().chars().take(300).collect(),
            expected: claim.resource.into(),
        });
    }
    if token.expired(claim.now, CLOCK_SKEW_SECONDS) {
        return Err(Rejection::Expired {
            expiry: token.expiry(),
            now: claim.now,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use azimuth_wire::{RegistrationId, SymmetricKey, sas};

    use super::*;
    use crate::attempt::Slot;

    const NOW: u64 = 1_800_000_000;
    const SCOPE: &str = "0ne00ABCDEF";
    const GROUP_KEY: &str =
        "rLuyBPpIJ+hOre2SFIP9Ajvdty3j0EwSP/WvTVH9eZAw5HpDuEmf13nziHy5RRXmuTy84FCLpOnhhBPASSbHYg==";
    const OTHER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn entry(primary: &str, secondary: &str) -> IndividualEnrollment {
        serde_json::from_value(serde_json::json!({
            "registrationId": "any",
            "attestation": { "type": "symmetricKey",
                "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary } },
        }))
        .unwrap()
    }

    fn group_of(primary: &str, secondary: &str) -> Arc<EnrollmentGroup> {
        let group = serde_json::json!({
            "enrollmentGroupId": "fleet",
            "attestation": { "type": "symmetricKey",
                "symmetricKey": { "primaryKey": primary, "secondaryKey": secondary } },
        });
        Arc::new(serde_json::from_value(group).unwrap())
    }

    struct Device {
        id: RegistrationId,
        resource: String,
    }

    impl Device {
        fn new(scope: &str, id: &str) -> Self {
            Self {
                id: id.parse().unwrap(),
                resource: format!("{scope}/registrations/{id}"),
            }
        }

        fn claim(&self) -> Claim<'_> {
            Claim {
                registration_id: &self.id,
                resource: &self.resource,
                now: NOW,
            }
        }

        fn token(&self, key: &SymmetricKey, expiry: u64) -> SasToken {
            SasToken::parse(&sas::sign(&self.resource, key, expiry, None)).unwrap()
        }
    }

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/dps.json")).unwrap()
    }

    #[test]
    fn tokens_of_every_client_are_taken() {
        let vectors = vectors();
        let rows = vectors["deviceSas"]["valid"].as_array().unwrap();
        assert!(rows.len() >= 14);
        for row in rows {
            let text = |name: &str| row[name].as_str().unwrap();
            let device = Device::new(text("idScope"), text("registrationId"));
            let token = SasToken::parse(text("token")).unwrap();
            let primary = entry(text("key"), OTHER_KEY);
            let secondary = entry(OTHER_KEY, text("key"));
            for enrollment in [primary, secondary] {
                let verdict = individual(&token, device.claim(), &enrollment);
                assert!(verdict.is_ok(), "{} {verdict:?}", text("style"));
            }
        }
    }

    #[test]
    fn tokens_that_are_wrong_in_one_thing_are_not() {
        let vectors = vectors();
        let rows = vectors["deviceSas"]["invalid"].as_array().unwrap();
        let group = [group_of(GROUP_KEY, OTHER_KEY)];
        for row in rows {
            let text = |name: &str| row[name].as_str().unwrap();
            let device = Device::new(text("idScope"), text("registrationId"));
            let Ok(token) = SasToken::parse(text("token")) else {
                continue;
            };
            let enrollment = entry("p3w2DQr9WqEGBLUSlFi1jPQ7UWQL4siAGy75HFTFbf8=", OTHER_KEY);
            let verdict = individual(&token, device.claim(), &enrollment);
            assert!(verdict.is_err(), "{}", text("why"));
            let verdict = super::group(&token, device.claim(), &group);
            assert!(verdict.is_err(), "{} by group", text("why"));
        }
    }

    #[test]
    fn each_rejection_is_told_from_the_others() {
        let device = Device::new(SCOPE, "dev-1");
        let key: SymmetricKey = OTHER_KEY.parse().unwrap();
        let mut x509 = entry(OTHER_KEY, OTHER_KEY);
        x509.attestation.kind = AttestationKind::X509;
        let stranger = Device::new(SCOPE, "dev-2").token(&key, NOW + 60);
        let group_key: SymmetricKey = GROUP_KEY.parse().unwrap();
        let mine = entry(GROUP_KEY, GROUP_KEY);
        let groups = [group_of(OTHER_KEY, GROUP_KEY)];

        assert!(matches!(
            individual(&stranger, device.claim(), &mine),
            Err(Rejection::Resource { .. })
        ));
        let late = device.token(&group_key, NOW - 300);
        assert!(matches!(
            individual(&late, device.claim(), &mine),
            Err(Rejection::Expired { .. })
        ));
        let token = device.token(&key, NOW + 60);
        assert!(matches!(
            individual(&token, device.claim(), &mine),
            Err(Rejection::WrongKey { .. })
        ));
        assert!(matches!(
            individual(&token, device.claim(), &x509),
            Err(Rejection::OtherKind { .. })
        ));
        let direct = device.token(&group_key, NOW + 60);
        assert!(matches!(
            group(&direct, device.claim(), &groups),
            Err(Rejection::GroupKey { .. })
        ));
        let none = group(&token, device.claim(), &[]);
        assert!(matches!(none, Err(Rejection::Unknown { groups: 0, .. })));
    }

    #[test]
    fn a_token_is_taken_five_minutes_past_its_expiry() {
        let device = Device::new(SCOPE, "dev-1");
        let key: SymmetricKey = OTHER_KEY.parse().unwrap();
        let enrollment = entry(OTHER_KEY, OTHER_KEY);
        for (expiry, taken) in [(NOW - 299, true), (NOW - 300, false)] {
            let token = device.token(&key, expiry);
            assert_eq!(
                individual(&token, device.claim(), &enrollment).is_ok(),
                taken
            );
        }
    }

    #[test]
    fn keys_derived_from_either_group_key_and_either_spelling_are_taken() {
        let groups = [
            group_of(OTHER_KEY, OTHER_KEY),
            group_of(OTHER_KEY, GROUP_KEY),
        ];
        let group_key: SymmetricKey = GROUP_KEY.parse().unwrap();
        let device = Device::new(SCOPE, "Dev-1");
        for spelling in ["Dev-1", "dev-1"] {
            let token = device.token(&group_key.derive(spelling), NOW + 60);
            let (_, keys, proof) = group(&token, device.claim(), &groups).unwrap();
            assert_eq!(keys.secondary, group_key.derive(spelling));
            assert_eq!(
                (proof.key, proof.lower_case, proof.passed.names.len()),
                (Slot::Secondary, spelling == "dev-1", 1)
            );
        }
        let token = device.token(&group_key.derive("DEV-1"), NOW + 60);
        assert!(group(&token, device.claim(), &groups).is_err());
    }
}
