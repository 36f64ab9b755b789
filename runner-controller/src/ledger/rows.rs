//! How ledger rows and kept logs stand in their tables, whichever database holds them: columns, values, and back.
//!
//! What SQL asks for them is each database's own.

use std::borrow::Cow;
use std::error::Error;
use std::str::FromStr;

use jiff::Timestamp;
use runner_core::billing::{Bill, TimeSource};
use runner_core::budget::{Account, Charge};
use runner_core::job::JobKey;
use rust_decimal::Decimal;
use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::ports::{CallError, CallErrorKind, CallResult, KeptLogs, LedgerRow};

/// A moment as text that sorts.
pub(super) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// A value for a column.
pub(super) enum Value<'a> {
    /// Text, or none.
    Text(Option<Cow<'a, str>>),
    /// A whole number, or none.
    Number(Option<i64>),
    /// A decimal number, written out.
    Decimal(String),
}

/// How many columns a row fills.
const COUNT: usize = 29;

/// The columns that a row fills, each with its value.
pub(super) fn values(row: &LedgerRow) -> CallResult<[(&'static str, Value<'_>); COUNT]> {
    let text = |text: &'static str, value| (text, Value::Text(Some(Cow::Borrowed(value))));
    let number = |name: &'static str, value: u32| (name, Value::Number(Some(value.into())));
    let moment = |name: &'static str, at| (name, Value::Text(Some(Cow::Owned(time(at)))));
    let bill = &row.bill;
    let job = row.job.as_ref();
    let maybe = |value: Option<&'_ str>| Value::Text(value.map(|value| Cow::Owned(value.to_owned())));
    Ok([
        text("group_id", &bill.group_id),
        text("machine_uid", &row.machine_uid),
        text("runner", &row.runner),
        text("started_for_source", &row.started_for.source),
        text("started_for_id", &row.started_for.id),
        number("started_for_attempt", row.started_for.attempt),
        text("for_owner", &row.for_owner),
        text("for_repository", &row.for_repository),
        text("for_workflow", &row.for_workflow),
        text("for_class", &row.for_class),
        ("job_source", maybe(job.map(|job| job.source.as_str()))),
        ("job_id", maybe(job.map(|job| job.id.as_str()))),
        ("job_attempt", Value::Number(job.map(|job| job.attempt.into()))),
        text("repository", &row.repository),
        text("job_name", &row.job_name),
        text("class", &row.class),
        text("place", &row.place),
        text("ended_because", &row.ended_because),
        ("conclusion", maybe(row.conclusion.as_deref())),
        moment("started_at", bill.started_at),
        text("started_from", bill.started_from.as_str()),
        moment("stopped_at", bill.stopped_at),
        text("stopped_from", bill.stopped_from.as_str()),
        ("bound_seconds", Value::Number(Some(seconds(bill.bound_seconds)?))),
        ("seconds", Value::Number(Some(seconds(bill.seconds)?))),
        number("vcpu", bill.vcpu),
        ("memory_gb", Value::Decimal(bill.memory_gb.to_string())),
        ("amount", Value::Decimal(bill.amount.to_string())),
        text("currency", &bill.currency),
    ])
}

/// A row of a table, read column by column. Decimals must be selected as text.
pub(super) struct Stored<'r, R>(pub(super) &'r R);

impl<'r, R> Stored<'r, R>
where
    R: Row,
    for<'i> &'i str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    /// A row of the ledger.
    pub(super) fn row(&self) -> sqlx::Result<LedgerRow> {
        let attempt: Option<i64> = self.0.try_get("job_attempt")?;
        let job = match (self.0.try_get("job_source")?, self.0.try_get("job_id")?, attempt) {
            (Some(source), Some(id), Some(_)) => {
                Some(JobKey { source, id, attempt: self.number("job_attempt")? })
            }
            (None, _, _) | (_, None, _) | (_, _, None) => None,
        };
        Ok(LedgerRow {
            machine_uid: self.text("machine_uid")?,
            runner: self.text("runner")?,
            started_for: JobKey {
                source: self.text("started_for_source")?,
                id: self.text("started_for_id")?,
                attempt: self.number("started_for_attempt")?,
            },
            for_owner: self.text("for_owner")?,
            for_repository: self.text("for_repository")?,
            for_workflow: self.text("for_workflow")?,
            for_class: self.text("for_class")?,
            job,
            repository: self.text("repository")?,
            job_name: self.text("job_name")?,
            class: self.text("class")?,
            place: self.text("place")?,
            ended_because: self.text("ended_because")?,
            conclusion: self.0.try_get("conclusion")?,
            bill: Bill {
                group_id: self.text("group_id")?,
                started_at: self.parsed("started_at")?,
                started_from: self.origin("started_from")?,
                stopped_at: self.parsed("stopped_at")?,
                stopped_from: self.origin("stopped_from")?,
                bound_seconds: self.number("bound_seconds")?,
                seconds: self.number("seconds")?,
                vcpu: self.number("vcpu")?,
                memory_gb: self.parsed("memory_gb")?,
                amount: self.parsed("amount")?,
                currency: self.text("currency")?,
            },
        })
    }

    /// What rows charge, its sum in units of 1e-8.
    pub(super) fn charge(&self) -> sqlx::Result<Charge> {
        let units: i64 = self.0.try_get("units")?;
        Ok(Charge {
            account: Account {
                source: self.text("started_for_source")?,
                owner: self.text("for_owner")?,
                repository: self.text("for_repository")?,
                workflow: self.text("for_workflow")?,
                class: self.text("for_class")?,
                place: self.text("place")?,
            },
            currency: self.text("currency")?,
            amount: Decimal::new(units, 8).normalize(),
        })
    }

    /// Class and seconds.
    pub(super) fn class_seconds(&self) -> sqlx::Result<(String, u64)> {
        Ok((self.text("for_class")?, self.number("seconds")?))
    }

    /// Kept logs.
    pub(super) fn logs(&self) -> sqlx::Result<KeptLogs> {
        Ok(KeptLogs {
            runner: self.text("runner")?,
            job: JobKey {
                source: self.text("job_source")?,
                id: self.text("job_id")?,
                attempt: self.number("job_attempt")?,
            },
            kept_at: self.parsed("kept_at")?,
            origin: self.text("origin")?,
            text: self.text("text")?,
        })
    }

    fn text(&self, column: &str) -> sqlx::Result<String> {
        self.0.try_get(column)
    }

    fn parsed<T: FromStr<Err: Error + Send + Sync + 'static>>(&self, column: &str) -> sqlx::Result<T> {
        self.text(column)?.parse().map_err(|error| undecodable(column, error))
    }

    fn number<T: TryFrom<i64, Error: Error + Send + Sync + 'static>>(&self, column: &str) -> sqlx::Result<T> {
        let number: i64 = self.0.try_get(column)?;
        number.try_into().map_err(|error| undecodable(column, error))
    }

    fn origin(&self, column: &str) -> sqlx::Result<TimeSource> {
        let word = self.text(column)?;
        TimeSource::ALL
            .into_iter()
            .find(|source| source.as_str() == word)
            .ok_or_else(|| undecodable(column, format!("unknown source {word}")))
    }
}

fn seconds(count: u64) -> CallResult<i64> {
    i64::try_from(count).map_err(|_| {
        CallError::new(
            CallErrorKind::Refused,
            format!("cannot commit {count} seconds to the ledger: too many"),
        )
    })
}

fn undecodable(column: &str, why: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: why.into() }
}
