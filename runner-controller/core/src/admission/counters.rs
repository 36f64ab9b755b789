//! The counters that a purpose comes under, found once for each purpose, and what is used of them.
//!
//! Decides no order.

use std::sync::Arc;

use super::{ProfileId, Purpose, Usage};
use crate::budget::{Budgets, Governed};
use crate::job::JobKey;
use crate::limit::{Amount, Capped, Caps, ConcurrencyLimit, Dimension};
use crate::reason::Reason;
use crate::setup::Setup;

/// In how many parts a share is counted, so that shares compare as whole numbers.
const WHOLE: u128 = 1_000_000_000;

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum CounterKind<'a> {
    Installation,
    Class(&'a str),
    /// By class and size.
    Size(&'a str, &'a str),
    /// By the limit's name and the values of what it groups by.
    Limit(&'a str, Vec<String>),
}

#[derive(Clone, Debug)]
pub(super) struct Counter<'a> {
    pub(super) kind: CounterKind<'a>,
    pub(super) caps: Caps,
    pub(super) used: Amount,
    pub(super) reserved: Option<(&'a JobKey, Amount)>,
    /// Its group, for people.
    group: String,
    shared_by_owners: bool,
    shared_by_repositories: bool,
}

impl Counter<'_> {
    pub(super) fn room(&self, amount: Amount) -> Result<(), Reason> {
        let wanted = self.used.plus(amount);
        if let Some((what, cap)) = self.caps.exceeded_by(wanted) {
            return Err(self.full(what, cap, amount));
        }
        let (Some((job, kept)), CounterKind::Limit(limit, _)) = (self.reserved, &self.kind) else {
            return Ok(());
        };
        match self.caps.exceeded_by(wanted.plus(kept)) {
            Some(_) => Err(Reason::ReservedForAnother { limit: (*limit).to_owned(), job: job.to_string() }),
            None => Ok(()),
        }
    }

    fn full(&self, what: Capped, cap: u64, amount: Amount) -> Reason {
        let used = self.used.get(what);
        let small = |figure: u64| u32::try_from(figure).unwrap_or(u32::MAX);
        let (running, limit) = (small(used), small(cap));
        match &self.kind {
            CounterKind::Installation => Reason::InstallationFull { running, limit },
            CounterKind::Class(class) => Reason::ClassFull { class: (*class).to_owned(), running, limit },
            CounterKind::Size(class, size) => {
                let label = if size.is_empty() { (*class).to_owned() } else { format!("{class}-{size}") };
                Reason::SizeFull { label, running, limit }
            }
            CounterKind::Limit(name, _) => Reason::LimitReached {
                limit: (*name).to_owned(),
                group: self.group.clone(),
                what,
                used,
                cap,
                needs: amount.get(what),
            },
        }
    }
}

/// What one owner, or one repository, uses of a counter that several share.
#[derive(Clone, Debug)]
pub(super) struct Share {
    caps: Caps,
    weight: u32,
    used: Amount,
    /// The largest part of any cap, by weight.
    part: u64,
}

impl Share {
    fn new(caps: Caps, weight: u32) -> Self {
        Self { caps, weight, used: Amount::default(), part: 0 }
    }

    pub(super) fn take(&mut self, amount: Amount) {
        self.used = self.used.plus(amount);
        let part = |what: Capped| {
            let cap = u128::from(self.caps.get(what)?).max(1).saturating_mul(self.weight.into());
            let part = u128::from(self.used.get(what)).saturating_mul(WHOLE) / cap;
            Some(u64::try_from(part).unwrap_or(u64::MAX))
        };
        self.part = Capped::ALL.into_iter().filter_map(part).max().unwrap_or(0);
    }
}

/// What a purpose comes under at one place, besides what it comes under everywhere.
#[derive(Debug)]
pub(super) struct AtPlace<'a> {
    pub(super) counters: Vec<usize>,
    /// A limit there that is paused.
    pub(super) paused: Option<&'a str>,
}

