//! Which waiting jobs may have a runner now, under the limits on what is started.
//!
//! Counts are derived from the runners there are, never kept. The installation, each class, each size and each group
//! of a ConcurrencyLimit has one counter; all that a job comes under must have room.

mod counters;
mod order;

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use self::counters::{AtPlace, Counter, CounterKind, Profile, Share};
pub(crate) use self::order::Order;
use crate::budget::Budgets;
use crate::job::{Job, JobKey};
use crate::labels::Matched;
use crate::lifecycle::Runner;
use crate::limit::{Amount, ConcurrencyLimit};
use crate::reason::Reason;
use crate::setup::{Scope, Setup};

/// What a runner is started for, which decides what it counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Purpose<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// The account that owns the repository.
    pub owner: &'a str,
    /// The repository, as `owner/name`.
    pub repository: &'a str,
    /// Name of the workflow; empty where the source does not say.
    pub workflow: &'a str,
    /// Whether it runs the code of a protected branch, as far as is known.
    pub protected_branch: bool,
    /// Class and size.
    pub matched: &'a Matched,
}

impl<'a> Purpose<'a> {
    /// A runner of this class and size for this job.
    pub fn of_job(job: &'a Job, matched: &'a Matched) -> Self {
        let what = &job.description;
        Self {
            source: &job.key.source,
            owner: &what.owner,
            repository: &what.repository,
            workflow: what.workflow.as_deref().unwrap_or_default(),
            protected_branch: job.found.protected_branch.unwrap_or_default(),
            matched,
        }
    }

    /// Its values in the order of the dimensions, in lower case. That of the place, which it does not know, is empty.
    pub(crate) fn values(&self) -> [String; 6] {
        [self.source, self.owner, self.repository, self.workflow, &self.matched.class, ""]
            .map(str::to_lowercase)
    }

    /// What a runner was started for. Where its job's record is gone, its registration tells what can be told.
    pub fn of_runner(runner: &'a Runner, job: Option<&'a Job>) -> Self {
        if let Some(job) = job {
            return Self::of_job(job, &runner.matched);
        }
        let (owner, repository) = match &runner.scope {
            Scope::Owner(owner) => (owner.as_str(), ""),
            Scope::Repository(name) => (name.split_once('/').map_or("", |(owner, _)| owner), name.as_str()),
        };
        Self {
            source: &runner.job.source,
            owner,
            repository,
            workflow: "",
            protected_branch: false,
            matched: &runner.matched,
        }
    }
}

/// A purpose that [`Usage`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(usize);

