//! Declared links: made at start when absent, replaced when the declaration changed, unlinked when
//! it is gone.
//!
//! The declaration is kept beside the link and committed with it, so that a declaration without its
//! link says that somebody removed the link. Links made while the service runs are not touched.

use azimuth_storage::{Change, Expect, Key};
use azimuth_wire::linked_hub::IotHubDefinition;

use super::{LinkedHubs, ROOM, link};
use crate::config::LinkedHubConfig;
use crate::error::Error;
use crate::records::{self, DECLARATIONS};

impl LinkedHubs {
    /// Applies all declarations of a start.
    pub async fn declare(&self, declared: &[LinkedHubConfig]) -> Result<(), Error> {
        for (position, link) in declared.iter().enumerate() {
            let host = link.host();
            let applied = if declared.iter().take(position).any(|l| l.host() == host) {
                Err(Error::Invalid("two linked hubs have this name".into()))
            } else {
                self.apply(link).await
            };
            applied.map_err(|source| Error::Declaration {
                what: "linked hub",
                name: host,
                source: source.into(),
            })?;
        }
        self.forget_others(declared).await
    }

    async fn apply(&self, wanted: &LinkedHubConfig) -> Result<(), Error> {
        link::check(wanted)?;
        let writing = self.writing.clone().lock_owned().await;
        let host = wanted.host();
        let declaration = link::definition(wanted);
        let key = declaration_key(&host);
        let last = self.store.get(&key)?;
        let last = last
            .map(|document| records::read(&key, &document.body))
            .transpose()?;
        let remember = Change::put(key, Expect::Anything, records::write(&declaration));
        let (expect, present) = self.present(&host)?;
        let Some(last) = last else {
            return self.relink(wanted, expect, remember, writing).await;
        };
        if last == declaration {
            return Ok(());
        }
        if !same_but_credential(&last, &declaration) {
            return self.relink(wanted, expect, remember, writing).await;
        }
        // The hub has another key; what was said about it has not changed. So neither what was
        // changed since is undone, nor a hub that was removed linked again.
        let Some(present) = present else {
            self.store.commit(vec![remember]).await?;
            return Ok(());
        };
        let present = IotHubDefinition {
            connection_string: declaration.connection_string,
            ..present
        };
        let renewed = link::of(present, None)?;
        self.relink(&renewed, expect, remember, writing).await
    }

    async fn relink(
        &self,
        link: &LinkedHubConfig,
        expect: Expect,
        remember: Change,
        writing: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<(), Error> {
        let hub = self.hub(link)?;
        self.write(hub, expect, vec![remember], writing).await?;
        Ok(())
    }

    /// A hub that left the configuration is gone; sending devices to it would be sending them nowhere.
    async fn forget_others(&self, declared: &[LinkedHubConfig]) -> Result<(), Error> {
        let hosts: Vec<_> = declared.iter().map(LinkedHubConfig::host).collect();
        let page = self.store.scan(DECLARATIONS, PREFIX, None, MOST)?;
        for (key, _) in &page.documents {
            let host = key.name().trim_start_matches(PREFIX).to_owned();
            if hosts.contains(&host) {
                continue;
            }
            let writing = self.writing.clone().lock_owned().await;
            let changes = vec![
                Change::delete(key.clone(), Expect::Anything),
                Change::delete(Key::new(ROOM, &host), Expect::Anything),
            ];
            self.commit(changes, host, None, writing).await?;
        }
        Ok(())
    }
}

fn declaration_key(host: &str) -> Key {
    Key::new(DECLARATIONS, &format!("{PREFIX}{host}"))
}

fn same_but_credential(one: &IotHubDefinition, other: &IotHubDefinition) -> bool {
    let without = |definition: &IotHubDefinition| IotHubDefinition {
        connection_string: String::new(),
        ..definition.clone()
    };
    without(one) == without(other)
}

/// Before the host name, among the declarations of other things.
const PREFIX: &str = "linkedHubs/";
/// Far more than anybody declares.
const MOST: usize = 10_000;
