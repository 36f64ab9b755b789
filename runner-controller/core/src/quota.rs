//! Azure's quota for container groups: how many there may be at once, and how many may be made and deleted in a while.
//!
//! It belongs to a subscription and region, is shared by all places there and by whatever else runs there, and nobody but
//! Azure enforces it: a pod that exceeds it is taken by the virtual node, and fails. Defaults are those of Azure's
//! documentation ("Resource availability & quota limits for ACI"): 100 groups and 100 cores, and 100 creates in 5 minutes and
//! 300 in an hour, deletes the same.
//!
//! With each create a delete is reserved: nothing is started that could not be deleted at once. What was made and deleted
//! is derived from the records of runners while they last, and remembered afterwards.

mod exceeded;

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::prelude::ToPrimitive as _;

pub use self::exceeded::{Exceeded, QuotaKind};
use crate::billing;
use crate::lifecycle::Runner;
use crate::setup::{Place, Setup, Size, saturating_add};

/// Groups, and cores, where neither the configuration nor Azure says otherwise.
const DEFAULT_STANDING: u64 = 100;
/// What was made and deleted is remembered to this: rounded up, so that it is forgotten late rather than early.
const REMEMBERED_TO: i64 = 5;

/// What may be used of one subscription and region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The region, or the subscription where no region is known. For people.
    pub name: String,
    /// Groups at once, whether or not they have ended, where the configuration caps them.
    pub groups: Option<u64>,
    /// Cores at once, where the configuration caps them.
    pub cores: Option<u64>,
    /// How many groups may be made in a while, and as many deleted.
    pub changes: Vec<ChangeRate>,
}

/// How many groups may be made, and as many deleted, in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRate {
    /// So many.
    pub count: u64,
    /// In any stretch of this length.
    pub per: SignedDuration,
}

impl ChangeRate {
    /// Azure's defaults: 100 in 5 minutes, 300 in an hour.
    pub fn defaults() -> Vec<Self> {
        vec![
            Self { count: 100, per: SignedDuration::from_mins(5) },
            Self { count: 300, per: SignedDuration::from_hours(1) },
        ]
    }
}

/// What Azure says of one subscription and region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AzureUse {
    /// Groups.
    pub groups: Option<Standing>,
    /// Cores.
    pub cores: Option<Standing>,
}

/// How much of something there may be, and how much of it is not Stint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// So much may be in use.
    pub limit: u64,
    /// So much is in use by others.
    pub others: u64,
}

/// So many groups were made and deleted until a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Groups made.
    pub creates: u32,
    /// Groups deleted.
    pub deletes: u32,
}

/// Groups that were made and deleted and whose runners' records are gone, by quota and moment.
pub type Past = BTreeMap<String, BTreeMap<Timestamp, Change>>;

/// What is remembered of groups that were made and deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    past: Past,
    /// Runners that are recorded, with their quota and when their groups were made and deleted, as far as is known.
    live: BTreeMap<String, (String, Option<Timestamp>, Option<Timestamp>)>,
}

impl Changes {
    /// What an earlier process remembered.
    pub fn of_past(past: Past) -> Self {
        Self { past, live: BTreeMap::new() }
    }

    /// What a later process must remember: the changes of runners whose records are gone.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Learns from the runners there are. Seeing the same ones again changes nothing.
    pub fn note(&mut self, setup: &Setup, runners: &[Runner], now: Timestamp) {
        let mut before = std::mem::take(&mut self.live);
        for runner in runners {
            let known = before.remove(&runner.name).map(|(quota, ..)| quota);
            // A place may vanish while its runners stay, as with a virtual node that is away: what is known of it holds.
            let quota = quota_of(setup, runner).map(str::to_owned).or(known);
            if let Some(quota) = quota.filter(|_| runner.facts.launching.is_some()) {
                self.live.insert(runner.name.clone(), (quota, created_by(runner), runner.facts.gone));
            }
        }
        for (quota, created, deleted) in before.into_values() {
            self.at(&quota, created.unwrap_or(now)).creates += 1;
            self.at(&quota, deleted.unwrap_or(now)).deletes += 1;
        }
        self.past.retain(|quota, past| {
            let rates = setup.quotas.get(quota).map_or(&[][..], |quota| quota.changes.as_slice());
            let longest = rates.iter().map(|rate| rate.per).max().unwrap_or(SignedDuration::from_hours(1));
            past.retain(|at, _| saturating_add(*at, longest) > now);
            !past.is_empty()
        });
    }

