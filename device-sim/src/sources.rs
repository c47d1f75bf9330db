//! The addresses that devices dial from.
//!
//! A source address has about 28,000 ports towards one server port, so a large fleet needs
//! several; on Linux the whole of 127.0.0.0/8 may be bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::error::PlanError;

/// Where devices dial from, one after the other in turn.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sources {
    /// The kernel chooses.
    #[default]
    Any,
    /// Never empty when read from text.
    List(Vec<IpAddr>),
    /// Every host address of a network.
    Net(IpNet),
}

impl Sources {
    /// The address of the `n`-th device, if one was asked for.
    pub fn pick(&self, n: u64) -> Option<IpAddr> {
        match self {
            Self::Any => None,
            Self::List(list) => {
                let place = n.checked_rem(list.len() as u64)?;
                list.get(usize::try_from(place).ok()?).copied()
            }
            Self::Net(net) => Some(host(net, n)),
        }
    }
}

/// The `n`-th host, in turn: without the network's and the broadcast address where it has them.
fn host(net: &IpNet, n: u64) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let hosts =
                (1u64 << (32 - net.prefix_len())) - if net.prefix_len() < 31 { 2 } else { 0 };
            let first = u64::from(u32::from(net.network())) + u64::from(net.prefix_len() < 31);
            Ipv4Addr::from((first + n % hosts) as u32).into()
        }
        IpNet::V6(net) => {
            let bits = u32::from(128 - net.prefix_len()).min(63);
            let offset = u128::from(n) % (1u128 << bits);
            Ipv6Addr::from(u128::from(net.network()) + offset).into()
        }
    }
}

/// `127.0.1.1`, `127.0.1.1,127.0.1.2` or `127.0.1.0/24`.
impl FromStr for Sources {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let invalid = || PlanError::Sources(text.into());
        if text.contains('/') {
            return text.trim().parse().map(Self::Net).map_err(|_| invalid());
        }
        let list = text.split(',').map(|one| one.trim().parse());
        list.collect::<Result<_, _>>()
            .map(Self::List)
            .map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_take_the_addresses_in_turn() {
        for (text, n, expected) in [
            ("127.0.1.1", 5, "127.0.1.1"),
            ("127.0.1.1, 127.0.1.2", 3, "127.0.1.2"),
            ("127.0.1.0/24", 0, "127.0.1.1"),
            ("127.0.1.0/24", 253, "127.0.1.254"),
            ("127.0.1.0/24", 254, "127.0.1.1"),
            ("127.0.1.9/32", 7, "127.0.1.9"),
            ("127.0.1.8/31", 3, "127.0.1.9"),
            ("0.0.0.0/0", 0, "0.0.0.1"),
            ("fd00::/64", 2, "fd00::2"),
            ("fd00::1/128", 2, "fd00::1"),
        ] {
            let sources: Sources = text.parse().unwrap();
            assert_eq!(sources.pick(n), Some(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(Sources::Any.pick(3), None);
        assert_eq!(Sources::List(vec![]).pick(3), None);
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for text in ["", "host", "127.0.0.1,", "127.0.0.0/33"] {
            let refusal = text.parse::<Sources>().unwrap_err();
            assert_eq!(refusal, PlanError::Sources(text.into()));
        }
    }
}