/// All that follows from a purpose.
#[derive(Clone, Debug)]
pub(super) struct Profile<'a> {
    class: &'a str,
    /// The values of its dimensions, in lower case. That of the place is empty.
    values: [String; 6],
    /// What it counts against wherever it runs.
    pub(super) counters: Vec<usize>,
    /// Limits that it may come under, depending on the place.
    pub(super) place_limits: Vec<&'a ConcurrencyLimit>,
    /// A limit that it comes under and that is paused.
    pub(super) paused: Option<&'a str>,
    /// What budgets ask of it.
    pub(super) governed: Governed<'a>,
    /// What its owner, and its repository, uses of each counter that several share.
    pub(super) of_owner: Vec<usize>,
    pub(super) of_repository: Vec<usize>,
    pub(super) owner_lane: usize,
    pub(super) repository_lane: usize,
    pub(super) priority: i32,
}

impl<'a> Profile<'a> {
    /// Where its class may run.
    pub(super) fn places(&self, setup: &'a Setup) -> Vec<&'a str> {
        let named = setup.classes.get(self.class).and_then(|class| class.places.as_ref());
        match named {
            Some(order) => order.iter().map(String::as_str).collect(),
            None => setup.places.keys().map(String::as_str).collect(),
        }
    }

    pub(super) fn governed_by(&self, budgets: &Budgets<'a>, setup: &'a Setup) -> Governed<'a> {
        budgets.governed(self.class, &self.values, &self.places(setup))
    }
}

impl<'a> Usage<'a> {
    /// Finds, once for each purpose, what it counts against.
    pub fn profile(&mut self, purpose: &Purpose<'a>) -> ProfileId {
        if let Some(known) = self.profile_ids.get(purpose) {
            return *known;
        }
        let mut profile = self.make_profile(purpose);
        profile.governed = profile.governed_by(&self.budgets, self.setup);
        let id = ProfileId(self.profiles.len());
        self.profiles.push(profile);
        self.profile_ids.insert(*purpose, id);
        id
    }

