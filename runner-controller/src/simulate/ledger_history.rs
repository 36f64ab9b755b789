//! A ledger as history: each row that had a job becomes a job to replay.
//!
//! The ledger keeps what was billed, hence neither when a job was queued nor how long it ran by itself. Both are derived
//! with the start model's medians: queued so long before its meter started as a deployment takes, and running for what was
//! billed less the pull, the agent's start and the container's end. A job that waited is therefore replayed as if it had
//! been queued when its runner was started, and jobs on node pools, which have no row, are not replayed.

use std::path::Path;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::history::PastJob;
use super::start_model::StartModel;
use crate::ledger::SqliteLedger;
use crate::ports::{Ledger, LedgerRow};
use crate::sqlite::Location;

/// How a SQLite file begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What a ledger says of jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerHistory {
    /// The jobs, in the order in which they were queued.
    pub jobs: Vec<PastJob>,
    /// How many rows are of runners that had no job.
    pub without_job: usize,
}

/// Reads a ledger: its SQLite file, or the JSON that the controller's API answers at `/api/v1/ledger`.
///
/// # Errors
/// A file that cannot be read or is neither, or one without a job.
pub async fn read(path: &Path, model: &StartModel) -> anyhow::Result<LedgerHistory> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let rows: Vec<Row> = if bytes.starts_with(SQLITE) {
        drop(bytes);
        let ledger = SqliteLedger::open(&Location::File(path.to_owned()))
            .await
            .map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message))?;
        let rows = ledger.rows().await;
        ledger.close().await;
        let rows = rows.map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message))?;
        rows.into_iter().map(Row::from).collect()
    } else {
        of_json(&bytes).with_context(|| path.display().to_string())?
    };
    history(rows, model).with_context(|| path.display().to_string())
}

/// A ledger row, as far as it is needed, named as the API names it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    started_for: String,
    job: Option<String>,
    repository: String,
    job_name: String,
    class: String,
    conclusion: Option<String>,
    started_at: Timestamp,
    stopped_at: Timestamp,
}

impl From<LedgerRow> for Row {
    fn from(row: LedgerRow) -> Self {
        Self {
            started_for: row.started_for.to_string(),
            job: row.job.map(|job| job.to_string()),
            repository: row.repository,
            job_name: row.job_name,
            class: row.class,
            conclusion: row.conclusion,
            started_at: row.bill.started_at,
            stopped_at: row.bill.stopped_at,
        }
    }
}

fn of_json(bytes: &[u8]) -> anyhow::Result<Vec<Row>> {
    serde_json::from_slice(bytes).map_err(|error| {
        anyhow::anyhow!(
            "neither a ledger's SQLite file nor the JSON of it ({error}): give ledger.db of the state directory, or what the \
             controller answers at /api/v1/ledger"
        )
    })
}

fn history(rows: Vec<Row>, model: &StartModel) -> anyhow::Result<LedgerHistory> {
    let mut jobs = Vec::with_capacity(rows.len());
    let mut without_job = 0;
    for row in rows {
        let Some(id) = row.job.clone() else {
            without_job += 1;
            continue;
        };
        anyhow::ensure!(
            row.repository.contains('/'),
            "the row of {} names the repository {:?}: a job needs one as owner/name",
            row.started_for,
            row.repository
        );
        let overhead = model.pull + model.agent + model.exit;
        let billed = row.stopped_at.duration_since(row.started_at);
        jobs.push(PastJob {
            id,
            queued_at: row.started_at.saturating_sub(model.deploy).unwrap_or(Timestamp::MIN),
            duration: billed.saturating_sub(overhead).max(SignedDuration::from_secs(1)),
            repository: row.repository,
            labels: vec![row.class],
            source: None,
            public: false,
            workflow: None,
            name: Some(row.job_name).filter(|name| !name.is_empty()),
            conclusion: row.conclusion,
            cancelled_at: None,
        });
    }
    anyhow::ensure!(!jobs.is_empty(), "the ledger holds no row of a runner that had a job");
    jobs.sort_by_key(|job| job.queued_at);
    Ok(LedgerHistory { jobs, without_job })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apis_json_is_read_and_rows_without_a_job_are_counted() {
        let row = |job: &str| {
            format!(
                r#"{{"machineUid": "u", "runner": "stint-1", "startedFor": "acme-1-1", "job": {job}, "repository": "acme/web",
                    "jobName": "build", "class": "stint", "place": "vn", "endedBecause": "AgentExited", "conclusion": "success",
                    "startedAt": "2026-01-05T09:00:20Z", "stoppedAt": "2026-01-05T09:02:00Z", "seconds": 100}}"#
            )
        };
        let model = StartModel::parse("deploy=20s,pull=30s,agent=4s,exit=6s").unwrap();
        let text = format!("[{}, {}]", row("\"acme-1-1\""), row("null"));
        let read = history(of_json(text.as_bytes()).unwrap(), &model).unwrap();
        assert_eq!((read.jobs.len(), read.without_job), (1, 1));
        let job = &read.jobs[0];
        assert_eq!(job.queued_at.to_string(), "2026-01-05T09:00:00Z");
        assert_eq!(job.duration, SignedDuration::from_secs(60));
        assert_eq!((job.id.as_str(), job.labels.as_slice()), ("acme-1-1", &["stint".to_owned()][..]));
        assert!(history(of_json(format!("[{}]", row("null")).as_bytes()).unwrap(), &model).is_err());
    }

    #[test]
    fn what_is_no_ledger_is_said() {
        let error = of_json(b"runner,seconds").unwrap_err().to_string();
        assert!(error.contains("ledger.db") && error.contains("/api/v1/ledger"), "{error}");
    }
}