/// What is in use, and what may be.
#[derive(Clone, Debug)]
pub struct Usage<'a> {
    setup: &'a Setup,
    /// The limits, by name, and which of them can be judged only at a place.
    limits: Vec<(&'a ConcurrencyLimit, bool)>,
    counters: Vec<Counter<'a>>,
    counter_ids: HashMap<CounterKind<'a>, usize>,
    profiles: Vec<Profile<'a>>,
    profile_ids: HashMap<Purpose<'a>, ProfileId>,
    /// What a purpose comes under at a place besides.
    at_places: HashMap<(ProfileId, &'a str), Arc<AtPlace<'a>>>,
    /// What each owner, and each repository, uses of each counter that several share.
    shares: Vec<Share>,
    share_ids: HashMap<(usize, bool, String), usize>,
    /// What share the same shares, by those.
    lanes: HashMap<Vec<usize>, usize>,
    budgets: Budgets<'a>,
}

impl<'a> Usage<'a> {
    /// Nothing in use but `reserved` names whose record is still to be written, which count against the installation
    /// alone.
    pub fn new(setup: &'a Setup, reserved: usize) -> Self {
        let mut usage = Self {
            setup,
            limits: setup.limits.values().map(|limit| (limit, limit.is_of_places())).collect(),
            counters: Vec::new(),
            counter_ids: HashMap::new(),
            profiles: Vec::new(),
            profile_ids: HashMap::new(),
            at_places: HashMap::new(),
            shares: Vec::new(),
            share_ids: HashMap::new(),
            lanes: HashMap::new(),
            budgets: Budgets::default(),
        };
        let runners = u64::try_from(reserved).unwrap_or(u64::MAX);
        let installation = usage.counter(CounterKind::Installation);
        if let Some(counter) = usage.counters.get_mut(installation) {
            counter.used.runners = runners;
        }
        usage
    }

    /// What is in use by the runners that are there. `job`: the job that one was started for, if its record is there.
    pub fn count(
        setup: &'a Setup,
        runners: &'a [Runner],
        job: impl Fn(&JobKey) -> Option<&'a Job>,
        reserved: usize,
    ) -> Self {
        let mut usage = Self::new(setup, reserved);
        for runner in runners.iter().filter(|runner| runner.counts()) {
            let profile = usage.profile(&Purpose::of_runner(runner, job(&runner.job)));
            usage.take(profile, Amount::of(runner.size), Some(&runner.place));
        }
        usage
    }

    /// The same under budgets, which know what the runners that are there cost.
    #[must_use]
    pub fn under(mut self, budgets: Budgets<'a>) -> Self {
        self.budgets = budgets;
        for profile in &mut self.profiles {
            profile.governed = profile.governed_by(&self.budgets, self.setup);
        }
        self
    }

    /// Whether one more runner may be started, as far as that can be said without a place.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub fn room(&self, profile: ProfileId, amount: Amount) -> Result<(), Reason> {
        let Some(known) = self.profiles.get(profile.0) else { return Ok(()) };
        if let Some(paused) = known.paused {
            return Err(Reason::LimitPaused { limit: paused.to_owned() });
        }
        self.all_have_room(&known.counters, amount)?;
        self.budgets.room(&known.governed, amount)
    }

    /// Whether one more runner may be started at a place, as far as limits go that ask for the place.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub fn room_at(&mut self, profile: ProfileId, amount: Amount, place: &'a str) -> Result<(), Reason> {
        self.room_beside(&[], profile, amount, place)
    }

    /// Whether a runner that counts at one place may go to another, as far as limits go that ask for the place: what it
    /// takes at its own is given back before.
    ///
    /// # Errors
    /// The limit that stands in the way.
    pub fn room_to_move(
        &mut self,
        profile: ProfileId,
        amount: Amount,
        from: &'a str,
        to: &'a str,
    ) -> Result<(), Reason> {
        let own = self.at_place(profile, from).map_or_else(Vec::new, |own| own.counters.clone());
        self.room_beside(&own, profile, amount, to)
    }

    /// Whether there is room at a place, for one that counts in some counters already.
    fn room_beside(
        &mut self,
        own: &[usize],
        profile: ProfileId,
        amount: Amount,
        place: &'a str,
    ) -> Result<(), Reason> {
        let there = self.at_place(profile, place);
        if let Some(limit) = there.as_ref().and_then(|there| there.paused) {
            return Err(Reason::LimitPaused { limit: limit.to_owned() });
        }
        if let Some(there) = there {
            let (counted, more): (Vec<usize>, Vec<usize>) =
                there.counters.iter().partition(|counter| own.contains(counter));
            self.all_have_room(&counted, Amount::default())?;
            self.all_have_room(&more, amount)?;
        }
        let Some(known) = self.profiles.get(profile.0) else { return Ok(()) };
        self.budgets.room_at(&known.governed, amount, place)
    }

    /// Counts one more runner. Without a place it counts wherever its class may run.
    pub fn take(&mut self, profile: ProfileId, amount: Amount, place: Option<&'a str>) {
        let places: Vec<&'a str> = match (place, self.profiles.get(profile.0)) {
            (_, None) => return,
            (_, Some(known)) if known.place_limits.is_empty() => Vec::new(),
            (Some(place), _) => vec![place],
            (None, Some(known)) => known.places(self.setup),
        };
        // One group may be that of several places.
        let mut at_places: Vec<usize> = Vec::new();
        for place in places {
            at_places.extend(self.at_place(profile, place).iter().flat_map(|there| &there.counters));
        }
        at_places.sort_unstable();
        at_places.dedup();
        let Some(known) = self.profiles.get(profile.0) else { return };
        self.budgets.take(&known.governed, amount, place);
        for counter in known.counters.iter().chain(&at_places) {
            if let Some(counter) = self.counters.get_mut(*counter) {
                counter.used = counter.used.plus(amount);
            }
        }
        for share in known.of_owner.iter().chain(&known.of_repository) {
            if let Some(share) = self.shares.get_mut(*share) {
                share.take(amount);
            }
        }
    }

    /// The ConcurrencyLimits' counters of a purpose, at a place if one is given.
    pub(crate) fn limit_counters(&mut self, profile: ProfileId, place: Option<&'a str>) -> Vec<usize> {
        let there = place.and_then(|place| self.at_place(profile, place));
        let mut all = there.map_or_else(Vec::new, |there| there.counters.clone());
        let own = self.profiles.get(profile.0).map_or(&[][..], |known| &known.counters);
        all.extend(own.iter().filter(|id| {
            self.counters.get(**id).is_some_and(|counter| matches!(counter.kind, CounterKind::Limit(..)))
        }));
        all
    }

    /// Whether one more runner would fit into these counters, and those that it always comes under, once nothing else
    /// is in use.
    pub(crate) fn could_fit(&self, profile: ProfileId, counters: &[usize], amount: Amount) -> bool {
        let own = self.profiles.get(profile.0).map_or(&[][..], |known| &known.counters);
        self.of(counters).chain(self.of(own)).all(|counter| counter.caps.exceeded_by(amount).is_none())
    }

    /// Keeps so much of each of these counters for a job.
    pub(crate) fn reserve(&mut self, counters: &[usize], amount: Amount, job: &'a JobKey) {
        for id in counters {
            if let Some(counter) = self.counters.get_mut(*id) {
                counter.reserved = Some((job, amount));
            }
        }
    }

    /// Whether a job may take more of what these counters' limits cap than another one that waits.
    pub(crate) fn is_larger(
        &self,
        counters: &[usize],
        amount: Amount,
        least: &HashMap<usize, Amount>,
    ) -> bool {
        counters.iter().any(|id| {
            let Some((counter, least)) = self.counters.get(*id).zip(least.get(id)) else { return false };
            let larger = |cap: Option<u64>, own: u64, least: u64| cap.is_some() && own > least;
            larger(counter.caps.cpu_millis, amount.cpu_millis, least.cpu_millis)
                || larger(counter.caps.memory_bytes, amount.memory_bytes, least.memory_bytes)
        })
    }

    /// The priority of a purpose, and the highest that waiting can lift it to.
    pub(crate) fn priority(&self, profile: ProfileId) -> (i32, i32) {
        let rules = &self.setup.settings.priorities;
        let own = self.profiles.get(profile.0).map_or(0, |known| known.priority);
        (own, rules.iter().map(|rule| rule.priority).fold(own.max(0), i32::max))
    }

    fn of(&self, counters: &[usize]) -> impl Iterator<Item = &Counter<'a>> {
        counters.iter().filter_map(|id| self.counters.get(*id))
    }

    fn all_have_room(&self, counters: &[usize], amount: Amount) -> Result<(), Reason> {
        self.of(counters).try_for_each(|counter| counter.room(amount))
    }
}

#[cfg(test)]
mod tests;
