//! The ledger in SQLite: what each runner cost, append-only, and the logs that outlive its container group.
//!
//! Every row is on disk before [`Ledger::commit`] answers. Nothing here computes a bill, and nothing changes or
//! deletes a row: the schema refuses it, whoever asks.

mod rows;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::budget::Period;
use runner_core::job::JobKey;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use crate::ports::{CallResult, Charges, KeptLogs, Ledger, LedgerRow};
use crate::sqlite::{self, Location, Schema};

/// The most that is kept of one runner's logs, in bytes.
const LOG_LIMIT: usize = 64 * 1024;
/// Readers do not wait for each other, nor for the one writer.
const CONNECTIONS: u32 = 4;

const SCHEMA: Schema = Schema {
    what: "ledger",
    application_id: 0x5374_4c65,
    migrations: &[include_str!("schema_1.sql"), include_str!("schema_2.sql")],
};

/// A ledger in one SQLite file, which several processes may use at once.
#[derive(Clone, Debug)]
pub struct SqliteLedger {
    pool: SqlitePool,
    id: String,
}

impl SqliteLedger {
    /// Opens the ledger, and creates it if there is none.
    ///
    /// # Errors
    /// `Refused` where the file cannot be created, read or written, is damaged, is no ledger or was written by a newer
    /// program; `Unavailable` where another process keeps it locked.
    pub async fn open(at: &Location) -> CallResult<Self> {
        let pool = sqlite::open(at, SCHEMA, CONNECTIONS).await?;
        let id = sqlx::query_scalar("SELECT id FROM identity")
            .fetch_one(&pool)
            .await
            .map_err(|error| sqlite::failed("cannot read the ledger's identity", &error))?;
        Ok(Self { pool, id })
    }

    /// Waits for what is under way and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn id(&self) -> &str {
        &self.id
    }

    async fn commit(&self, row: &LedgerRow) -> CallResult<bool> {
        let inserted = rows::insert(row)?
            .execute(&self.pool)
            .await
            .map_err(|error| sqlite::failed("cannot commit a row to the ledger", &error))?;
        Ok(inserted.rows_affected() > 0)
    }

    async fn rows(&self) -> CallResult<Vec<LedgerRow>> {
        let found = sqlx::query("SELECT * FROM ledger ORDER BY number")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| sqlite::failed("cannot read the ledger", &error))?;
        read_all(&found)
    }

    async fn rows_of(&self, job: &JobKey) -> CallResult<Vec<LedgerRow>> {
        let found = sqlx::query(
            "SELECT * FROM ledger
             WHERE job_source = ?1 AND job_id = ?2 AND job_attempt = ?3
                OR job_id IS NULL
                   AND started_for_source = ?1 AND started_for_id = ?2 AND started_for_attempt = ?3
             ORDER BY number",
        )
        .bind(&job.source)
        .bind(&job.id)
        .bind(job.attempt)
        .fetch_all(&self.pool)
        .await
        .map_err(|error| sqlite::failed("cannot read the ledger", &error))?;
        read_all(&found)
    }

    async fn charges(&self, periods: &[Period], after: u64) -> CallResult<Charges> {
        let cannot_read = |error| sqlite::failed("cannot sum up the ledger", &error);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        // In a transaction everything is read as of its first statement.
        let mut moment = self.pool.begin().await.map_err(cannot_read)?;
        let newest: i64 = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM ledger")
            .fetch_one(&mut *moment)
            .await
            .map_err(cannot_read)?;
        let [all, latest] = rows::CHARGES;
        let mut of = Vec::with_capacity(periods.len());
        for period in periods {
            let found = sqlx::query(if after == 0 { all } else { latest })
                .bind(rows::time(period.from))
                .bind(rows::time(period.until))
                .bind(after)
                .fetch_all(&mut *moment)
                .await
                .map_err(cannot_read)?;
            of.push(found.iter().map(rows::read_charge).collect::<Result<_, _>>().map_err(cannot_read)?);
        }
        Ok(Charges { newest: u64::try_from(newest).unwrap_or_default(), of })
    }

    async fn latest_seconds(&self, of_each: u32) -> CallResult<Vec<(String, u64)>> {
        let found: Vec<(String, i64)> = sqlx::query_as(rows::LATEST_SECONDS)
            .bind(of_each)
            .fetch_all(&self.pool)
            .await
            .map_err(|error| sqlite::failed("cannot read the latest rows of the ledger", &error))?;
        Ok(found.into_iter().map(|(class, s)| (class, u64::try_from(s).unwrap_or_default())).collect())
    }

    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()> {
        rows::keep(logs, tail(&logs.text))
            .execute(&self.pool)
            .await
            .map_err(|error| sqlite::failed("cannot keep logs", &error))?;
        Ok(())
    }

    async fn logs(&self, of: &str) -> CallResult<Vec<KeptLogs>> {
        let cannot_read = |error| sqlite::failed("cannot read the kept logs", &error);
        let found = sqlx::query(
            "SELECT * FROM logs
             WHERE runner = ?1 OR job_key = ?1 OR job_id = ?1
                OR runner IN (SELECT runner FROM ledger WHERE job_key = ?1 OR job_id = ?1)
             ORDER BY kept_at DESC, runner",
        )
        .bind(of)
        .fetch_all(&self.pool)
        .await
        .map_err(cannot_read)?;
        found.iter().map(|row| rows::read_logs(row).map_err(cannot_read)).collect()
    }

    async fn forget_logs_before(&self, before: Timestamp) -> CallResult<()> {
        sqlx::query("DELETE FROM logs WHERE kept_at < ?")
            .bind(rows::time(before))
            .execute(&self.pool)
            .await
            .map_err(|error| sqlite::failed("cannot forget old logs", &error))?;
        Ok(())
    }
}

fn read_all(found: &[SqliteRow]) -> CallResult<Vec<LedgerRow>> {
    found
        .iter()
        .map(|row| rows::read(row).map_err(|error| sqlite::failed("cannot read a row of the ledger", &error)))
        .collect()
}

/// The last [`LOG_LIMIT`] bytes of a text, or a few less, so that no character is cut.
fn tail(text: &str) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_LIMIT));
    text.get(from..).unwrap_or_default()
}
