//! How ledger rows and kept logs stand in their tables.

use std::error::Error;
use std::str::FromStr;

use jiff::Timestamp;
use runner_core::billing::{Bill, TimeSource};
use runner_core::budget::{Account, Charge};
use runner_core::job::JobKey;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};

use crate::ports::{CallError, CallErrorKind, CallResult, KeptLogs, LedgerRow};

type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A moment as text that sorts.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The statement that adds a row, unless its key is there.
pub(super) fn insert(row: &LedgerRow) -> CallResult<Statement<'_>> {
    let bill = &row.bill;
    let job = row.job.as_ref();
    Ok(sqlx::query(
        "INSERT INTO ledger (
             group_id, machine_uid, runner, started_for_source, started_for_id, started_for_attempt,
             for_owner, for_repository, for_workflow, for_class, job_source, job_id, job_attempt, repository, job_name, class, place, ended_because, conclusion,
             started_at, started_from, stopped_at, stopped_from, bound_seconds, seconds, vcpu, memory_gb, amount,
             amount_e8, currency)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
    )
    .bind(&bill.group_id)
    .bind(&row.machine_uid)
    .bind(&row.runner)
    .bind(&row.started_for.source)
    .bind(&row.started_for.id)
    .bind(row.started_for.attempt)
    .bind(&row.for_owner)
    .bind(&row.for_repository)
    .bind(&row.for_workflow)
    .bind(&row.for_class)
    .bind(job.map(|job| job.source.as_str()))
    .bind(job.map(|job| job.id.as_str()))
    .bind(job.map(|job| job.attempt))
    .bind(&row.repository)
    .bind(&row.job_name)
    .bind(&row.class)
    .bind(&row.place)
    .bind(&row.ended_because)
    .bind(&row.conclusion)
    .bind(time(bill.started_at))
    .bind(bill.started_from.as_str())
    .bind(time(bill.stopped_at))
    .bind(bill.stopped_from.as_str())
    .bind(seconds(bill.bound_seconds)?)
    .bind(seconds(bill.seconds)?)
    .bind(bill.vcpu)
    .bind(bill.memory_gb.to_string())
    .bind(bill.amount.to_string())
    .bind(in_units(bill.amount))
    .bind(&bill.currency))
}

/// A row of the ledger, read back.
pub(super) fn read(row: &SqliteRow) -> sqlx::Result<LedgerRow> {
    let job = match (row.try_get("job_source")?, row.try_get("job_id")?, row.try_get("job_attempt")?) {
        (Some(source), Some(id), Some(attempt)) => Some(JobKey { source, id, attempt }),
        (None, _, _) | (_, None, _) | (_, _, None) => None,
    };
    Ok(LedgerRow {
        machine_uid: row.try_get("machine_uid")?,
        runner: row.try_get("runner")?,
        started_for: JobKey {
            source: row.try_get("started_for_source")?,
            id: row.try_get("started_for_id")?,
            attempt: row.try_get("started_for_attempt")?,
        },
        for_owner: row.try_get("for_owner")?,
        for_repository: row.try_get("for_repository")?,
        for_workflow: row.try_get("for_workflow")?,
        for_class: row.try_get("for_class")?,
        job,
        repository: row.try_get("repository")?,
        job_name: row.try_get("job_name")?,
        class: row.try_get("class")?,
        place: row.try_get("place")?,
        ended_because: row.try_get("ended_because")?,
        conclusion: row.try_get("conclusion")?,
        bill: Bill {
            group_id: row.try_get("group_id")?,
            started_at: parsed(row, "started_at")?,
            started_from: origin(row, "started_from")?,
            stopped_at: parsed(row, "stopped_at")?,
            stopped_from: origin(row, "stopped_from")?,
            bound_seconds: whole(row, "bound_seconds")?,
            seconds: whole(row, "seconds")?,
            vcpu: row.try_get("vcpu")?,
            memory_gb: parsed(row, "memory_gb")?,
            amount: parsed(row, "amount")?,
            currency: row.try_get("currency")?,
        },
    })
}

