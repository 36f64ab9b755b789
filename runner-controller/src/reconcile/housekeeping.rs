//! What is done now and then: old logs are forgotten.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::AbortOnDropHandle;

use crate::execute::Outside;

/// How often.
const EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How long logs are kept.
const LOGS_KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Housekeeping of the replica that acts.
#[derive(Default)]
pub(super) struct Housekeeping {
    last: Option<Timestamp>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Housekeeping {
    /// Begins what is due; it goes on beside the loop.
    pub(super) fn keep(&mut self, outside: &Arc<Outside>, now: Timestamp) {
        if self.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            return;
        }
        self.last = Some(now);
        let outside = outside.clone();
        self.task = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let before = now.saturating_sub(LOGS_KEPT).unwrap_or(Timestamp::MIN);
            if let Err(error) = outside.ledger.forget_logs_before(before).await {
                tracing::warn!(%error, "old logs cannot be deleted");
            }
        })));
    }

    /// Breaks off what is under way: only the replica that acts deletes.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}