    fn at(&mut self, quota: &str, at: Timestamp) -> &mut Change {
        let second = at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0));
        let rounded = -(-second).div_euclid(REMEMBERED_TO).saturating_mul(REMEMBERED_TO);
        let moment = Timestamp::from_second(rounded).unwrap_or(at);
        self.past.entry(quota.to_owned()).or_default().entry(moment).or_default()
    }
}

/// The quota that a runner counts against: that of its place, or the one it was last seen to count against.
fn quota_in<'a>(setup: &'a Setup, changes: &'a Changes, runner: &Runner) -> Option<&'a str> {
    let known = || changes.live.get(&runner.name).map(|(quota, ..)| quota.as_str());
    quota_of(setup, runner).or_else(known)
}

fn quota_of<'a>(setup: &'a Setup, runner: &Runner) -> Option<&'a str> {
    let place = setup.places.get(&runner.place).filter(|_| runner.kind.has_group())?;
    place.quota.as_deref()
}

/// When Azure had surely been asked for the runner's group, if that is known. The pod's creation says less: a virtual node
/// may take a while to ask.
fn created_by(runner: &Runner) -> Option<Timestamp> {
    let facts = &runner.facts;
    let group = facts.group.as_ref();
    let read = group.and_then(|group| group.pull_started.or(group.started).or(group.seen_at));
    [read, facts.agent.booted, facts.gone].into_iter().flatten().min()
}

/// How many groups of Stint's, and cores of theirs, Azure is sure to count.
pub fn stands(setup: &Setup, changes: &Changes, quota: &str, runners: &[Runner]) -> (u64, u64) {
    let own = runners.iter().filter(|runner| {
        quota_in(setup, changes, runner) == Some(quota)
            && runner.facts.gone.is_none()
            && created_by(runner).is_some()
    });
    own.fold((0, 0), |(groups, cores), runner| {
        let ended = runner.facts.group.as_ref().is_some_and(|group| group.stopped.is_some());
        let more = if ended { 0 } else { whole_cores(runner.size) };
        (groups + 1, cores.saturating_add(more))
    })
}

fn whole_cores(size: Size) -> u64 {
    billing::group_size(size).0.ceil().to_u64().unwrap_or(u64::MAX)
}

/// What is used of each quota at the moment of one pass.
#[derive(Clone, Debug, Default)]
pub struct Quotas<'a> {
    now: Timestamp,
    by_name: BTreeMap<&'a str, Used<'a>>,
}

#[derive(Clone, Debug)]
struct Used<'a> {
    quota: &'a Quota,
    azure: AzureUse,
    groups: u64,
    cores: u64,
    /// Cores that are kept for a job that has waited for long.
    kept: u64,
    /// Groups that may have to be deleted.
    undeleted: u64,
    creates: Vec<Timestamp>,
    deletes: Vec<Timestamp>,
}

impl<'a> Quotas<'a> {
    /// What is used now. `starting`: runners that are being started and have no record, wherever they go, with their size
    /// where it is known.
    pub fn of(
        setup: &'a Setup,
        changes: &Changes,
        azure: &HashMap<String, AzureUse>,
        runners: &[Runner],
        starting: &[Option<Size>],
        now: Timestamp,
    ) -> Self {
        let mut quotas = Self { now, by_name: BTreeMap::new() };
        for (name, quota) in &setup.quotas {
            let azure = azure.get(name).copied().unwrap_or_default();
            let mut used = Used {
                quota,
                azure,
                groups: 0,
                cores: 0,
                kept: 0,
                undeleted: 0,
                creates: Vec::new(),
                deletes: Vec::new(),
            };
            for (at, change) in changes.past.get(name).into_iter().flatten() {
                used.creates.extend(std::iter::repeat_n(*at, change.creates.try_into().unwrap_or(0)));
                used.deletes.extend(std::iter::repeat_n(*at, change.deletes.try_into().unwrap_or(0)));
            }
            quotas.by_name.insert(name, used);
        }
        for runner in runners {
            let name = quota_in(setup, changes, runner);
            let Some(used) = name.and_then(|name| quotas.by_name.get_mut(name)) else {
                continue;
            };
            if runner.counts() {
                used.groups += 1;
                used.cores = used.cores.saturating_add(whole_cores(runner.size));
            }
            if runner.facts.launching.is_some() || runner.counts() {
                used.creates.push(created_by(runner).unwrap_or(now));
                match (runner.facts.deleting, runner.facts.gone) {
                    (_, Some(gone)) => used.deletes.push(gone),
                    (Some(_), None) => used.deletes.push(now),
                    (None, None) => used.undeleted += 1,
                }
            }
        }
        for used in quotas.by_name.values_mut() {
            for size in starting {
                used.take(size.map_or(0, whole_cores), now);
            }
            used.creates.sort_unstable();
            used.deletes.sort_unstable();
        }
        quotas
    }

