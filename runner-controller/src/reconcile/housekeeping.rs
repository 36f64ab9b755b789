//! What is done now and then: old logs are forgotten, and groups that no record stands for are reported.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::execute::Outside;
use crate::observe::View;

/// How often.
const EVERY: SignedDuration = SignedDuration::from_mins(5);
/// How long logs are kept.
const LOGS_KEPT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Housekeeping of the replica that acts.
#[derive(Default)]
pub(super) struct Housekeeping {
    last: Option<Timestamp>,
}

impl Housekeeping {
    /// Begins what is due; it goes on beside the loop.
    pub(super) fn keep(&mut self, outside: &Arc<Outside>, view: &View, now: Timestamp) {
        if self.last.is_some_and(|last| now.duration_since(last) < EVERY) {
            return;
        }
        self.last = Some(now);
        let known: BTreeSet<String> = view
            .snapshot
            .runners
            .iter()
            .map(|runner| runner.name.clone())
            .chain(view.snapshot.reserved.iter().cloned())
            .collect();
        let places: BTreeSet<(String, String)> = view
            .resolved
            .places
            .values()
            .filter(|place| !place.subscription.is_empty() && !place.resource_group.is_empty())
            .map(|place| (place.subscription.clone(), place.resource_group.clone()))
            .collect();
        let outside = outside.clone();
        tokio::spawn(async move {
            let before = now.saturating_sub(LOGS_KEPT).unwrap_or(Timestamp::MIN);
            if let Err(error) = outside.ledger.forget_logs_before(before).await {
                tracing::warn!(%error, "old logs cannot be deleted");
            }
            report_strays(&outside, &known, &places).await;
        });
    }
}

/// Reports groups that bear a name of this installation's and that no record stands for. They are not deleted: what runs
/// in them is not known, as after an older state of the records was restored.
async fn report_strays(outside: &Outside, known: &BTreeSet<String>, places: &BTreeSet<(String, String)>) {
    let mut strays = 0;
    for (subscription, resource_group) in places {
        let groups = match outside.groups.list(subscription, resource_group).await {
            Ok(groups) => groups,
            Err(error) => {
                tracing::warn!(resource_group, %error, "the groups of {resource_group} cannot be listed");
                continue;
            }
        };
        for group in groups {
            // Neither before nor after the list was read.
            let unknown = |runner: &String| {
                !known.contains(runner)
                    && outside.records.runner(runner).is_none()
                    && !outside.records.is_reserved(runner)
            };
            if let Some(runner) = outside.runner_of(&group.name).filter(unknown) {
                strays += 1;
                tracing::error!(
                    group = group.id,
                    "group {} bears the name of runner {runner}, of which there is no record; if nothing of it is \
                     needed, delete it: az container delete --ids {}",
                    group.name,
                    group.id
                );
            }
        }
    }
    outside.metrics.set_strays(strays);
}
