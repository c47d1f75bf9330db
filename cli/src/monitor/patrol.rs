//! Monitors of several hubs side by side, and the webhook they share.
//!
//! What may not enter: flags, and how changes are shown.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use azimuth_clock::SystemClock;
use azimuth_monitor::{Change, Counts, Error, Hub, Request, Settings, Webhook, deliver, monitor};
use reqwest::{Client, Response, Url};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::endpoint::{Endpoint, Open};

/// Monitors that run in the present `LocalSet`.
pub struct Patrol {
    monitors: JoinSet<anyhow::Result<Counts>>,
    changes: mpsc::UnboundedReceiver<Change>,
    stop: CancellationToken,
    webhook: Option<(Webhook, JoinHandle<()>)>,
}

/// What still waits for the webhook at the end has so long.
const LAST_DELIVERIES: Duration = Duration::from_secs(10);
/// Of one POST.
const WEBHOOK_PATIENCE: Duration = Duration::from_secs(30);

impl Patrol {
    pub async fn start(
        hubs: Vec<Endpoint>,
        settings: Settings,
        webhook: Option<Url>,
    ) -> anyhow::Result<Self> {
        let webhook = match (webhook, hubs.first()) {
            (Some(url), Some(hub)) => {
                let (near, waiting) = Webhook::channel();
                let delivery = deliver(url, client(hub)?, waiting);
                Some((near, tokio::task::spawn_local(delivery)))
            }
            _ => None,
        };
        let settings = Rc::new(settings);
        let stop = CancellationToken::new();
        let (told, changes) = mpsc::unbounded_channel();
        let mut monitors = JoinSet::new();
        for hub in hubs {
            let hub = hub.open().await?;
            let (settings, stop, told) = (settings.clone(), stop.clone(), told.clone());
            monitors.spawn_local(async move {
                // Whoever took changes is gone when nobody wants them.
                let tell = |change| drop(told.send(change));
                let watched = monitor(&hub, &settings, &SystemClock, &tell, &stop).await;
                watched.with_context(|| format!("{} cannot be watched", hub.label()))
            });
        }
        Ok(Self {
            monitors,
            changes,
            stop,
            webhook,
        })
    }

    /// Tells of every change, until a hub cannot be watched.
    pub async fn walk(&mut self, tell: &impl Fn(&Change)) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // The end of all changes is no end: a monitor that failed says why.
                Some(change) = self.changes.recv() => {
                    tell(&change);
                    if let Some((webhook, _)) = &self.webhook {
                        webhook.push(change);
                    }
                }
                Some(ended) = self.monitors.join_next() => {
                    ended??;
                    return Err(anyhow!("a monitor ended"));
                }
                else => return Ok(()),
            }
        }
    }

    /// Stops, and lets the webhook have what it was not given yet. How many devices there were; an error if a hub
    /// was never reached.
    pub async fn end(mut self) -> anyhow::Result<Counts> {
        self.stop.cancel();
        let (mut sum, mut failed) = (Counts::default(), None);
        while let Some(ended) = self.monitors.join_next().await {
            match ended? {
                Ok(counts) => {
                    sum.expected += counts.expected;
                    sum.late += counts.late;
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some((near, delivery)) = self.webhook {
            drop(near);
            if tokio::time::timeout(LAST_DELIVERIES, delivery)
                .await
                .is_err()
            {
                tracing::error!("changes were not delivered to the webhook before the end");
            }
        }
        failed.map_or(Ok(sum), Err)
    }
}

impl Hub for Open {
    fn name(&self) -> &str {
        self.label()
    }

    async fn ask(&self, request: Request<'_>) -> Result<Response, Error> {
        let Request {
            method,
            path,
            query,
            headers,
            body,
        } = request;
        let answer = self.send(method, path, query, headers, body).await;
        answer.map_err(|error| Error::Unreachable(format!("{error:#}")))
    }
}

/// Trusts the simulator's CA and whom the system trusts.
fn client(hub: &Endpoint) -> anyhow::Result<Client> {
    let pem = std::fs::read_to_string(&hub.ca_file)
        .with_context(|| format!("the CA file {} cannot be read", hub.ca_file.display()))?;
    let tls = azimuth_certs::client_config_with_system_roots(&pem)?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(WEBHOOK_PATIENCE);
    Ok(client.build()?)
}
