//! The ledger in one SQLite file.

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::budget::Period;
use runner_core::job::JobKey;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::rows::{self, Stored, Value};
use super::{expect, tail};
use crate::ports::{CallResult, Charges, KeptLogs, Ledger, LedgerRow};
use crate::sqlite::{self, Location, Schema};

/// Readers do not wait for each other, nor for the one writer.
const CONNECTIONS: u32 = 4;

const SCHEMA: Schema = Schema {
    what: "ledger",
    application_id: 0x5374_4c65,
    migrations: &[include_str!("schema_1.sql"), include_str!("schema_2.sql")],
};

/// The most that one row adds to a sum, in units: a thousand million. So thousands of millions of rows of sane prices,
/// and dozens of absurd ones, have a sum.
const MOST_UNITS: i64 = 100_000_000_000_000_000;

/// What rows charge in a period, by what budgets tell apart. The first is for all rows of a period, by the index on their
/// time; the second for the latest rows, by their number.
const CHARGES: [&str; 2] = [
    "SELECT started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency,
            SUM(amount_e8) AS units
     FROM ledger WHERE stopped_at >= ? AND stopped_at < ? AND number > ?
     GROUP BY started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency",
    "SELECT started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency,
            SUM(amount_e8) AS units
     FROM ledger WHERE +stopped_at >= ? AND +stopped_at < ? AND number > ?
     GROUP BY started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency",
];

/// Class and seconds of each class's latest rows, at most so many of each. One class after the other is looked up in the
/// index on classes, so that the cost grows with their number and not with the ledger.
const LATEST_SECONDS: &str = "
    WITH RECURSIVE classes (name) AS (
        SELECT min(for_class) FROM ledger
        UNION ALL
        SELECT (SELECT min(for_class) FROM ledger WHERE for_class > name) FROM classes WHERE name IS NOT NULL
    )
    SELECT for_class, seconds FROM classes CROSS JOIN ledger
    WHERE number IN (SELECT number FROM ledger WHERE for_class = name ORDER BY number DESC LIMIT ?)
    ORDER BY number DESC";

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
    async fn identify(&self, expected: Option<&str>) -> CallResult<String> {
        expect(&self.id, expected)
    }

    async fn commit(&self, row: &LedgerRow) -> CallResult<bool> {
        let values = rows::values(row)?;
        let names = values.each_ref().map(|(name, _)| *name).join(", ");
        let sql = format!(
            "INSERT INTO ledger ({names}, amount_e8) VALUES ({}?) ON CONFLICT DO NOTHING",
            "?, ".repeat(values.len())
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (_, value) in values {
            insert = match value {
                Value::Text(text) => insert.bind(text),
                Value::Number(number) => insert.bind(number),
                Value::Decimal(decimal) => insert.bind(decimal),
            };
        }
        let inserted = insert
            .bind(in_units(row.bill.amount))
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
        let [all, latest] = CHARGES;
        let mut of = Vec::with_capacity(periods.len());
        for period in periods {
            let found = sqlx::query(if after == 0 { all } else { latest })
                .bind(rows::time(period.from))
                .bind(rows::time(period.until))
                .bind(after)
                .fetch_all(&mut *moment)
                .await
                .map_err(cannot_read)?;
            of.push(
                found
                    .iter()
                    .map(|row| Stored(row).charge())
                    .collect::<Result<_, _>>()
                    .map_err(cannot_read)?,
            );
        }
        Ok(Charges { newest: u64::try_from(newest).unwrap_or_default(), of })
    }

    async fn latest_seconds(&self, of_each: u32) -> CallResult<Vec<(String, u64)>> {
        let cannot_read = |error| sqlite::failed("cannot read the latest rows of the ledger", &error);
        let found =
            sqlx::query(LATEST_SECONDS).bind(of_each).fetch_all(&self.pool).await.map_err(cannot_read)?;
        found.iter().map(|row| Stored(row).class_seconds().map_err(cannot_read)).collect()
    }

    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()> {
        sqlx::query(
            "INSERT OR REPLACE INTO logs (runner, job_source, job_id, job_attempt, kept_at, origin, text)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&logs.runner)
        .bind(&logs.job.source)
        .bind(&logs.job.id)
        .bind(logs.job.attempt)
        .bind(rows::time(logs.kept_at))
        .bind(&logs.origin)
        .bind(tail(&logs.text))
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
        found.iter().map(|row| Stored(row).logs().map_err(cannot_read)).collect()
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
    let cannot_read = |error| sqlite::failed("cannot read a row of the ledger", &error);
    found.iter().map(|row| Stored(row).row().map_err(cannot_read)).collect()
}

/// An amount in units of 1e-8, in which bills are rounded.
fn in_units(amount: Decimal) -> i64 {
    let units = amount.checked_mul(Decimal::from(100_000_000)).and_then(|units| units.round().to_i64());
    let most = if amount.is_sign_negative() { -MOST_UNITS } else { MOST_UNITS };
    units.map_or(most, |units| units.clamp(-MOST_UNITS, MOST_UNITS))
}
