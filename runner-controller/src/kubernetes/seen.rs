//! Records as they are kept in memory: what the planner sees, and what only writing them back needs.

use jiff::Timestamp;
use kube::Resource;
use runner_core::job::Job;
use runner_core::lifecycle::Runner as CoreRunner;

use crate::config::{Runner, RunnerJob, conditions, convert};

/// A `RunnerJob`.
#[derive(Clone, PartialEq)]
pub(super) struct SeenJob {
    pub(super) job: Job,
    pub(super) uid: String,
    /// Whether it says that the job was admitted, and since when.
    pub(super) admitted: Option<(bool, Timestamp)>,
}

impl SeenJob {
    pub(super) fn of(record: &RunnerJob) -> Self {
        Self {
            job: convert::job(record),
            uid: record.meta().uid.clone().unwrap_or_default(),
            admitted: conditions::admitted(record),
        }
    }
}

/// A `Runner`.
#[derive(Clone, PartialEq)]
pub(super) struct SeenRunner {
    pub(super) runner: CoreRunner,
    pub(super) uid: String,
    pub(super) version: String,
}

impl SeenRunner {
    pub(super) fn of(record: &Runner) -> Self {
        Self {
            runner: convert::runner(record),
            uid: record.meta().uid.clone().unwrap_or_default(),
            version: record.meta().resource_version.clone().unwrap_or_default(),
        }
    }
}
