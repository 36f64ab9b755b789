//! Quotas and rates: what Azure allows per subscription and region, and ARM per caller.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::options::Limits;

/// Subscription and region, in lower case.
pub(crate) type Scope = (String, String);

/// Standing use of a region by others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) groups: u32,
    pub(crate) cores: u32,
}

/// What is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    Create,
    Delete,
}

/// Which of ARM's buckets a request draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Read,
    Write,
}

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    changes: BTreeMap<(Scope, Change), VecDeque<Timestamp>>,
    buckets: BTreeMap<(String, Access), Bucket>,
    /// By region.
    pub(crate) others: BTreeMap<String, Usage>,
}

#[derive(Debug)]
struct Bucket {
    level: f64,
    at: Timestamp,
}

const HOUR: Duration = Duration::from_hours(1);
const FIVE_MINUTES: Duration = Duration::from_mins(5);

impl Quotas {
    /// Whether one more create or delete fits; otherwise how long until one does. Counts nothing.
    pub(crate) fn check(
        &mut self,
        scope: &Scope,
        change: Change,
        limits: &Limits,
        scale: f64,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let (per_hour, per_5_min) = match change {
            Change::Create => (limits.creates_per_hour, limits.creates_per_5_min),
            Change::Delete => (limits.deletes_per_hour, limits.deletes_per_5_min),
        };
        let hits = self.changes.entry((scope.clone(), change)).or_default();
        let mut wait = Duration::ZERO;
        for (limit, window) in [(per_hour, HOUR.mul_f64(scale)), (per_5_min, FIVE_MINUTES.mul_f64(scale))] {
            let within = |at: &&Timestamp| age(**at, now) < window;
            let used = hits.iter().filter(within).count();
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            if used >= limit {
                // The one that has to leave the window for a place to become free.
                let blocking = hits.iter().filter(within).nth(used - limit);
                wait = wait.max(blocking.map_or(window, |at| window.saturating_sub(age(*at, now))));
            }
        }
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Counts one create or delete.
    pub(crate) fn count(&mut self, scope: &Scope, change: Change, scale: f64, now: Timestamp) {
        let hits = self.changes.entry((scope.clone(), change)).or_default();
        hits.retain(|at| age(*at, now) < HOUR.mul_f64(scale));
        hits.push_back(now);
    }

    /// Draws one request from a caller's bucket: what is left, or how long until there is something.
    pub(crate) fn draw(
        &mut self,
        caller: &str,
        access: Access,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<u32, Duration> {
        let (capacity, rate) = match access {
            Access::Read => (limits.reads, limits.reads_per_second),
            Access::Write => (limits.writes, limits.writes_per_second),
        };
        let (capacity, rate) = (f64::from(capacity), f64::from(rate));
        let bucket = self
            .buckets
            .entry((caller.to_owned(), access))
            .or_insert_with(|| Bucket { level: capacity, at: now });
        bucket.level = (bucket.level + age(bucket.at, now).as_secs_f64() * rate).min(capacity);
        bucket.at = now;
        if bucket.level >= 1.0 {
            bucket.level -= 1.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and a u32 capacity"
            )]
            return Ok(bucket.level as u32);
        }
        let missing = 1.0 - bucket.level;
        Err(if rate > 0.0 { Duration::from_secs_f64(missing / rate) } else { HOUR })
    }
}

/// Never negative, even when the clock was set back.
fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at).max(SignedDuration::ZERO)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn creates_are_counted_in_both_windows() {
        let scope = ("s".to_owned(), "westeurope".to_owned());
        let limits = Limits { creates_per_5_min: 2, creates_per_hour: 3, ..Limits::default() };
        let mut quotas = Quotas::default();
        let mut create = |second| {
            let allowed = quotas.check(&scope, Change::Create, &limits, 1.0, at(second));
            if allowed.is_ok() {
                quotas.count(&scope, Change::Create, 1.0, at(second));
            }
            allowed.map_err(|wait| wait.as_secs())
        };
        assert_eq!(create(0), Ok(()));
        assert_eq!(create(10), Ok(()));
        assert_eq!(create(20), Err(280));
        assert_eq!(create(300), Ok(()));
        assert_eq!(create(700), Err(2900));
        assert_eq!(create(3600), Ok(()));
    }

    #[test]
    fn a_bucket_refills() {
        let limits = Limits { reads: 2, reads_per_second: 1, ..Limits::default() };
        let mut quotas = Quotas::default();
        assert_eq!(quotas.draw("caller", Access::Read, &limits, at(0)), Ok(1));
        assert_eq!(quotas.draw("caller", Access::Read, &limits, at(0)), Ok(0));
        assert_eq!(quotas.draw("caller", Access::Read, &limits, at(0)), Err(Duration::from_secs(1)));
        assert_eq!(quotas.draw("other", Access::Read, &limits, at(0)), Ok(1));
        assert_eq!(quotas.draw("caller", Access::Read, &limits, at(1)), Ok(0));
    }
}
