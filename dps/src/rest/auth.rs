//! Who may use the service API: a SAS token of a policy with the right for it.

use azimuth_broker::{Answer, Refusal};
use azimuth_wire::policy::DpsRights;
use azimuth_wire::sas::{CLOCK_SKEW_SECONDS, SasToken};

use crate::policies::Policies;

/// Judges an `Authorization` header for a resource: `{host}/{path}` under any of our names. Says whose policy it is.
pub fn authorize<'a>(
    header: Option<&str>,
    policies: &'a Policies,
    resources: &[String],
    needed: DpsRights,
    now: u64,
) -> Result<&'a str, Refusal> {
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
    let Some(policy) = policies.named(name) else {
        let sentence = format!(
            "there is no policy `{name}`; the token's skn must be one of {}",
            policies.names()
        );
        return refused("unknown-policy", sentence);
    };
    let keys = &policy.keys;
    if token
        .signer(&keys.primary_key, &keys.secondary_key)
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
    if !policy.rights.any_of(needed.and(DpsRights::ServiceConfig)) {
        return refused(
            "missing-right",
            format!(
                "the policy {name} holds {}, and this needs one of {needed}",
                policy.rights
            ),
        );
    }
    Ok(&keys.name)
}
