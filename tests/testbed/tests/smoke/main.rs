//! The test bed itself: clusters side by side, both kinds of nodes, outages, and nothing left behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod arm;
mod lifecycle;
mod nodes;
mod store;

use std::time::{Duration, Instant};

/// Waits until `condition` yields something.
#[track_caller]
fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
