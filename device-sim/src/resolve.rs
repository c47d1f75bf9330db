//! From a host name to the address that is dialled: what the plan says first, then the resolver.
//!
//! Addresses of containers change when these start anew, so an address that fails is forgotten at
//! once; that a name has none is never remembered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::fault::Fault;
use crate::plan::Plan;

/// How long an answer of the resolver is used: 100,000 devices ask for two names.
const FRESH: Duration = Duration::from_secs(60);

/// What the resolver said, and what it is being asked.
#[derive(Default)]
pub(crate) struct Resolver {
    memory: RefCell<Memory>,
    /// Devices that ask for a name at the same time share one answer, a failure as well.
    asked: RefCell<HashMap<Box<str>, Question>>,
}

type Question = Rc<OnceCell<Result<IpAddr, String>>>;

impl Resolver {
    /// `told` wins over the plan's addresses, those over an address in place of a name, and that
    /// over the resolver.
    pub(crate) async fn address(
        &self,
        plan: &Plan,
        host: &str,
        port: u16,
        told: Option<IpAddr>,
        now: Instant,
    ) -> Result<SocketAddr, Fault> {
        let known = told
            .or_else(|| plan.addresses.get(&host.to_ascii_lowercase()).copied())
            .or_else(|| host.parse().ok())
            .or_else(|| self.memory.borrow().recall(host, now));
        let found = match known {
            Some(ip) => Ok(ip),
            None => self.ask(host, now).await,
        };
        found
            .map(|ip| SocketAddr::new(ip, port))
            .map_err(|reason| Fault::unknown_name(host, &reason))
    }

    /// Nothing good came from this address: the next try takes another, or asks anew.
    pub(crate) fn note_failure(&self, host: &str, failed: IpAddr) {
        self.memory.borrow_mut().forget(host, failed);
    }

    #[cfg(test)]
    pub(crate) fn know(&self, host: &str, address: IpAddr, now: Instant) {
        self.memory.borrow_mut().learn(host, vec![address], now);
    }

    async fn ask(&self, host: &str, now: Instant) -> Result<IpAddr, String> {
        let question = self
            .asked
            .borrow_mut()
            .entry(host.into())
            .or_default()
            .clone();
        let answer = question
            .get_or_init(|| async {
                let found = tokio::net::lookup_host((host, 0)).await;
                // The next who asks while this answer is read begins a question of its own.
                self.asked.borrow_mut().remove(host);
                let found = found.map_err(|error| error.to_string())?;
                let addresses: Vec<_> = found.map(|address| address.ip()).collect();
                let first = addresses.first().copied();
                self.memory.borrow_mut().learn(host, addresses, now);
                first.ok_or_else(|| "it has no address".to_owned())
            })
            .await;
        answer.clone()
    }
}

/// Addresses by name, the next to dial first.
#[derive(Debug, Default)]
struct Memory(HashMap<Box<str>, (Vec<IpAddr>, Instant)>);

impl Memory {
    fn learn(&mut self, host: &str, addresses: Vec<IpAddr>, now: Instant) {
        self.0.insert(host.into(), (addresses, now));
    }

    fn recall(&self, host: &str, now: Instant) -> Option<IpAddr> {
        let (addresses, since) = self.0.get(host)?;
        let fresh = now.saturating_duration_since(*since) < FRESH;
        addresses.first().copied().filter(|_| fresh)
    }

    /// A name whose last address failed is asked for again.
    fn forget(&mut self, host: &str, failed: IpAddr) {
        if let Some((addresses, _)) = self.0.get_mut(host) {
            addresses.retain(|address| *address != failed);
            if addresses.is_empty() {
                self.0.remove(host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use crate::plan::{Credential, Who};

    const HUB: &str = "hub.test.net";

    fn ip(last: u8) -> IpAddr {
        [172, 28, 11, last].into()
    }

    #[test]
    fn an_answer_is_used_for_a_minute() {
        let mut memory = Memory::default();
        let start = Instant::now();
        memory.learn(HUB, vec![ip(2)], start);
        for (seconds, expected) in [(0, Some(ip(2))), (59, Some(ip(2))), (60, None)] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(memory.recall(HUB, now), expected, "{seconds}");
        }
        assert_eq!(memory.recall("other.test.net", start), None);
    }

    #[test]
    fn an_address_that_failed_makes_room_for_the_next_and_the_last_for_a_question() {
        let mut memory = Memory::default();
        let start = Instant::now();
        memory.learn(HUB, vec![ip(2), ip(3)], start);
        memory.forget(HUB, ip(2));
        assert_eq!(memory.recall(HUB, start), Some(ip(3)));
        // Many devices fail at one address; only the first of them is news.
        memory.forget(HUB, ip(2));
        assert_eq!(memory.recall(HUB, start), Some(ip(3)));
        memory.forget(HUB, ip(3));
        assert_eq!(memory.recall(HUB, start), None);
        memory.learn(HUB, vec![], start);
        assert_eq!(memory.recall(HUB, start), None, "no address is no answer");
        memory.learn(HUB, vec![ip(9)], start);
        assert_eq!(memory.recall(HUB, start), Some(ip(9)));
    }

    #[tokio::test]
    async fn the_plan_comes_first_and_a_name_without_address_is_asked_for_each_time() {
        let key = "A".repeat(44);
        let text = format!("HostName={HUB};SharedAccessKeyName=device;SharedAccessKey={key}");
        let who = Who::Named(vec!["d".into()]);
        let mut plan = Plan::new(who, Credential::HubPolicy(text.parse().unwrap()), None);
        let resolver = Resolver::default();
        let now = Instant::now();
        let nameless = "no-such-name.invalid";
        for _ in 0..2 {
            let asked = [
                resolver.address(&plan, nameless, 1, None, now),
                resolver.address(&plan, nameless, 1, None, now),
            ];
            for answer in futures(asked).await {
                let sentence = answer.unwrap_err().sentence;
                assert!(sentence.contains(nameless), "{sentence}");
            }
            assert!(resolver.asked.borrow().is_empty());
        }
        assert!(resolver.memory.borrow().0.is_empty());
        plan.addresses.insert(HUB.into(), ip(4));
        for (host, told, expected) in [
            (HUB, None, ip(4)),
            (HUB, Some(ip(5)), ip(5)),
            ("172.28.11.6", None, ip(6)),
            ("localhost", None, [127, 0, 0, 1].into()),
        ] {
            let found = resolver.address(&plan, host, 1, told, now).await.unwrap();
            assert!(found.ip() == expected || host == "localhost" && found.ip().is_loopback());
            resolver.note_failure(host, found.ip());
        }
    }

    async fn futures<F: Future>(both: [F; 2]) -> [F::Output; 2] {
        let [first, second] = both;
        let (first, second) = tokio::join!(first, second);
        [first, second]
    }
}
