//! Slots: processes that share a folder, each with devices that no other has.
//!
//! A slot is a file that is locked for as long as a process lives. Whoever dies, however it dies, leaves
//! its slot free, and its successor goes on with the same devices. The folder must be on a file system
//! with locks that all of them see: a volume of one machine is.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};
use azimuth_device_sim::Plan;

/// A fleet of more processes splits better by `--shard`.
const MOST: u64 = 10_000;

/// A taken slot; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    /// From 1.
    number: u64,
    _lock: File,
}

impl Slot {
    /// Takes the first slot of the folder that is free. The folder is made where it is missing.
    pub fn take(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("the folder of slots {} cannot be made", folder.display()))?;
        for number in 1..=MOST {
            let path = folder.join(format!("slot-{number}.lock"));
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .with_context(|| format!("the slot {} cannot be opened", path.display()))?;
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        number,
                        _lock: file,
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| {
                        format!(
                            "the slot {} cannot be locked: its file system may have no locks",
                            path.display()
                        )
                    });
                }
            }
        }
        bail!("all {MOST} slots of {} are taken", folder.display())
    }

    /// The number of its first device, where each slot has `count` devices called `name`.
    pub fn first(&self, name: &str, count: u64) -> anyhow::Result<u64> {
        let slot = self.number;
        if slot > 1 && !name.contains("{n}") {
            bail!(
                "the device name `{name}` has no `{{n}}`, and slot 1 has this device already: slot {slot} would run it twice"
            );
        }
        (slot - 1)
            .checked_mul(count)
            .and_then(|before| before.checked_add(1))
            .with_context(|| format!("slot {slot} has no numbers left for {count} devices"))
    }

    /// Which devices it runs, in a line.
    pub fn line(&self, plan: &Plan) -> String {
        let slot = self.number;
        let name = |number| plan.name(number).unwrap_or_default();
        let (from, last) = (name(0), name(plan.devices().saturating_sub(1)));
        let to = match (from.rsplit_once('-'), last.rsplit_once('-')) {
            _ if from == last => return format!("slot {slot}: {from}"),
            (Some((stem, _)), Some((same, number))) if stem == same => format!("-{number}"),
            _ => last,
        };
        format!("slot {slot}: {from} to {to}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use azimuth_device_sim::{Credential, Who};

    use super::*;

    fn folder(test: &str) -> PathBuf {
        let name = format!("azimuth-slots-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    fn slot(number: u64) -> Slot {
        let _lock = File::open("/dev/null").unwrap();
        Slot { number, _lock }
    }

    #[test]
    fn slots_taken_at_one_time_are_disjoint_and_a_free_one_is_taken_again() {
        let folder = folder("disjoint");
        let takers: Vec<_> = (0..8)
            .map(|_| {
                let folder = folder.clone();
                std::thread::spawn(move || Slot::take(&folder).unwrap())
            })
            .collect();
        let mut slots: Vec<_> = takers.into_iter().map(|one| one.join().unwrap()).collect();
        let numbers: BTreeSet<_> = slots.iter().map(|slot| slot.number).collect();
        assert_eq!(numbers, (1..=8).collect());
        slots.retain(|slot| slot.number != 3);
        assert_eq!(Slot::take(&folder).unwrap().number, 3);
        let three = Slot::take(&folder).unwrap();
        assert_eq!((three.number, Slot::take(&folder).unwrap().number), (3, 9));
        drop((three, slots));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_slot_says_which_devices_it_runs() {
        for (number, name, count, line) in [
            (2, "simdevice-{n}", 100, "slot 2: simdevice-101 to -200"),
            (1, "simdevice-{n}", 100, "slot 1: simdevice-1 to -100"),
            (3, "simdevice-{n}", 1, "slot 3: simdevice-3"),
            (2, "d{n}x", 2, "slot 2: d3x to d4x"),
            (1, "only", 1, "slot 1: only"),
        ] {
            let slot = slot(number);
            let first = slot.first(name, count).unwrap();
            let name = name.into();
            let key = "A".repeat(44);
            let hub = format!("HostName=h.net;SharedAccessKeyName=device;SharedAccessKey={key}");
            let credential = Credential::HubPolicy(hub.parse().unwrap());
            let plan = Plan::new(Who::Numbered { name, first, count }, credential, None);
            assert_eq!(slot.line(&plan), line);
        }
    }

    #[test]
    fn what_would_run_a_device_twice_is_refused() {
        let refusal =
            |number, name, count| slot(number).first(name, count).unwrap_err().to_string();
        assert!(refusal(2, "only", 1).contains("has no `{n}`"));
        assert!(refusal(3, "d{n}", u64::MAX).contains("no numbers left"));
        let nowhere = Slot::take(Path::new("/dev/null/slots")).unwrap_err();
        assert!(nowhere.to_string().contains("/dev/null/slots"));
    }
}
