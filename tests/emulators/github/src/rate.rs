//! What may be asked how often: GitHub's primary limit per hour, the separate one for registrations, and the secondary
//! limits on points a minute and on requests at the same time.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::options::RateLimits;

/// Which bucket a request draws from; the name is what `x-ratelimit-resource` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Core,
    Registration,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Registration => "actions_runner_registration",
        }
    }
}

/// The state of one bucket, as the `x-ratelimit-*` headers show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    pub(crate) used: u32,
    /// When it is full again, in seconds since 1970.
    pub(crate) reset: i64,
}

impl Standing {
    pub(crate) fn json(self) -> Value {
        json!({"limit": self.limit, "remaining": self.remaining, "used": self.used, "reset": self.reset})
    }
}

/// A limit that refuses a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    /// The bucket is empty.
    Primary(Standing),
    /// Too much in too short a time; try again after so many seconds.
    Secondary { after: i64 },
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: i64,
    used: u32,
}

/// Every bucket of one emulator.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    core: HashMap<String, Window>,
    points: HashMap<String, Window>,
    /// Tokens left, and when that was.
    registration: HashMap<String, (f64, Timestamp)>,
    scopes: HashMap<String, VecDeque<i64>>,
}

const HOUR: i64 = 3600;

impl Buckets {
    /// Draws one request of `client` from `resource`.
    pub(crate) fn draw(
        &mut self,
        client: &str,
        resource: Resource,
        points: u32,
        limits: &RateLimits,
        now: Timestamp,
    ) -> Result<Standing, Refusal> {
        let second = now.as_second();
        let window = self.points.entry(client.to_owned()).or_insert(Window { since: second, used: 0 });
        if second >= window.since + 60 {
            *window = Window { since: second, used: 0 };
        }
        if window.used.saturating_add(points) > limits.points_per_minute {
            return Err(Refusal::Secondary { after: (window.since + 60 - second).max(1) });
        }
        let standing = self.standing(client, resource, limits, now);
        if standing.remaining == 0 {
            return Err(Refusal::Primary(standing));
        }
        if let Some(window) = self.points.get_mut(client) {
            window.used += points;
        }
        match resource {
            Resource::Core => {
                let window = self.core.entry(client.to_owned()).or_insert(Window { since: second, used: 0 });
                window.used += 1;
            }
            Resource::Registration => {
                let left = self.tokens(client, limits, now);
                self.registration.insert(client.to_owned(), (left - 1.0, now));
            }
        }
        Ok(self.standing(client, resource, limits, now))
    }

    /// Takes back a request that turned out to be free: one that was answered with 304.
    pub(crate) fn give_back(&mut self, client: &str, limits: &RateLimits, now: Timestamp) -> Standing {
        if let Some(window) = self.core.get_mut(client) {
            window.used = window.used.saturating_sub(1);
        }
        self.standing(client, Resource::Core, limits, now)
    }

    /// How a bucket stands, without drawing from it.
    pub(crate) fn standing(
        &mut self,
        client: &str,
        resource: Resource,
        limits: &RateLimits,
        now: Timestamp,
    ) -> Standing {
        let second = now.as_second();
        match resource {
            Resource::Core => {
                let limit = limits.core_per_hour;
                let window = self.core.entry(client.to_owned()).or_insert(Window { since: second, used: 0 });
                if second >= window.since + HOUR {
                    *window = Window { since: second, used: 0 };
                }
                let used = window.used;
                Standing { limit, remaining: limit.saturating_sub(used), used, reset: window.since + HOUR }
            }
            Resource::Registration => {
                let limit = limits.registration_burst;
                let left = self.tokens(client, limits, now);
                let remaining = whole(left);
                let missing = f64::from(limit) - left;
                let refill = missing * 60.0 / f64::from(limits.registration_per_minute.max(1));
                let reset = second + i64::from(whole(refill.ceil().max(1.0)));
                Standing { limit, remaining, used: limit.saturating_sub(remaining), reset }
            }
        }
    }

    fn tokens(&self, client: &str, limits: &RateLimits, now: Timestamp) -> f64 {
        let full = f64::from(limits.registration_burst);
        let Some((left, at)) = self.registration.get(client) else { return full };
        let passed = now.duration_since(*at).as_secs_f64().max(0.0);
        (left + passed * f64::from(limits.registration_per_minute) / 60.0).min(full)
    }

    /// Counts a registration in `scope`; the seconds to wait where five minutes have seen too many.
    pub(crate) fn register(&mut self, scope: &str, limits: &RateLimits, now: Timestamp) -> Result<(), i64> {
        let second = now.as_second();
        let times = self.scopes.entry(scope.to_owned()).or_default();
        while times.front().is_some_and(|at| *at + 300 <= second) {
            times.pop_front();
        }
        match times.front() {
            Some(oldest)
                if times.len() >= usize::try_from(limits.registrations_per_scope).unwrap_or(usize::MAX) =>
            {
                Err((oldest + 300 - second).max(1))
            }
            Some(_) | None => {
                times.push_back(second);
                Ok(())
            }
        }
    }
}

/// The whole part of a number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u32")]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_refill_by_the_minute() {
        let limits = RateLimits { points_per_minute: 1_000_000, ..RateLimits::default() };
        let mut buckets = Buckets::default();
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        for _ in 0..180 {
            assert!(buckets.draw("app", Resource::Registration, 5, &limits, start).is_ok());
        }
        assert!(matches!(
            buckets.draw("app", Resource::Registration, 5, &limits, start),
            Err(Refusal::Primary(Standing { remaining: 0, .. }))
        ));
        let later = Timestamp::from_second(1_700_000_030).unwrap();
        assert_eq!(buckets.standing("app", Resource::Registration, &limits, later).remaining, 83);
    }

    #[test]
    fn points_and_hours_start_afresh() {
        let limits = RateLimits { points_per_minute: 10, core_per_hour: 3, ..RateLimits::default() };
        let mut buckets = Buckets::default();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        for _ in 0..2 {
            assert!(buckets.draw("one", Resource::Core, 5, &limits, at(0)).is_ok());
        }
        assert!(matches!(
            buckets.draw("one", Resource::Core, 5, &limits, at(20)),
            Err(Refusal::Secondary { after: 40 })
        ));
        assert!(buckets.draw("one", Resource::Core, 5, &limits, at(60)).is_ok());
        assert!(matches!(buckets.draw("one", Resource::Core, 5, &limits, at(61)), Err(Refusal::Primary(_))));
        assert!(buckets.draw("one", Resource::Core, 5, &limits, at(3600)).is_ok());
    }

    #[test]
    fn a_scope_takes_so_many_registrations_in_five_minutes() {
        let limits = RateLimits { registrations_per_scope: 2, ..RateLimits::default() };
        let mut buckets = Buckets::default();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        assert_eq!(buckets.register("acme", &limits, at(0)), Ok(()));
        assert_eq!(buckets.register("acme", &limits, at(10)), Ok(()));
        assert_eq!(buckets.register("acme", &limits, at(20)), Err(280));
        assert_eq!(buckets.register("other", &limits, at(20)), Ok(()));
        assert_eq!(buckets.register("acme", &limits, at(300)), Ok(()));
    }
}
