//! A ledger row, as the controller's API tells it.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::Deserialize;

/// A row of the ledger.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRow {
    /// UID of the pod.
    pub machine_uid: String,
    /// Runner.
    pub runner: String,
    /// The job that it was started for.
    pub started_for: String,
    /// The job that ran, where that is known.
    pub job: Option<String>,
    /// Repository of the job that ran.
    pub repository: String,
    /// Id of the group.
    pub group_id: String,
    /// When the meter started.
    pub started_at: Timestamp,
    /// Where that came from.
    pub started_from: String,
    /// When the meter stopped.
    pub stopped_at: Timestamp,
    /// Where that came from.
    pub stopped_from: String,
    /// By how much the billed seconds may be off.
    pub bound_seconds: u64,
    /// Billed seconds.
    pub seconds: u64,
    /// Billed vCPU.
    pub vcpu: u32,
    /// Billed memory.
    #[serde(rename = "memoryGB")]
    pub memory_gb: Decimal,
    /// Cost.
    pub amount: Decimal,
    /// Currency.
    pub currency: String,
    /// How the job ended.
    pub conclusion: Option<String>,
    /// Why the runner ended.
    pub ended_because: String,
}