    /// Whether a place has quota for one more runner of this size.
    ///
    /// # Errors
    /// What is exceeded.
    pub fn room(&self, place: &Place, size: Size) -> Result<(), Exceeded> {
        let used = place.quota.as_deref().and_then(|name| self.by_name.get(name));
        used.map_or(Ok(()), |used| used.room(whole_cores(size), self.now))
    }

    /// The region, or subscription, of a place's quota. For people.
    pub fn name(&self, place: &Place) -> &'a str {
        let used = place.quota.as_deref().and_then(|name| self.by_name.get(name));
        used.map_or("", |used| used.quota.name.as_str())
    }

    /// Keeps the cores that are left there for a runner of this size, if it is not larger than the quota itself.
    pub fn keep_cores(&mut self, place: &Place, size: Size) {
        let cores = whole_cores(size);
        let used = place.quota.as_deref().and_then(|name| self.by_name.get_mut(name));
        if let Some(used) = used.filter(|used| cores <= used.core_cap()) {
            used.kept = cores;
        }
    }

    /// A runner is being started there.
    pub fn take(&mut self, place: &Place, size: Size) {
        let now = self.now;
        if let Some(used) = place.quota.as_deref().and_then(|name| self.by_name.get_mut(name)) {
            used.take(whole_cores(size), now);
        }
    }
}

impl Used<'_> {
    fn core_cap(&self) -> u64 {
        let limit = self.azure.cores.map(|azure| azure.limit);
        self.quota.cores.into_iter().chain(limit).min().unwrap_or(DEFAULT_STANDING)
    }

    fn take(&mut self, cores: u64, now: Timestamp) {
        self.groups += 1;
        self.cores = self.cores.saturating_add(cores);
        self.undeleted += 1;
        self.creates.push(now);
    }

    fn room(&self, cores: u64, now: Timestamp) -> Result<(), Exceeded> {
        let standing = |what, own: u64, kept: u64, more: u64, cap: Option<u64>, azure: Option<Standing>| {
            let limit = azure.map(|azure| azure.limit);
            let cap = cap.into_iter().chain(limit).min().unwrap_or(DEFAULT_STANDING);
            let used = own.saturating_add(azure.map_or(0, |azure| azure.others));
            let full = used.saturating_add(kept).saturating_add(more) > cap;
            if full { Err(Exceeded { what, used, cap, needs: more, until: None }) } else { Ok(()) }
        };
        let in_cores =
            standing(QuotaKind::Cores, self.cores, self.kept, cores, self.quota.cores, self.azure.cores);
        // What no end of a group helps against is told before what one does.
        if in_cores.is_err_and(|exceeded| exceeded.never_fits()) {
            return in_cores;
        }
        standing(QuotaKind::Groups, self.groups, 0, 1, self.quota.groups, self.azure.groups)?;
        in_cores?;
        for rate in &self.quota.changes {
            rate.room(QuotaKind::Creates(rate.per), &self.creates, 0, now)?;
            rate.room(QuotaKind::Deletes(rate.per), &self.deletes, self.undeleted, now)?;
        }
        Ok(())
    }
}

impl ChangeRate {
    /// Whether one more fits beside those that happened, in order of time, and so many that may happen any time.
    fn room(
        self,
        what: QuotaKind,
        happened: &[Timestamp],
        pending: u64,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let gone = happened.partition_point(|at| saturating_add(*at, self.per) <= now);
        let within = happened.get(gone..).unwrap_or_default();
        let used = u64::try_from(within.len()).unwrap_or(u64::MAX).saturating_add(pending);
        if used < self.count {
            return Ok(());
        }
        // So many have to be forgotten for one to fit.
        let excess = usize::try_from(used - self.count).unwrap_or(usize::MAX);
        let until = within.get(excess).map(|at| saturating_add(*at, self.per));
        Err(Exceeded { what, used, cap: self.count, needs: 1, until })
    }
}

#[cfg(test)]
mod tests;