/// The most that one row adds to a sum, in units: a thousand million. So thousands of millions of rows of sane prices,
/// and dozens of absurd ones, have a sum.
const MOST_UNITS: i64 = 100_000_000_000_000_000;

/// An amount in units of 1e-8, in which bills are rounded.
fn in_units(amount: Decimal) -> i64 {
    let units = amount.checked_mul(Decimal::from(100_000_000)).and_then(|units| units.round().to_i64());
    let most = if amount.is_sign_negative() { -MOST_UNITS } else { MOST_UNITS };
    units.map_or(most, |units| units.clamp(-MOST_UNITS, MOST_UNITS))
}

/// What rows charge in a period, by what budgets tell apart. The first is for all rows of a period, by the index on their
/// time; the second for the latest rows, by their number.
pub(super) const CHARGES: [&str; 2] = [
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
pub(super) const LATEST_SECONDS: &str = "
    WITH RECURSIVE classes (name) AS (
        SELECT min(for_class) FROM ledger
        UNION ALL
        SELECT (SELECT min(for_class) FROM ledger WHERE for_class > name) FROM classes WHERE name IS NOT NULL
    )
    SELECT for_class, seconds FROM classes CROSS JOIN ledger
    WHERE number IN (SELECT number FROM ledger WHERE for_class = name ORDER BY number DESC LIMIT ?)
    ORDER BY number DESC";

/// What rows charge, read back.
pub(super) fn read_charge(row: &SqliteRow) -> sqlx::Result<Charge> {
    let units: i64 = row.try_get("units")?;
    Ok(Charge {
        account: Account {
            source: row.try_get("started_for_source")?,
            owner: row.try_get("for_owner")?,
            repository: row.try_get("for_repository")?,
            workflow: row.try_get("for_workflow")?,
            class: row.try_get("for_class")?,
            place: row.try_get("place")?,
        },
        currency: row.try_get("currency")?,
        amount: Decimal::new(units, 8).normalize(),
    })
}

/// The statement that keeps logs, of which `text` is the part that fits.
pub(super) fn keep<'q>(logs: &'q KeptLogs, text: &'q str) -> Statement<'q> {
    sqlx::query(
        "INSERT OR REPLACE INTO logs (runner, job_source, job_id, job_attempt, kept_at, origin, text)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&logs.runner)
    .bind(&logs.job.source)
    .bind(&logs.job.id)
    .bind(logs.job.attempt)
    .bind(time(logs.kept_at))
    .bind(&logs.origin)
    .bind(text)
}

/// Kept logs, read back.
pub(super) fn read_logs(row: &SqliteRow) -> sqlx::Result<KeptLogs> {
    Ok(KeptLogs {
        runner: row.try_get("runner")?,
        job: JobKey {
            source: row.try_get("job_source")?,
            id: row.try_get("job_id")?,
            attempt: row.try_get("job_attempt")?,
        },
        kept_at: parsed(row, "kept_at")?,
        origin: row.try_get("origin")?,
        text: row.try_get("text")?,
    })
}

fn seconds(count: u64) -> CallResult<i64> {
    i64::try_from(count).map_err(|_| {
        CallError::new(
            CallErrorKind::Refused,
            format!("cannot commit {count} seconds to the ledger: too many"),
        )
    })
}

fn parsed<T: FromStr<Err: Error + Send + Sync + 'static>>(row: &SqliteRow, column: &str) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| undecodable(column, error))
}

fn whole(row: &SqliteRow, column: &str) -> sqlx::Result<u64> {
    let count: i64 = row.try_get(column)?;
    u64::try_from(count).map_err(|error| undecodable(column, error))
}

fn origin(row: &SqliteRow, column: &str) -> sqlx::Result<TimeSource> {
    let word: &str = row.try_get(column)?;
    TimeSource::ALL
        .into_iter()
        .find(|source| source.as_str() == word)
        .ok_or_else(|| undecodable(column, format!("unknown source {word}")))
}

fn undecodable(column: &str, why: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: why.into() }
}
