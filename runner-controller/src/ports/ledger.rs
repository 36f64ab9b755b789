//! What the loop needs of the ledger.

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::billing::Bill;
use runner_core::budget::{Charge, Period};
use runner_core::job::JobKey;

use super::CallResult;

/// The append-only record of what each runner cost, and the logs that outlive it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// What tells this ledger from any other, for as long as it exists. Until this has succeeded once, a ledger that is
    /// elsewhere takes no rows: they could be meant for another.
    ///
    /// # Errors
    /// `Refused` where another one is expected or it cannot be used, `Unavailable` where it cannot be reached yet.
    async fn identify(&self, expected: Option<&str>) -> CallResult<String>;
    /// Commits a row. The same group and machine again is no error and changes nothing; answers whether it was new.
    async fn commit(&self, row: &LedgerRow) -> CallResult<bool>;
    /// All rows, oldest first.
    async fn rows(&self) -> CallResult<Vec<LedgerRow>>;
    /// The rows of runners that ran a job, or were started for it and ran nothing, oldest first.
    async fn rows_of(&self, job: &JobKey) -> CallResult<Vec<LedgerRow>>;
    /// What the rows with a number above `after` charge in each of these periods, by when their meter stopped, all as of
    /// one moment. Numbers begin at 1 and grow in the order in which rows become visible.
    async fn charges(&self, periods: &[Period], after: u64) -> CallResult<Charges>;
    /// Class and billed seconds of each class's latest rows, at most so many of each, the latest first.
    async fn latest_seconds(&self, of_each: u32) -> CallResult<Vec<(String, u64)>>;
    /// Keeps the last logs of a runner; longer ones are cut to their last 64 KiB. A later call replaces.
    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()>;
    /// The logs kept for a runner (by name) or a job (by key or by the source's id), newest runner first.
    async fn logs(&self, of: &str) -> CallResult<Vec<KeptLogs>>;
    /// Deletes logs that were kept before this moment.
    async fn forget_logs_before(&self, before: Timestamp) -> CallResult<()>;
}

/// What rows of the ledger charge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// The number of the newest row there is; 0 if there is none.
    pub newest: u64,
    /// What is charged in each of the periods that were asked for, in their order.
    pub of: Vec<Vec<Charge>>,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// UID of the pod, or of the machine where there is no cluster. With the group's id, the row's key.
    pub machine_uid: String,
    /// The runner.
    pub runner: String,
    /// The job that it was started for.
    pub started_for: JobKey,
    /// Owner of that job's repository: with the three below, the source and the place, what budgets tell money apart by.
    pub for_owner: String,
    /// Its repository; empty where its record is gone.
    pub for_repository: String,
    /// Its workflow; empty where that is not known.
    pub for_workflow: String,
    /// Name of the class, without a size.
    pub for_class: String,
    /// The job that it ran, if it ran one.
    pub job: Option<JobKey>,
    /// Repository of the job that it ran, else of the one it was started for.
    pub repository: String,
    /// Name of that job.
    pub job_name: String,
    /// Class and size, as the label that asks for it.
    pub class: String,
    /// Place.
    pub place: String,
    /// Why it ended: a code of [`runner_core::reason`].
    pub ended_because: String,
    /// How its job ended, if it ran one.
    pub conclusion: Option<String>,
    /// The money and the times.
    pub bill: Bill,
}

/// What is kept of a runner's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLogs {
    /// The runner.
    pub runner: String,
    /// The job that it was started for.
    pub job: JobKey,
    /// When they were kept.
    pub kept_at: Timestamp,
    /// Where they came from: `arm` or `call-back`.
    pub origin: String,
    /// The text.
    pub text: String,
}
