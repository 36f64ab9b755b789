//! What the planner is told of Azure's quotas: what was made and deleted, remembered over passes and processes, and what
//! Azure says of each region when it is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use runner_core::quota::{AzureUse, Changes, Standing, stands};

use crate::clock;
use crate::execute::Outside;
use crate::observe::View;
use crate::ports::Usage;

/// How often Azure is asked.
const ASK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How long an answer holds.
const HOLDS_FOR: SignedDuration = SignedDuration::from_mins(10);

/// What is known of quotas.
#[derive(Default)]
pub(super) struct Quotas {
    /// None until a process that acted before was asked for what it remembered.
    changes: Option<Changes>,
    answers: Arc<Mutex<Answers>>,
    asked: Option<Timestamp>,
}

/// What Azure answered, by quota.
#[derive(Default)]
struct Answers {
    known: BTreeMap<String, (Timestamp, AzureUse)>,
    /// Those whose last call failed, so that it is said once.
    failing: BTreeMap<String, String>,
}

impl Quotas {
    /// Learns from the runners there are, and tells the planner what is known.
    pub(super) fn look(&mut self, outside: &Outside, view: &mut View, now: Timestamp) {
        let changes = self.changes.get_or_insert_with(|| Changes::of_past(outside.records.remembered()));
        changes.note(&view.snapshot.setup, &view.snapshot.runners, now);
        outside.records.remember(changes.past());
        view.snapshot.changes.clone_from(changes);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let held = answers.known.iter().filter(|(_, (at, _))| now.duration_since(*at) < HOLDS_FOR);
        view.snapshot.azure = held.map(|(quota, (_, used))| (quota.clone(), *used)).collect();
    }

    /// Asks Azure where that is due; it goes on beside the loop.
    pub(super) fn ask(&mut self, outside: &Arc<Outside>, view: &View, now: Timestamp) {
        if self.asked.is_some_and(|asked| now.duration_since(asked) < ASK_EVERY) {
            return;
        }
        self.asked = Some(now);
        let regions: HashMap<String, (String, String)> = view
            .resolved
            .places
            .values()
            .filter(|place| !place.region.is_empty())
            .filter_map(|place| {
                let quota = place.place.quota.clone()?;
                Some((quota, (place.subscription.clone(), place.region.clone())))
            })
            .collect();
        let (outside, answers) = (outside.clone(), self.answers.clone());
        let (setup, changes) = (view.snapshot.setup.clone(), view.snapshot.changes.clone());
        tokio::spawn(async move {
            for (quota, (subscription, region)) in regions {
                let answer = outside.groups.usage(&subscription, &region).await;
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                match answer {
                    Ok(usage) => {
                        let runners = outside.records.observe().map(|seen| seen.runners).unwrap_or_default();
                        let own = stands(&setup, &changes, &quota, &runners);
                        answers.known.insert(quota.clone(), (clock::now(), without_own(usage, own)));
                        answers.failing.remove(&quota);
                    }
                    Err(error) => {
                        let before = answers.failing.insert(quota, error.message.clone());
                        if before.as_ref() != Some(&error.message) {
                            tracing::warn!(
                                region,
                                %error,
                                "Azure does not tell what is in use in {region}, so the configured or default quota is \
                                 taken to be free: grant Microsoft.ContainerInstance/locations/usages/read on the \
                                 subscription: {error}"
                            );
                        }
                    }
                }
            }
        });
    }
}

/// What others use. `own`: Stint's own groups and cores.
fn without_own(usage: Usage, own: (u64, u64)) -> AzureUse {
    let standing = |of: Option<(u64, u64)>, own: u64| {
        of.map(|(used, limit)| Standing { limit, others: used.saturating_sub(own) })
    };
    AzureUse { groups: standing(usage.groups, own.0), cores: standing(usage.cores, own.1) }
}
