//! Sees to it that what happens is told: to the event log and to the subscriptions of Event Grid, where they ask for it.
//!
//! Where nobody asks, nothing is made, written or kept. May not enter: what a notification says.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use azimuth_broker::{Lane, Storing};
use azimuth_clock::Clock;
use azimuth_storage::{Change, Expect, Key, Store};
use azimuth_wire::Identity;
use azimuth_wire::registry::ConnectionState;
use azimuth_wire::time::{self, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::snapshot::Snapshots;
use super::{Happening, Notification, Numbers, Source, Sources, lifecycle};
use crate::error::Error;
use crate::event_grid::{GridEvent, Post, Waiting, subject};
use crate::twin::Twin;

/// Who is told, and how.
pub struct NotifierConfig {
    pub hub: String,
    /// What the event log takes.
    pub sources: Sources,
    pub posts: Vec<Arc<Post>>,
    /// Of the event log.
    pub partitions: u16,
    /// Whether connections are told as Azure does it, once a minute, instead of at once.
    pub snapshots: bool,
}

/// Tells what happens to identities.
pub struct Notifier {
    config: NotifierConfig,
    numbers: Numbers,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lanes: OnceLock<Box<dyn Lanes>>,
    outbox: Outbox,
    snapshots: Option<Mutex<Snapshots>>,
}

/// The way to the event log.
pub trait Lanes: Send + Sync {
    /// Puts envelopes on their lanes, at once; the future says whether they are stored.
    fn put(&self, envelopes: Vec<(Lane, Vec<u8>)>) -> Stored;
}

pub type Stored = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Lanes for Storing {
    fn put(&self, envelopes: Vec<(Lane, Vec<u8>)>) -> Stored {
        let borrowed = envelopes
            .iter()
            .map(|(lane, envelope)| (*lane, &envelope[..]));
        Box::pin(Storing::put(self, borrowed).stored())
    }
}

/// What is told of a write: to be committed with it, and then given back.
#[must_use = "what is not announced is told after the next start"]
pub struct Announcement {
    /// To be committed with the write.
    pub changes: Vec<Change>,
    logged: bool,
    number: super::Number,
    posts: Vec<(Arc<Post>, Waiting)>,
}

impl Notifier {
    /// Numbers go on where the run before this one ended.
    pub async fn open(
        config: NotifierConfig,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let key = Key::new("notification", "run");
        let now = clock.utc();
        let before = store.get(&key)?;
        let before = before.and_then(|document| serde_json::from_slice(&document.body).ok());
        let numbers = Numbers::begin(now, before);
        if !config.sources.is_empty() || !config.posts.is_empty() {
            let run = serde_json::to_vec(&numbers.run())?;
            let changes = vec![Change::put(key, Expect::Anything, run)];
            store.commit(changes).await?;
        }
        Ok(Self {
            outbox: Outbox::new(store.clone(), config.partitions),
            snapshots: config.snapshots.then(|| Mutex::new(Snapshots::begin(now))),
            config,
            numbers,
            store,
            clock,
            lanes: OnceLock::new(),
        })
    }

    /// The event log takes notifications from now on.
    pub fn opened(&self, lanes: Box<dyn Lanes>) {
        // A hub opens once.
        let _ = self.lanes.set(lanes);
    }

    /// Works until the hub stops. `address` is `https://` and where it is found.
    pub async fn run(self: Arc<Self>, address: String, stopping: CancellationToken) {
        let works = tokio::task::JoinSet::from_iter(self.config.posts.iter().map(|post| {
            let (post, address) = (post.clone(), address.clone());
            async move { post.work(&address).await }
        }));
        let outbox = async {
            if let Some(lanes) = self.lanes.get() {
                self.outbox.empty(&**lanes).await;
            }
            std::future::pending().await
        };
        let looks = async {
            if self.snapshots.is_none() || !self.hears_connections() {
                std::future::pending::<()>().await;
            }
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                self.look(self.clock.utc());
            }
        };
        tokio::select! {
            () = stopping.cancelled() => drop(works),
            () = outbox => {}
            () = looks => {}
        }
    }

    pub fn posts(&self) -> &[Arc<Post>] {
        &self.config.posts
    }

    /// What is told of an identity that is made or deleted; `None` where nobody asks. `twin` is its first or its last.
    pub fn lifecycle(
        &self,
        happening: Happening,
        identity: &Identity,
        twin: impl FnOnce() -> Result<Twin, Error>,
    ) -> Result<Option<Announcement>, Error> {
        let logged = self
            .config
            .sources
            .contains(&Source::of(happening, identity));
        let posts = self.posts_for(happening, identity);
        if !logged && posts.is_empty() {
            return Ok(None);
        }
        let twin = twin()?;
        let notification = self.notification(happening, identity);
        let mut announcement = Announcement {
            changes: Vec::new(),
            logged,
            number: notification.number,
            posts: Vec::new(),
        };
        if logged {
            let envelope = notification.envelope(&lifecycle(identity, &twin)?);
            let left = Outbox::leave(notification.number, envelope);
            announcement.changes.push(left);
        }
        for post in posts {
            let event = GridEvent::of_lifecycle(
                &self.config.hub,
                identity,
                happening,
                &initial(identity, &twin),
                notification.at,
            );
            let (change, waiting) = post.keep(notification.number, event?)?;
            announcement.changes.push(change);
            announcement.posts.push((post, waiting));
        }
        Ok(Some(announcement))
    }

    /// A write is committed, with the changes of these announcements.
    pub async fn committed(&self, announcements: Vec<Announcement>) {
        let mut logged = Vec::new();
        for announcement in announcements {
            logged.extend(announcement.logged.then_some(announcement.number));
            for (post, waiting) in announcement.posts {
                post.added(announcement.number, waiting);
            }
        }
        if !logged.is_empty() {
            self.outbox.handed_on(logged).await;
        }
    }

    /// Whether anybody asks for connections.
    pub fn hears_connections(&self) -> bool {
        !self.config.posts.is_empty()
            || self.config.sources.contains(&Source::DeviceConnectionState)
    }

    /// An identity is on the line or off it, from `since` on.
    pub fn connection(&self, identity: &Identity, state: ConnectionState, since: SystemTime) {
        match &self.snapshots {
            Some(snapshots) => snapshots.lock().turned(identity, state, since),
            None => self.tell(identity, state),
        }
    }

    /// An identity is off the line because the hub stops.
    pub fn ended(&self, identity: &Identity) {
        let told = match &self.snapshots {
            Some(snapshots) => snapshots.lock().ended(identity),
            None => true,
        };
        if told {
            self.tell(identity, ConnectionState::Disconnected);
        }
    }

    /// Tells what is to be told at this time.
    pub fn look(&self, now: SystemTime) {
        let Some(snapshots) = &self.snapshots else {
            return;
        };
        let told = snapshots.lock().look(now);
        for (identity, state) in told {
            self.tell(&identity, state);
        }
    }

    fn tell(&self, identity: &Identity, state: ConnectionState) {
        let happening = match state {
            ConnectionState::Connected => Happening::Connected,
            ConnectionState::Disconnected => Happening::Disconnected,
        };
        let notification = self.notification(happening, identity);
        if self.config.sources.contains(&notification.source())
            && let Some(lanes) = self.lanes.get()
        {
            let envelope = notification.envelope(&notification.state());
            let lane = self.outbox.lane(identity.device.as_str());
            // Nobody waits: the router says in the log what it cannot store.
            drop(lanes.put(vec![(lane, envelope)]));
        }
        for post in self.posts_for(happening, identity) {
            let (number, at) = (notification.number, notification.at);
            let event = GridEvent::of_connection(&self.config.hub, identity, happening, number, at);
            let Ok((change, waiting)) = post.keep(number, event) else {
                continue;
            };
            // Queued here and now, in the order of the numbers.
            let committed = self.store.commit(vec![change]);
            tokio::spawn(async move {
                match committed.await {
                    Ok(_) => post.added(number, waiting),
                    Err(error) => {
                        tracing::error!(%error, subscription = post.name(), "an event could not be kept");
                    }
                }
            });
        }
    }

    fn notification<'a>(
        &'a self,
        happening: Happening,
        identity: &'a Identity,
    ) -> Notification<'a> {
        Notification {
            hub: &self.config.hub,
            identity,
            happening,
            at: self.clock.utc().into(),
            number: self.numbers.next(),
        }
    }

    fn posts_for(&self, happening: Happening, identity: &Identity) -> Vec<Arc<Post>> {
        if self.config.posts.is_empty() {
            return Vec::new();
        }
        let subject = subject(identity);
        let posts = self.config.posts.iter();
        let posts = posts.filter(|post| post.wants(happening, &subject));
        posts.cloned().collect()
    }
}

/// The twin of the same identity before anybody wrote it.
fn initial(identity: &Identity, twin: &Twin) -> Twin {
    // A module's twin does not say when it was made.
    let created = match &identity.module {
        None => twin.generation_id.parse().ok(),
        Some(_) => None,
    };
    let created = created.map_or(Timestamp::NEVER, time::of_dotnet_ticks);
    Twin::initial(&twin.generation_id, created)
}
