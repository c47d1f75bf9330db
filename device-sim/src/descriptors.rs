//! The descriptors a fleet needs, against those the process may open. Checked before the first dial.

use crate::error::PlanError;

/// What a process has open besides its devices: runtime, log, standard streams, resolver.
const OTHERS: u64 = 64;

/// Raises the soft limit of open files to the hard one and checks that `devices` fit.
pub(crate) fn reserve(devices: u64) -> Result<(), PlanError> {
    let limit = rlimit::increase_nofile_limit(u64::MAX)
        .map_err(|error| PlanError::UnknownLimit(error.to_string()))?;
    fits(devices, limit)
}

fn fits(devices: u64, limit: u64) -> Result<(), PlanError> {
    let needed = devices.saturating_add(OTHERS);
    if needed <= limit {
        return Ok(());
    }
    let room = limit.saturating_sub(OTHERS).max(1);
    let shards = devices.div_ceil(room);
    Err(PlanError::Descriptors {
        devices,
        needed,
        limit,
        shards,
        last: shards - 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_does_not_fit_is_told_how_to_split() {
        assert_eq!(fits(19_936, 20_000), Ok(()));
        let refusal = fits(100_000, 20_000).map_err(|error| error.to_string());
        assert_eq!(
            refusal.unwrap_err(),
            "100000 devices need 100064 file descriptors and this process may open 20000 (ulimit -Hn): split the fleet over 6 processes with `--shard 0/6` to `--shard 5/6`, or raise the limit"
        );
    }
}