    fn make_profile(&mut self, purpose: &Purpose<'a>) -> Profile<'a> {
        let setup = self.setup;
        let (class, size) = (purpose.matched.class.as_str(), purpose.matched.size.as_str());
        let values = purpose.values();
        let mut counters = vec![self.counter(CounterKind::Installation)];
        if let Some(known) = setup.classes.get(class) {
            counters.push(self.counter(CounterKind::Class(class)));
            if known.sizes.get(size).is_some_and(|size| size.max_runners.is_some()) {
                counters.push(self.counter(CounterKind::Size(class, size)));
            }
        }
        let (mut place_limits, mut paused) = (Vec::new(), None);
        for (limit, of_places) in self.limits.clone() {
            let covered = Dimension::ALL.into_iter().filter(|one| *one != Dimension::Place).zip(&values);
            if !limit.matches.covers_branch(purpose.protected_branch)
                || !covered.into_iter().all(|(dimension, value)| limit.matches.covers(dimension, value))
            {
                continue;
            }
            if of_places {
                place_limits.push(limit);
                continue;
            }
            if limit.paused {
                paused = paused.or(Some(limit.name.as_str()));
            }
            counters.push(self.limit_counter(limit, &values));
        }
        let [_, owner, repository, ..] = &values;
        let weight = |name: &String| {
            self.limits
                .iter()
                .find_map(|(limit, _)| limit.weights.get(name))
                .map_or(1, |weight| (*weight).max(1))
        };
        let (owner_weight, repository_weight) = (weight(owner), weight(repository));
        let of_owner = self.shares_of(&counters, owner, owner_weight, true);
        let of_repository = self.shares_of(&counters, repository, repository_weight, false);
        let rule = setup.settings.priorities.iter().find(|rule| {
            let mut all = Dimension::ALL.into_iter().zip(&values);
            rule.matches.covers_branch(purpose.protected_branch)
                && all.all(|(dimension, value)| rule.matches.covers(dimension, value))
        });
        Profile {
            class,
            owner_lane: self.lane(&of_owner),
            repository_lane: self.lane(&of_repository),
            priority: rule.map_or(0, |rule| rule.priority),
            values,
            counters,
            place_limits,
            paused,
            governed: Governed::default(),
            of_owner,
            of_repository,
        }
    }

    pub(super) fn counter(&mut self, kind: CounterKind<'a>) -> usize {
        if let Some(known) = self.counter_ids.get(&kind) {
            return *known;
        }
        let setup = self.setup;
        let (mut shared_by_owners, mut shared_by_repositories) = (true, true);
        let mut group = String::new();
        let runners = |most: Option<u32>| Caps { runners: most.map(u64::from), ..Caps::default() };
        let caps = match &kind {
            CounterKind::Installation => runners(Some(setup.settings.max_runners)),
            CounterKind::Class(class) => runners(setup.classes.get(*class).map(|class| class.max_runners)),
            CounterKind::Size(class, size) => runners(
                setup
                    .classes
                    .get(*class)
                    .and_then(|class| class.sizes.get(*size))
                    .and_then(|size| size.max_runners),
            ),
            CounterKind::Limit(name, values) => match setup.limits.get(*name) {
                Some(limit) => {
                    shared_by_owners = limit.is_shared_by_owners();
                    shared_by_repositories = limit.is_shared_by_repositories();
                    let named = limit.group_by.iter().zip(values);
                    let words = named.map(|(dimension, value)| {
                        let value = if value.is_empty() { "unknown" } else { value };
                        format!("{} {value}", dimension.as_str())
                    });
                    group = words.collect::<Vec<_>>().join(", ");
                    limit.caps
                }
                None => Caps::default(),
            },
        };
        let id = self.counters.len();
        self.counter_ids.insert(kind.clone(), id);
        self.counters.push(Counter {
            kind,
            caps,
            used: Amount::default(),
            reserved: None,
            group,
            shared_by_owners,
            shared_by_repositories,
        });
        id
    }

    fn limit_counter(&mut self, limit: &'a ConcurrencyLimit, values: &[String; 6]) -> usize {
        let of_group = Dimension::ALL.into_iter().zip(values).filter(|(one, _)| limit.group_by.contains(one));
        self.counter(CounterKind::Limit(&limit.name, of_group.map(|(_, value)| value.clone()).collect()))
    }

    /// What a purpose comes under at a place besides, if limits ask for the place at all.
    pub(super) fn at_place(&mut self, profile: ProfileId, place: &'a str) -> Option<Arc<AtPlace<'a>>> {
        let known = self.profiles.get(profile.0).filter(|known| !known.place_limits.is_empty())?;
        if let Some(found) = self.at_places.get(&(profile, place)) {
            return Some(found.clone());
        }
        let [source, owner, repository, workflow, class, _] = known.values.clone();
        let values = [source, owner, repository, workflow, class, place.to_lowercase()];
        let matching = |limit: &&&'a ConcurrencyLimit| limit.matches.covers(Dimension::Place, &values[5]);
        let limits: Vec<&'a ConcurrencyLimit> = known.place_limits.iter().filter(matching).copied().collect();
        let paused = limits.iter().find(|limit| limit.paused).map(|limit| limit.name.as_str());
        let counters = limits.into_iter().map(|limit| self.limit_counter(limit, &values)).collect();
        let found = Arc::new(AtPlace { counters, paused });
        self.at_places.insert((profile, place), found.clone());
        Some(found)
    }

    /// What this owner (or repository) uses of those of the counters that several share.
    fn shares_of(&mut self, counters: &[usize], name: &str, weight: u32, owners: bool) -> Vec<usize> {
        let mut found = Vec::new();
        for id in counters {
            let shared = self.counters.get(*id).filter(|counter| {
                if owners { counter.shared_by_owners } else { counter.shared_by_repositories }
            });
            if let Some(caps) = shared.map(|counter| counter.caps) {
                let next = self.shares.len();
                let share = *self.share_ids.entry((*id, owners, name.to_owned())).or_insert(next);
                if share == next {
                    self.shares.push(Share::new(caps, weight));
                }
                found.push(share);
            }
        }
        found
    }

    fn lane(&mut self, shares: &[usize]) -> usize {
        let next = self.lanes.len();
        *self.lanes.entry(shares.to_vec()).or_insert(next)
    }

    /// How much the owner of a purpose has of what it comes under: the largest part of any cap, by weight.
    pub(super) fn owner_share(&self, profile: ProfileId) -> u64 {
        self.profiles.get(profile.0).map_or(0, |known| self.largest(&known.of_owner))
    }

    /// How much its repository has.
    pub(super) fn repository_share(&self, profile: ProfileId) -> u64 {
        self.profiles.get(profile.0).map_or(0, |known| self.largest(&known.of_repository))
    }

    fn largest(&self, shares: &[usize]) -> u64 {
        shares.iter().filter_map(|share| self.shares.get(*share)).map(|share| share.part).max().unwrap_or(0)
    }
}
