//! Azure's quota for container groups, for each subscription and region: how many groups and cores there may be, and how
//! many may be created in an hour and in five minutes (facts: 100, 100, 300 and 100 by default).
//!
//! Refuses as Azure does. Whether to ask is the planner's to decide.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use runner_core::quota::{AzureUse, ChangeRate, Standing};
use runner_core::setup::Setup;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const FIVE_MINUTES: SignedDuration = SignedDuration::from_mins(5);

/// What one subscription may have in one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Container groups at once.
    pub groups: u32,
    /// Cores at once.
    pub cores: u32,
    /// Creates in an hour.
    pub creates_per_hour: u32,
    /// Creates in five minutes.
    pub creates_per_5min: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { groups: 100, cores: 100, creates_per_hour: 300, creates_per_5min: 100 }
    }
}

impl Quota {
    /// More than anybody reaches.
    pub const UNLIMITED: Quota =
        Quota { groups: u32::MAX, cores: u32::MAX, creates_per_hour: u32::MAX, creates_per_5min: u32::MAX };

    /// Reads `none`, or `key=value,…` with each key over its default.
    ///
    /// # Errors
    /// The key or value that cannot be used, and what could be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self::UNLIMITED);
        }
        let mut quota = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not key=value: write it as groups=200,cores=500, or none")
            })?;
            let number = value
                .parse()
                .map_err(|_| format!("{key}: {value:?} is not a whole number: write it as {key}=100"))?;
            match key {
                "groups" => quota.groups = number,
                "cores" => quota.cores = number,
                "creates-per-hour" => quota.creates_per_hour = number,
                "creates-per-5min" => quota.creates_per_5min = number,
                other => {
                    return Err(format!(
                        "{other:?} is not known: there are groups, cores, creates-per-hour and creates-per-5min"
                    ));
                }
            }
        }
        Ok(quota)
    }
}

impl Quota {
    /// What Azure answers when it is asked: nobody else uses anything.
    pub(super) fn answer(&self) -> AzureUse {
        let standing = |limit: u32| Some(Standing { limit: limit.into(), others: 0 });
        AzureUse { groups: standing(self.groups), cores: standing(self.cores) }
    }

    /// Tells the planner of rates that Azure raised or lowered: they cannot be read. What documents say is left where
    /// Azure's are the default ones.
    pub(super) fn told(&self, setup: &mut Setup) {
        let default = Self::default();
        let rates = [
            (self.creates_per_5min, default.creates_per_5min, FIVE_MINUTES),
            (self.creates_per_hour, default.creates_per_hour, HOUR),
        ];
        if rates.iter().all(|(own, usual, _)| own == usual) {
            return;
        }
        let rates = rates.into_iter().filter(|(own, ..)| *own < u32::MAX);
        let rates: Vec<ChangeRate> =
            rates.map(|(count, _, per)| ChangeRate { count: count.into(), per }).collect();
        for quota in setup.quotas.values_mut() {
            quota.changes.clone_from(&rates);
        }
    }
}

/// What is in use, by subscription and region.
#[derive(Clone, Debug, Default)]
pub(super) struct Regions {
    used: BTreeMap<(String, String), Used>,
}

#[derive(Clone, Debug, Default)]
struct Used {
    groups: u32,
    cores: u32,
    /// Creates of the last hour, oldest first.
    creates: VecDeque<Timestamp>,
}

impl Regions {
    /// Takes the room for one group, or says in Azure's words why there is none.
    pub(super) fn create(
        &mut self,
        region: &(String, String),
        cores: u32,
        quota: &Quota,
        now: Timestamp,
    ) -> Result<(), String> {
        let used = self.used.entry(region.clone()).or_default();
        while used.creates.front().is_some_and(|at| now.duration_since(*at) >= HOUR) {
            used.creates.pop_front();
        }
        let lately =
            used.creates.iter().rev().take_while(|at| now.duration_since(**at) < FIVE_MINUTES).count();
        let reached = |count: usize, most: u32| u32::try_from(count).is_ok_and(|count| count >= most);
        if reached(used.creates.len(), quota.creates_per_hour) || reached(lately, quota.creates_per_5min) {
            return Err(format!(
                "TooManyRequests: {} creates in the last hour, {lately} in the last 5 minutes",
                used.creates.len()
            ));
        }
        let wanted = used.cores.saturating_add(cores);
        if used.groups >= quota.groups || wanted > quota.cores {
            return Err(format!(
                "ContainerGroupQuotaReached: {} of {} groups and {} of {} cores are in use",
                used.groups, quota.groups, used.cores, quota.cores
            ));
        }
        used.groups += 1;
        used.cores = wanted;
        used.creates.push_back(now);
        Ok(())
    }

    /// A group is gone.
    pub(super) fn free(&mut self, region: &(String, String), cores: u32) {
        if let Some(used) = self.used.get_mut(region) {
            used.groups = used.groups.saturating_sub(1);
            used.cores = used.cores.saturating_sub(cores);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn region() -> (String, String) {
        ("sub".to_owned(), "westeurope".to_owned())
    }

    #[test]
    fn groups_and_cores_are_free_again_once_a_group_is_gone() {
        let quota = Quota { groups: 2, cores: 5, ..Quota::default() };
        let mut regions = Regions::default();
        assert!(regions.create(&region(), 3, &quota, at(0)).is_ok());
        let why = regions.create(&region(), 3, &quota, at(1)).unwrap_err();
        assert!(why.starts_with("ContainerGroupQuotaReached"), "{why}");
        assert!(regions.create(&region(), 1, &quota, at(2)).is_ok());
        assert!(regions.create(&region(), 1, &quota, at(3)).is_err());
        regions.free(&region(), 3);
        assert!(regions.create(&region(), 4, &quota, at(4)).is_ok());
    }

    #[test]
    fn creates_are_counted_for_five_minutes_and_for_an_hour() {
        let quota = Quota { creates_per_5min: 2, creates_per_hour: 3, ..Quota::default() };
        let mut regions = Regions::default();
        let mut create = |seconds| {
            let made = regions.create(&region(), 1, &quota, at(seconds));
            regions.free(&region(), 1);
            made.is_ok()
        };
        assert!(create(0) && create(10));
        assert!(!create(20), "the third in five minutes");
        assert!(create(300), "the first is five minutes ago");
        assert!(!create(700), "the fourth in an hour");
        assert!(create(3600));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(Quota::parse("none"), Ok(Quota::UNLIMITED));
        assert_eq!(Quota::parse("groups=7").map(|quota| (quota.groups, quota.cores)), Ok((7, 100)));
        for (text, words) in [
            ("groups", ["\"groups\"", "key=value"]),
            ("groups=many", ["groups", "\"many\""]),
            ("nodes=3", ["\"nodes\"", "cores"]),
        ] {
            let error = Quota::parse(text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
