//! What GitHub says of its rate limits with every answer, remembered per client: each installation has limits of its
//! own, and so has the App itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;

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
pub(super) struct RateLimits(Mutex<BTreeMap<(Bucket, String), RateLimit>>);

impl RateLimits {
    /// Of each limit the one that has the least left.
    pub(super) fn all(&self) -> Vec<RateLimit> {
        let mut least: BTreeMap<String, RateLimit> = BTreeMap::new();
        for limit in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
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
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_LIMITS && !known.contains_key(&key) {
            return;
        }
        let before = known.entry(key).or_insert_with(|| limit.clone());
        // Answers overtake each other; within a window, what is left only falls.
        let left = if before.reset == limit.reset { before.remaining } else { u64::MAX };
        *before = RateLimit { remaining: limit.remaining.min(left), ..limit };
    }

    /// How long calls that can wait should, of the clients that `of` names: none is made with less than a fifth of the
    /// limit left.
    pub(super) fn spares(&self, of: impl Fn(&Bucket) -> bool) -> Option<Duration> {
        let now = crate::clock::now();
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
