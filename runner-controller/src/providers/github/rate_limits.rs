//! What GitHub says of its rate limits with every answer, remembered per client: each installation has limits of its
//! own, and so has the App itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
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
    known: Mutex<BTreeMap<(Bucket, String), RateLimit>>,
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
    Limit(RateLimit),
}

/// How many runners register before GitHub has told how many may: fewer than it lets register at once, which is about 180.
const UNTOLD: u64 = 50;
/// When it will surely have told.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(60);

impl RateLimits {
    /// Of each limit the one that has the least left.
    pub(super) fn all(&self) -> Vec<RateLimit> {
        let mut least: BTreeMap<String, RateLimit> = BTreeMap::new();
        for limit in self.known.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let known = least.entry(limit.resource.clone()).or_insert_with(|| limit.clone());
            if limit.remaining < known.remaining {
                known.clone_from(limit);
            }
        }
        least.into_values().collect()
    }

    pub(super) fn note(&self, bucket: &Bucket, headers: &HeaderMap) {
        let Some(limit) = read(headers) else { return };
        let key = (bucket.clone(), limit.resource.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_LIMITS && !known.contains_key(&key) {
            return;
        }
        let before = known.get(&key);
        let after = after(before, limit);
        known.insert(key, after);
    }

    /// Notes what the answer to a registration says.
    pub(super) fn note_registration(&self, headers: &HeaderMap) {
        let Some(limit) = read(headers) else { return };
        let mut told = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        *told = match (&*told, limit) {
            (_, limit) if limit.resource == CORE => Told::None,
            (Told::Limit(before), limit) => Told::Limit(after(Some(before), limit)),
            (Told::Nothing | Told::None, limit) => Told::Limit(limit),
        };
    }

    /// What is left of the limit on registrations, if there is one of their own.
    pub(super) fn registrations(&self) -> Option<RateLimit> {
        match &*self.registrations.lock().unwrap_or_else(PoisonError::into_inner) {
            Told::Limit(limit) => Some(limit.clone()),
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
fn after(before: Option<&RateLimit>, limit: RateLimit) -> RateLimit {
    match before {
        Some(before) if limit.reset <= before.reset && before.reset > crate::clock::now() => {
            RateLimit { remaining: limit.remaining.min(before.remaining), ..before.clone() }
        }
        Some(_) | None => limit,
    }
}

fn read(headers: &HeaderMap) -> Option<RateLimit> {
    let resource = text(headers, "x-ratelimit-resource").unwrap_or(CORE);
    if resource.is_empty()
        || resource.len() > 64
        || !resource.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    {
        return None;
    }
    Some(RateLimit {
        resource: resource.to_owned(),
        remaining: number(headers, "x-ratelimit-remaining")?,
        limit: number(headers, "x-ratelimit-limit")?,
        reset: reset(headers)?,
    })
}

/// When the limit that the answer speaks of is given anew.
pub(super) fn reset(headers: &HeaderMap) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(number(headers, "x-ratelimit-reset")?).ok()?).ok()
}

pub(super) fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
