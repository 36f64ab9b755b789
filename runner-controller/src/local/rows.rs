//! How jobs and their facts are read back from their tables. Writes nothing.

use jiff::Timestamp;
use runner_core::job::{Job, JobFact, JobKey};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::{StoreError, StoreResult};
use super::mirror::{Json, action_of};
use crate::ports::CallErrorKind;

pub(super) fn read_key(row: &SqliteRow) -> StoreResult<JobKey> {
    Ok(JobKey {
        source: row.try_get("source")?,
        id: row.try_get("job_id")?,
        attempt: row.try_get("attempt")?,
    })
}

/// A job without its facts.
pub(super) fn read_job(row: &SqliteRow) -> StoreResult<Job> {
    Ok(Job {
        key: read_key(row)?,
        description: Json::from_json(row.try_get("description")?)?,
        stored_at: read_time(row, "stored_at")?,
        facts: Vec::new(),
        report: Json::from_json(row.try_get("report")?)?,
        found: Json::from_json(row.try_get("found")?)?,
    })
}

pub(super) fn read_fact(row: &SqliteRow) -> StoreResult<JobFact> {
    let word: &str = row.try_get("action")?;
    let action = action_of(word)
        .ok_or_else(|| StoreError::call(CallErrorKind::Refused, format!("unknown action {word} of a job")))?;
    Ok(JobFact {
        id: row.try_get("id")?,
        action,
        heard_at: read_time(row, "heard_at")?,
        runner: row.try_get("runner")?,
        conclusion: row.try_get("conclusion")?,
    })
}

fn read_time(row: &SqliteRow, column: &str) -> StoreResult<Timestamp> {
    row.try_get::<&str, _>(column)?
        .parse()
        .map_err(|error| StoreError::call(CallErrorKind::Refused, format!("{column} is not a time: {error}")))
}
