//! The world's time, which the paused runtime moves, and the controller's clock, which faults may set wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// When every simulation begins: 2026-01-05 08:00:00 UTC.
const BEGIN: i64 = 1_767_600_000;

/// The world's time.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    skew: Arc<AtomicI64>,
}

impl Clock {
    /// Begins now, and makes it the controller's clock on this thread.
    pub fn begin() -> Self {
        let clock = Self { start: Instant::now(), skew: Arc::default() };
        let controllers = clock.clone();
        stint::clock::set(move || {
            let skew = SignedDuration::from_secs(controllers.skew.load(Ordering::Relaxed));
            let now = controllers.now();
            now.saturating_add(skew).unwrap_or(now)
        });
        clock
    }

    /// How long the simulation has run.
    pub fn passed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The true time, which the models go by.
    pub fn now(&self) -> Timestamp {
        let begin = Timestamp::from_second(BEGIN).unwrap_or(Timestamp::UNIX_EPOCH);
        let passed = SignedDuration::try_from(self.passed()).unwrap_or_default();
        begin.saturating_add(passed).unwrap_or(begin)
    }

    /// Sets the controller's clock wrong by so many seconds.
    pub fn set_skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }

    /// Sleeps until a moment after the beginning.
    pub async fn until(&self, second: u64) {
        tokio::time::sleep_until(self.start + Duration::from_secs(second)).await;
    }
}

/// Sleeps for so many milliseconds of the world's time.
pub async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
