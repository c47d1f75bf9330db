//! From a host name to the address that is dialled: what the plan says first, then the resolver.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::fault::{Fault, FaultKind};
use crate::plan::Plan;

/// How long an answer of the resolver is used: 100,000 devices ask for two names.
const FRESH: Duration = Duration::from_secs(60);

/// What the resolver said, and when.
#[derive(Default)]
pub(crate) struct Resolver(RefCell<HashMap<String, (IpAddr, Instant)>>);

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
            .or_else(|| self.remembered(host, now));
        if let Some(ip) = known {
            return Ok(SocketAddr::new(ip, port));
        }
        let found = tokio::net::lookup_host((host, port)).await;
        let reason = match found.map(|mut addresses| addresses.next()) {
            Ok(Some(address)) => {
                let mut memory = self.0.borrow_mut();
                memory.insert(host.into(), (address.ip(), now));
                return Ok(address);
            }
            Ok(None) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Fault::new(
            FaultKind::Dns,
            format!(
                "the name {host} cannot be resolved: {reason}. Add it to the hosts file, or say which address to dial for it"
            ),
        ))
    }

    fn remembered(&self, host: &str, now: Instant) -> Option<IpAddr> {
        let memory = self.0.borrow();
        let (ip, since) = memory.get(host)?;
        (now.saturating_duration_since(*since) < FRESH).then_some(*ip)
    }
}
