//! The emulators' clock: the one place where they read the time. It can be set ahead or back, so that a test sees
//! tokens expire or the two sides' clocks disagree without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The time of day as an emulator sees it: the system's, moved by an offset that all clones share.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The current time of this clock.
    pub fn now(&self) -> Timestamp {
        let now = system_now();
        let offset = SignedDuration::from_millis(self.offset_ms.load(Ordering::Relaxed));
        now.checked_add(offset).unwrap_or(now)
    }

    /// Moves the clock by `by`, which may be negative.
    pub fn advance(&self, by: SignedDuration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// The system's time.
#[expect(clippy::disallowed_methods, reason = "the one place where the emulators read the clock")]
pub fn system_now() -> Timestamp {
    Timestamp::now()
}

/// Whether `limit` has passed at `now` since `since`.
pub fn passed(since: Timestamp, now: Timestamp, limit: Duration) -> bool {
    now.duration_since(since).try_into().is_ok_and(|passed: Duration| passed >= limit)
}
