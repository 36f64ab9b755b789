//! What GitHub says of its rate limits with every answer, remembered per client: each installation has limits of its
//! own, and so has the App itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

use crate::ports::RateLimit;

/// More limits than GitHub has; a server that makes names up does not fill the memory.
const MAX_LIMITS: usize = 512;
/// The limit of all calls that have none of their own.
pub(super) const CORE: &str = "core";

/// Whose calls a limit counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bucket {
    /// The App's own.
    App,
    /// Those of one of its installations, by id.
    Installation(u64),
    /// Those with the token.
    Token,
}

#[derive(Default)]
pub(super) struct RateLimits {
    known: Mutex<BTreeMap<(Bucket, String), Said>>,
    /// What the last answer to a registration said. Registrations have a limit of their own on github.com, whose name
    /// GitHub documents nowhere.
    registrations: Mutex<Told>,
}

/// What GitHub has told of a limit on registrations.
#[derive(Clone, Default)]
enum Told {
    /// Nothing yet.
    #[default]
    Nothing,
    /// There is none of its own, as on GitHub Enterprise Server.
    None,
    /// How it stands.
    Limit(Said),
}

/// A limit as an answer spoke of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// Its reset is by our clock, since it is compared with nothing else.
    limit: RateLimit,
    /// The reset by GitHub's clock, which is the same in all answers of one period.
    reset: Timestamp,
}

/// How many runners register before GitHub has told how many may: fewer than it lets register at once, which is about 180.
const UNTOLD: u64 = 50;
/// When it will surely have told.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(60);

impl RateLimits {
    /// Of each limit the one that has the least left.
    pub(super) fn all(&self) -> Vec<RateLimit> {
        let mut least: BTreeMap<String, RateLimit> = BTreeMap::new();
        for Said { limit, .. } in self.known.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let known = least.entry(limit.resource.clone()).or_insert_with(|| limit.clone());
            if limit.remaining < known.remaining {
                known.clone_from(limit);
            }
        }
        least.into_values().collect()
    }

    pub(super) fn note(&self, bucket: &Bucket, headers: &HeaderMap) {
        let Some(said) = read(headers) else { return };
        let key = (bucket.clone(), said.limit.resource.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_LIMITS && !known.contains_key(&key) {
            return;
        }
        let before = known.get(&key);
        let after = after(before, said);
        known.insert(key, after);
    }

    /// Notes what the answer to a registration says.
    pub(super) fn note_registration(&self, headers: &HeaderMap) {
        let Some(said) = read(headers) else { return };
        let mut told = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        *told = match (&*told, said) {
            (_, said) if said.limit.resource == CORE => Told::None,
            (Told::Limit(before), said) => Told::Limit(after(Some(before), said)),
            (Told::Nothing | Told::None, said) => Told::Limit(said),
        };
    }

    /// What is left of the limit on registrations, if there is one of their own.
    pub(super) fn registrations(&self) -> Option<RateLimit> {
        match &*self.registrations.lock().unwrap_or_else(PoisonError::into_inner) {
            Told::Limit(said) => Some(said.limit.clone()),
            Told::None => None,
            Told::Nothing => Some(RateLimit {
                resource: String::new(),
                remaining: UNTOLD,
                limit: UNTOLD,
                reset: crate::clock::now().saturating_add(TOLD_WITHIN).unwrap_or(Timestamp::MAX),
            }),
        }
    }

    /// How long calls that can wait should, of the clients that `of` names: none is made with less than a fifth of the
    /// limit left.
    pub(super) fn spares(&self, of: impl Fn(&Bucket) -> bool) -> Option<Duration> {
        let now = crate::clock::now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|(key, said)| (key, &said.limit))
            .filter(|((bucket, resource), limit)| {
                of(bucket) && resource == CORE && limit.remaining.saturating_mul(5) < limit.limit
            })
            .filter_map(|(_, limit)| Duration::try_from(limit.reset.duration_since(now)).ok())
            .filter(|left| !left.is_zero())
            .max()
    }
}

/// What is known after an answer. Answers overtake each other: one that speaks of an earlier reset than is known and still
/// to come is the older one, and until then what is left only falls.
fn after(before: Option<&Said>, said: Said) -> Said {
    match before {
        Some(before) if said.reset <= before.reset && before.limit.reset > crate::clock::now() => {
            let remaining = said.limit.remaining.min(before.limit.remaining);
            Said { limit: RateLimit { remaining, ..before.limit.clone() }, reset: before.reset }
        }
        Some(_) | None => said,
    }
}

fn read(headers: &HeaderMap) -> Option<Said> {
    let resource = text(headers, "x-ratelimit-resource").unwrap_or(CORE);
    if resource.is_empty()
        || resource.len() > 64
        || !resource.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    {
        return None;
    }
    let (now, reset) = (crate::clock::now(), reset(headers)?);
    let left = reset.duration_since(date(headers).unwrap_or(now));
    let limit = RateLimit {
        resource: resource.to_owned(),
        remaining: number(headers, "x-ratelimit-remaining")?,
        limit: number(headers, "x-ratelimit-limit")?,
        reset: now.saturating_add(left).unwrap_or(Timestamp::MAX),
    };
    Some(Said { limit, reset })
}

/// When the answer was given, by GitHub's clock.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    text(headers, "date").and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp())
}

/// When the limit that the answer speaks of is given anew, by GitHub's clock.
pub(super) fn reset(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(number(headers, "x-ratelimit-reset")?).ok()?).ok()
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(remaining: u64, reset: i64, date: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-limit", "5000".to_owned()),
            ("x-ratelimit-reset", reset.to_string()),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        if let Some(date) = date {
            headers.insert("date", date.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_reset_is_kept_by_our_clock_however_wrong_it_is() {
        let limits = RateLimits::default();
        // GitHub's clock stands at the beginning of 2026.
        limits.note(&Bucket::Token, &headers(10, 1_767_225_720, Some("Thu, 01 Jan 2026 00:00:00 GMT")));
        let left = limits.spares(|_| true).unwrap();
        assert!((100..=120).contains(&left.as_secs()), "{left:?}");
        let reset = limits.all().remove(0).reset;
        // A later answer of the same period moves nothing but what is left; one that is overtaken not even that.
        limits.note(&Bucket::Token, &headers(9, 1_767_225_720, Some("Thu, 01 Jan 2026 00:00:05 GMT")));
        limits.note(&Bucket::Token, &headers(11, 1_767_225_720, Some("Thu, 01 Jan 2026 00:00:01 GMT")));
        let known = limits.all().remove(0);
        assert_eq!((known.remaining, known.reset), (9, reset));
        limits.note(&Bucket::Token, &headers(5_000, 1_767_229_320, Some("Thu, 01 Jan 2026 00:00:06 GMT")));
        assert_eq!(limits.spares(|_| true), None, "a new period");
    }
}
