//! Room that is kept for a job that has waited for long and that smaller ones would overtake for ever.
//!
//! It is kept from the jobs that come after it in the order of admission: an admin's priorities and the shares of owners
//! decide who comes before it, as for all. One job for each counter of a limit, and one for each quota of Azure.

use foldhash::{HashMap, HashMapExt as _, HashSet, HashSetExt as _};
use jiff::Timestamp;

use super::Pass;
use super::admissions::{Candidate, next_ageing_moment};
use crate::admission::{ProfileId, Usage};
use crate::limit::{Amount, Caps};
use crate::placement;
use crate::quota::QuotaKind;
use crate::reason::Reason;
use crate::setup::saturating_add;

/// For whom room is kept in one pass.
#[derive(Default)]
pub(super) struct Kept {
    /// The limits' counters of each purpose.
    counters: HashMap<ProfileId, Vec<usize>>,
    /// Those of which room is kept.
    limits: HashSet<usize>,
    quotas: HashSet<String>,
}

impl<'a> Pass<'a> {
    /// Finds the jobs that have waited for long and are larger than another one under the same counter of a limit.
    pub(super) fn long_waiting<'v>(
        &self,
        candidates: &mut [Option<Candidate<'v, 'a>>],
        usage: &mut Usage<'v>,
    ) -> Kept
    where
        'a: 'v,
    {
        let mut kept = Kept { counters: HashMap::new(), limits: HashSet::new(), quotas: HashSet::new() };
        let setup = &self.snapshot.setup;
        let by_size = |caps: &Caps| caps.cpu_millis.is_some() || caps.memory_bytes.is_some();
        if !setup.limits.values().any(|limit| by_size(&limit.caps)) {
            return kept;
        }
        let mut least: HashMap<usize, Amount> = HashMap::new();
        for candidate in candidates.iter().flatten() {
            let own = kept.counters.entry(candidate.profile).or_insert_with(|| {
                let place = placement::choose(setup, candidate.class, |_| Ok(())).ok();
                usage.limit_counters(candidate.profile, place.map(|place| place.name.as_str()))
            });
            let amount = candidate.amount();
            for counter in own {
                let least = least.entry(*counter).or_insert(amount);
                least.cpu_millis = least.cpu_millis.min(amount.cpu_millis);
                least.memory_bytes = least.memory_bytes.min(amount.memory_bytes);
            }
        }
        for candidate in candidates.iter_mut().flatten() {
            let Some(own) = kept.counters.get(&candidate.profile) else { continue };
            let amount = candidate.amount();
            if !usage.is_larger(own, amount, &least) || !usage.could_fit(candidate.profile, own, amount) {
                continue;
            }
            let due = self.long_from(candidate);
            candidate.overtaken = due <= self.now;
            if !candidate.overtaken {
                candidate.changes_at = Some(candidate.changes_at.map_or(due, |at| at.min(due)));
            }
        }
        kept
    }

    /// From when a job has waited for long.
    fn long_from(&self, candidate: &Candidate<'_, 'a>) -> Timestamp {
        next_ageing_moment(saturating_add(
            candidate.waiting.since,
            self.snapshot.setup.settings.reserve_after,
        ))
    }

    /// Keeps what room there is for a job that has waited for long and still finds too little.
    pub(super) fn keep_room<'v>(
        &mut self,
        candidate: &Candidate<'v, 'a>,
        reason: &Reason,
        kept: &mut Kept,
        usage: &mut Usage<'v>,
    ) where
        'a: 'v,
    {
        if let Reason::QuotaReached { place, exceeded, .. } = reason {
            if exceeded.what == QuotaKind::Cores {
                self.keep_cores(candidate, place, kept);
            }
            return;
        }
        // Where its class is full, what a limit has left is of no use to it yet.
        if !candidate.overtaken || !matches!(reason, Reason::LimitReached { .. }) {
            return;
        }
        let Some(own) = kept.counters.get(&candidate.profile) else { return };
        if own.iter().any(|counter| kept.limits.contains(counter)) {
            return;
        }
        // Nor is it where no place could start it.
        if self.place_for(candidate.class, candidate.size, None, |_| Ok(())).is_err() {
            return;
        }
        usage.reserve(own, candidate.amount(), &candidate.waiting.view.job.key);
        kept.limits.extend(own);
    }

    /// The same for the cores of Azure's quota, which smaller ones would use up one by one.
    fn keep_cores(&mut self, candidate: &Candidate<'_, 'a>, place: &str, kept: &mut Kept) {
        let due = self.long_from(candidate);
        if due > self.now {
            self.wake(Some(due));
            return;
        }
        let Some(place) = self.snapshot.setup.places.get(place) else { return };
        let Some(quota) = &place.quota else { return };
        if kept.quotas.insert(quota.clone()) {
            self.quotas.keep_cores(place, candidate.size);
        }
    }
}
