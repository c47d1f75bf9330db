//! Who may use the service API: a SAS token of the one policy.

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::policy::{DPS_OWNER, DpsRights, PolicyKeys};
use azimuth_wire::sas::{CLOCK_SKEW_SECONDS, SasToken};

/// Judges an `Authorization` header for a resource: `{host}/{path}` under any of our names.
pub fn authorize(
    header: Option<&str>,
    policy: &PolicyKeys,
    resources: &[String],
    needed: DpsRights,
    now: u64,
) -> Result<(), Refusal> {
    let refused = |kind, sentence: String| {
        Err(Refusal::new(
            kind,
            Answer::Http(401, "Unauthorized".into()),
            sentence,
        ))
    };
    let Some(header) = header else {
        return refused(
            "no-credentials",
            "the request has no Authorization header".into(),
        );
    };
    let token = match SasToken::parse(header) {
        Ok(token) => token,
        Err(error) => {
            return refused(
                "malformed-token",
                format!("Authorization is not a SAS token: {error}"),
            );
        }
    };
    let name = token.key_name().unwrap_or_default();
    if name != policy.name {
        let sentence = format!(
            "there is no policy `{name}`; the token's skn must be {}",
            policy.name
        );
        return refused("unknown-policy", sentence);
    }
    if token
        .signer(&policy.primary_key, &policy.secondary_key)
        .is_none()
    {
        let sentence = format!("neither key of the policy {name} signed the token");
        return refused("wrong-key", sentence)
            .map_err(|refusal: Refusal| refusal.fact("text signed", token.string_to_sign()));
    }
    if token.expired(now, CLOCK_SKEW_SECONDS) {
        let late = now.saturating_sub(token.expiry());
        let sentence =
            format!("the token expired {late} s ago; {CLOCK_SKEW_SECONDS} s are allowed");
        return refused("sas-expired", sentence).map_err(|refusal: Refusal| {
            refusal
                .fact("expiry", token.expiry())
                .fact("time here", now)
        });
    }
    if !resources.iter().any(|resource| token.covers(resource)) {
        let sentence = format!(
            "the token is for `{}`, the request for `{}`",
            token.resource(),
            resources.join("` or `")
        );
        return refused("wrong-resource", sentence);
    }
    // `ServiceConfig` opens every service route.
    let held = DPS_OWNER.1;
    if !held.any_of(needed.and(DpsRights::ServiceConfig)) {
        return refused(
            "missing-right",
            format!("the policy {name} does not hold {needed}"),
        );
    }
    Ok(())
}
