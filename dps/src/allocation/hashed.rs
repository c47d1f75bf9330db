//! Evenly weighted allocation: weighted rendezvous hashing over the folded registration id.
//!
//! The same device gets the same hub every time, each hub its share by weight, and a hub that
//! comes, goes or changes weight moves no more devices than it must.

use super::Candidate;
use crate::fingerprint::fingerprint;

pub(super) fn choose<'a>(
    registration_id: &str,
    candidates: &[Candidate<'a>],
) -> Option<Candidate<'a>> {
    let scored = candidates
        .iter()
        .map(|hub| (score(registration_id, hub), hub));
    scored
        .max_by(|(one, a), (other, b)| one.total_cmp(other).then_with(|| a.host.cmp(b.host)))
        .map(|(_, hub)| *hub)
}

/// With `u` even between 0 and 1, `weight / -ln u` is the greatest with a chance in proportion to
/// its weight, and depends on no other hub.
fn score(registration_id: &str, hub: &Candidate<'_>) -> f64 {
    let bits = fingerprint([registration_id, hub.host]) >> 11;
    #[allow(clippy::cast_precision_loss)]
    let even = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(hub.weight.max(1)) / -even.ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DEVICES: usize = 20_000;

    fn hubs(weights: &[(&'static str, u16)]) -> Vec<Candidate<'static>> {
        let hub = |&(host, weight)| Candidate {
            host,
            region: "eastus",
            weight,
            apply_allocation_policy: true,
        };
        weights.iter().map(hub).collect()
    }

    fn choices(hubs: &[Candidate<'static>]) -> Vec<&'static str> {
        let one = |number| choose(&format!("device-{number:05}"), hubs).unwrap().host;
        (0..DEVICES).map(one).collect()
    }

    fn moved(before: &[&str], after: &[&str]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    /// Within three standard deviations of `share` of the devices.
    fn near(count: usize, share: f64) -> bool {
        let (n, count) = (DEVICES as f64, count as f64);
        (count - n * share).abs() <= 3.0 * (n * share * (1.0 - share)).sqrt()
    }

    #[test]
    fn each_hub_gets_its_share_by_weight() {
        let hubs = hubs(&[("a", 1), ("b", 2), ("c", 5)]);
        let choices = choices(&hubs);
        for hub in &hubs {
            let count = choices.iter().filter(|host| **host == hub.host).count();
            assert!(
                near(count, f64::from(hub.weight) / 8.0),
                "{} {count}",
                hub.host
            );
        }
    }

    #[test]
    fn a_new_hub_takes_its_share_and_nobody_else_moves() {
        let before = choices(&hubs(&[("a", 1), ("b", 1)]));
        let after = choices(&hubs(&[("a", 1), ("b", 1), ("c", 1)]));
        let to_others = before
            .iter()
            .zip(&after)
            .filter(|(a, b)| a != b && **b != "c");
        assert_eq!(to_others.count(), 0);
        assert!(near(moved(&before, &after), 1.0 / 3.0));
    }

    #[test]
    fn only_the_devices_of_a_hub_that_leaves_move() {
        let before = choices(&hubs(&[("a", 1), ("b", 1), ("c", 1)]));
        let after = choices(&hubs(&[("a", 1), ("c", 1)]));
        let strangers = before
            .iter()
            .zip(&after)
            .filter(|(a, b)| a != b && **a != "b");
        assert_eq!(strangers.count(), 0);
    }

    #[test]
    fn case_and_the_order_of_hubs_do_not_count() {
        let (forth, back) = (hubs(&[("a", 1), ("b", 3)]), hubs(&[("b", 3), ("a", 1)]));
        for id in ["x", "Device-7", "a.b_c:d-1"] {
            assert_eq!(
                choose(id, &forth),
                choose(&id.to_uppercase(), &back),
                "{id}"
            );
        }
    }
}
