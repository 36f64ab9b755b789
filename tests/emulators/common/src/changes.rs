//! Tells whoever waits that an emulator's state has changed, so that tests wait for conditions instead of sleeping.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Counts changes.
#[derive(Debug)]
pub struct Changes(watch::Sender<u64>);

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Changes {
    /// Wakes whoever waits.
    pub fn announce(&self) {
        self.0.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Waits until `look` finds something; looks again after every change. Nothing once `deadline` has passed.
    ///
    /// # Errors
    /// Those of `look`.
    pub async fn wait_until<T>(
        &self,
        look: impl Fn() -> anyhow::Result<Option<T>>,
        deadline: Duration,
    ) -> anyhow::Result<Option<T>> {
        let mut changes = self.0.subscribe();
        let until = Instant::now() + deadline;
        loop {
            changes.mark_unchanged();
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            if timeout_at(until, changes.changed()).await.is_err() {
                return look();
            }
        }
    }
}
