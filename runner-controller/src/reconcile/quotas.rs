//! What the planner is told of Azure's quotas: what was made and deleted, remembered over passes and processes, and what
//! Azure says of each region when it is asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use runner_core::plan::Snapshot;
use runner_core::quota::{AzureUse, Changes, Standing, stands};

use crate::clock;
use crate::execute::Outside;
use crate::observe::View;
use crate::ports::{Records, Usage};

/// How often Azure is asked.
const ASK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How long an answer holds.
const HOLDS_FOR: SignedDuration = SignedDuration::from_mins(10);

/// What is known of quotas.
#[derive(Default)]
pub(super) struct Quotas {
    /// None until the records were asked what those remembered that acted before.
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
    /// Forgets what was made and deleted, as this process begins to act: another one may have acted meanwhile, and what
    /// that one remembered must neither be overlooked nor written over.
    pub(super) fn forget(&mut self, records: &dyn Records) {
        self.changes = None;
        self.asked = None;
        records.remember(&records.remembered());
    }

    /// Learns from the runners there are, and tells the planner what is known.
    pub(super) fn look(&mut self, records: &dyn Records, snapshot: &mut Snapshot, now: Timestamp) {
        let changes = self.changes.get_or_insert_with(|| Changes::of_past(records.remembered()));
        changes.note(&snapshot.setup, &snapshot.runners, now);
        records.remember(changes.past());
        snapshot.changes.clone_from(changes);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let held = answers.known.iter().filter(|(_, (at, _))| now.duration_since(*at) < HOLDS_FOR);
        snapshot.azure = held.map(|(quota, (_, used))| (quota.clone(), *used)).collect();
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

#[cfg(test)]
mod tests {
    use runner_core::quota::{Change, Past};

    use super::*;
    use crate::local::LocalRecords;
    use crate::sqlite::Location;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[tokio::test]
    async fn a_replica_that_acts_again_learns_what_another_one_made_and_deleted_meanwhile() {
        let records = LocalRecords::open(&Location::Memory, 10).await.unwrap();
        let mut snapshot = Snapshot::default();
        let (mut first, mut second) = (Quotas::default(), Quotas::default());
        first.forget(&records);
        first.look(&records, &mut snapshot, at(0));

        // Another one makes and deletes a hundred.
        let made: Past = BTreeMap::from([(
            "sub/westeurope".to_owned(),
            BTreeMap::from([(at(60), Change { creates: 100, deletes: 100 })]),
        )]);
        second.forget(&records);
        second.look(&records, &mut snapshot, at(59));
        records.remember(&made);
        records.reserve(&["a".to_owned()]).await.unwrap();

        records.take_over("first", "ledger", false).await.unwrap();
        first.forget(&records);
        // Even a write before the first look keeps it.
        records.reserve(&["b".to_owned()]).await.unwrap();
        records.take_over("first", "ledger", false).await.unwrap();
        assert_eq!(records.remembered(), made);
        first.look(&records, &mut snapshot, at(61));
        assert_eq!(snapshot.changes.past(), &made);
        records.reserve(&["c".to_owned()]).await.unwrap();
        records.take_over("first", "ledger", false).await.unwrap();
        assert_eq!(records.remembered(), made);
    }
}
