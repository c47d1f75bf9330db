//! Devices with certificates: a root, and a P-256 leaf of it for each client.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use azimuth_certs::{
    KeyKind, Signer, Wish, client_config_with_certificate, root, without_resumption,
};
use azimuth_clock::{Clock, SystemClock};
use tokio_rustls::TlsConnector;

use crate::credentials::device_id;

/// What each of some clients shows in its handshake.
pub struct Leaves {
    first: usize,
    connectors: Vec<TlsConnector>,
}

impl Leaves {
    /// Leaves for these clients, who trust the server's `ca_pem`; and the root that signed them, in PEM.
    pub fn new(clients: Range<usize>, ca_pem: &str) -> anyhow::Result<(Self, String)> {
        let now = SystemClock.utc();
        fn wish(common_name: &str, now: SystemTime) -> Wish<'_> {
            Wish {
                common_name,
                key: KeyKind::P256,
                days: 2,
                now,
            }
        }
        let made = root(wish("bench root", now))?;
        let signer = Signer::of(&made, now)?;
        let first = clients.start;
        let connectors = clients.map(|client| {
            let leaf = signer.leaf(wish(&device_id(client), now))?;
            let config =
                client_config_with_certificate(Some(ca_pem), &leaf.chain_pem, &leaf.key_pem)?;
            Ok(TlsConnector::from(Arc::new(without_resumption(config))))
        });
        let connectors = connectors.collect::<anyhow::Result<_>>()?;
        Ok((Self { first, connectors }, made.certificate_pem))
    }

    pub fn connector(&self, client: usize) -> anyhow::Result<&TlsConnector> {
        let at = client.checked_sub(self.first);
        at.and_then(|at| self.connectors.get(at))
            .with_context(|| format!("client {client} has no certificate"))
    }
}
