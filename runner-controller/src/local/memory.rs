//! The records as last written, for the `fn`s of [`crate::ports::Records`] that are not async, and who waits for their change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use runner_core::job::{Job, JobKey};
use runner_core::lifecycle::Runner;
use runner_core::quota::Past;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::config::Documents;

/// All that is held in memory.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) stored: StoredRecords,
    /// `None` until they have been read once.
    pub(super) documents: Option<Arc<Documents>>,
    pub(super) secrets: HashMap<String, HashMap<String, SecretString>>,
}

/// The part that is also in SQLite.
#[derive(Debug, Default)]
pub(super) struct StoredRecords {
    pub(super) jobs: BTreeMap<JobKey, Job>,
    pub(super) runners: BTreeMap<String, Runner>,
    pub(super) reserved: BTreeSet<String>,
    /// Of groups that were made and deleted lately.
    pub(super) past: Past,
}

/// What a committed write has changed.
#[derive(Debug)]
pub(super) enum Change {
    Nothing,
    Job(Box<Job>),
    JobGone(JobKey),
    Runner(Box<Runner>),
    RunnerGone(String),
    Reserved(Vec<String>),
    Unreserved(Vec<String>),
    All(Box<StoredRecords>),
}

impl StoredRecords {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::All(stored) => *self = *stored,
            Change::Job(job) => {
                self.jobs.insert(job.key.clone(), *job);
            }
            Change::JobGone(key) => {
                self.jobs.remove(&key);
            }
            Change::Runner(runner) => {
                self.runners.insert(runner.name.clone(), *runner);
            }
            Change::RunnerGone(name) => {
                self.runners.remove(&name);
            }
            Change::Reserved(names) => self.reserved.extend(names),
            Change::Unreserved(names) => self.reserved.retain(|name| !names.contains(name)),
        }
    }
}

/// The contents, and a count of their changes.
#[derive(Debug)]
pub(super) struct Memory {
    contents: RwLock<Contents>,
    changes: watch::Sender<u64>,
    /// How many changes there were when [`Self::changed`] last completed.
    told: AtomicU64,
}

impl Memory {
    pub(super) fn new(stored: StoredRecords) -> Self {
        let contents = Contents { stored, ..Contents::default() };
        Self { contents: RwLock::new(contents), changes: watch::Sender::new(1), told: AtomicU64::new(0) }
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Completes at once if there was a change since it last completed, for whomever; else with the next one, for
    /// everybody who waits.
    pub(super) async fn changed(&self) {
        let mut changes = self.changes.subscribe();
        let seen = *changes.borrow_and_update();
        if self.told.fetch_max(seen, Ordering::SeqCst) < seen {
            return;
        }
        // The sender lives as long as `self`, so this ends with a change only.
        if changes.changed().await.is_ok() {
            let seen = *changes.borrow();
            self.told.fetch_max(seen, Ordering::SeqCst);
        }
    }
}
