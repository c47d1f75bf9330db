//! The names and addresses a server certificate answers to.

use std::net::IpAddr;

use rcgen::SanType;
use rustls::pki_types::DnsName;

use crate::Error;

/// Host names and addresses of one server, in one normal form: lower case, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// Host names, without a dot at the end; the first label may be `*`.
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

impl ServerNames {
    /// Takes names and addresses as people write them, in any order. Fails on a name that cannot
    /// stand in a certificate.
    pub fn parse<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let dns = names.into_iter().map(|name| name.as_ref().to_owned());
        Self {
            dns: dns.collect(),
            ips: Vec::new(),
        }
        .normalised()
    }

    /// The same names in normal form; an address among the names moves to the addresses.
    pub fn normalised(&self) -> Result<Self, Error> {
        let mut dns = Vec::new();
        let mut ips = self.ips.clone();
        for name in &self.dns {
            let name = name.trim();
            match name.trim_matches(['[', ']']).parse() {
                Ok(address) => ips.push(address),
                Err(_) => dns.push(host_name(name)?),
            }
        }
        dns.sort();
        dns.dedup();
        ips.sort();
        ips.dedup();
        Ok(Self { dns, ips })
    }

    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty()
    }

    /// What stands as the subject's common name, which X.520 limits to 64 characters.
    pub(crate) fn common_name(&self) -> String {
        let names = self.dns.iter().cloned();
        names
            .chain(self.ips.iter().map(IpAddr::to_string))
            .find(|name| name.len() <= 64)
            .unwrap_or_else(|| "Azimuth server".to_owned())
    }

    pub(crate) fn subject_alternatives(&self) -> Result<Vec<SanType>, Error> {
        let names = self.dns.iter().map(|name| {
            let text = name.clone().try_into().map_err(Error::Issue)?;
            Ok(SanType::DnsName(text))
        });
        let addresses = self.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
        names.chain(addresses).collect()
    }
}

fn host_name(name: &str) -> Result<String, Error> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let rest = lower.strip_prefix("*.").unwrap_or(&lower);
    match DnsName::try_from(rest) {
        Ok(_) => Ok(lower),
        Err(_) => Err(Error::BadName(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_have_one_normal_form() {
        let names = ServerNames::parse([
            "LocalHost",
            "hub.example.",
            "127.0.0.11",
            "localhost",
            "[::1]",
            "127.0.0.11",
            "*.Azure-Devices.net",
        ]);
        let names = names.unwrap();
        assert_eq!(
            names.dns,
            ["*.azure-devices.net", "hub.example", "localhost"]
        );
        assert_eq!(
            names.ips,
            ["127.0.0.11", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        assert_eq!(names.normalised().unwrap(), names);
    }

    #[test]
    fn a_name_that_is_no_host_name_is_refused() {
        for name in ["", "a b", "héb.example", "a..b", "*", "a/b"] {
            assert!(ServerNames::parse([name]).is_err(), "{name}");
        }
    }
}
