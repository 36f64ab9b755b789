//! What GitHub says of its rate limits with every answer, remembered for the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use jiff::Timestamp;

use crate::ports::RateLimit;

/// More limits than GitHub has; a server that makes names up does not fill the memory.
const MAX_RESOURCES: usize = 32;

#[derive(Default)]
pub(super) struct RateLimits(Mutex<BTreeMap<String, RateLimit>>);

impl RateLimits {
    pub(super) fn all(&self) -> Vec<RateLimit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn note(&self, headers: &HeaderMap) {
        let Some(limit) = read(headers) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_RESOURCES || known.contains_key(&limit.resource) {
            known.insert(limit.resource.clone(), limit);
        }
    }
}

fn read(headers: &HeaderMap) -> Option<RateLimit> {
    let resource = text(headers, "x-ratelimit-resource").unwrap_or("core");
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
