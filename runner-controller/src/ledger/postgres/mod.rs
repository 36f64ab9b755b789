//! The ledger in PostgreSQL, which several replicas share.
//!
//! While its server is away every call fails, after a few seconds at most, and is made again by whoever made it. Nothing
//! is kept here meanwhile: a row that was not committed is still in its runner's record.

mod errors;
mod lent;
mod schema;
mod settings;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::budget::Period;
use runner_core::job::JobKey;
use sqlx::postgres::{PgArguments, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, Row as _};

use super::rows::{self, Stored, Value};
use super::{expect, tail};
use crate::ports::{
    CallError, CallErrorKind, CallResult, Charges, KeptLogs, Ledger, LedgerRow, another_ledger,
};
use errors::failed;
pub use settings::PostgresSettings;

/// So many calls are under way at once; servers in Azure take few connections.
const CONNECTIONS: u32 = 4;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long the schema may take to be brought up to date, or to be found so.
const PREPARE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an answer with the whole ledger may take.
const WHOLE: Duration = Duration::from_secs(120);

/// What rows charge in each of some periods, all as of one moment, since it is one statement. At least one row for each
/// period. The first is for all rows, by the index on their time; the second for the latest rows, by their number.
/// No row adds more to a sum than a thousand million.
const CHARGES: [&str; 2] = [
    "SELECT period.place_in_list, (SELECT coalesce(max(number), 0) FROM stint.ledger) AS newest, sums.*
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS period (since, before, place_in_list)
     LEFT JOIN LATERAL (
         SELECT started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency,
                sum(greatest(least(round(amount * 100000000), 1e17), -1e17))::bigint AS units
         FROM stint.ledger
         WHERE stopped_at >= period.since AND stopped_at < period.before AND number > $3
         GROUP BY started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency
     ) AS sums ON true",
    "WITH latest AS MATERIALIZED (SELECT * FROM stint.ledger WHERE number > $3)
     SELECT period.place_in_list, (SELECT coalesce(max(number), 0) FROM stint.ledger) AS newest, sums.*
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS period (since, before, place_in_list)
     LEFT JOIN LATERAL (
         SELECT started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency,
                sum(greatest(least(round(amount * 100000000), 1e17), -1e17))::bigint AS units
         FROM latest
         WHERE stopped_at >= period.since AND stopped_at < period.before
         GROUP BY started_for_source, for_owner, for_repository, for_workflow, for_class, place, currency
     ) AS sums ON true",
];

/// Class and seconds of each class's latest rows, at most so many of each. One class after the other is looked up in the
/// index on classes, so that the cost grows with their number and not with the ledger.
const LATEST_SECONDS: &str = "
    WITH RECURSIVE classes (name) AS (
        SELECT min(for_class) FROM stint.ledger
        UNION ALL
        SELECT (SELECT min(for_class) FROM stint.ledger WHERE for_class > name) FROM classes WHERE name IS NOT NULL
    )
    SELECT latest.for_class, latest.seconds
    FROM classes CROSS JOIN LATERAL (
        SELECT number, for_class, seconds FROM stint.ledger
        WHERE for_class = classes.name ORDER BY -number LIMIT $1
    ) AS latest
    ORDER BY latest.number DESC";

/// Each part has an index of its own.
const LOGS: &str = "
    SELECT * FROM stint.logs
    WHERE runner IN (
        SELECT $1 UNION
        SELECT runner FROM stint.logs WHERE job_key = $1 UNION
        SELECT runner FROM stint.logs WHERE job_id = $1 UNION
        SELECT runner FROM stint.ledger WHERE job_key = $1 UNION
        SELECT runner FROM stint.ledger WHERE job_id = $1
    )
    ORDER BY kept_at DESC, runner";

/// A ledger in a PostgreSQL database, which several processes use at once.
pub struct PostgresLedger {
    settings: PostgresSettings,
    pool: PgPool,
    /// Set once the ledger was reached and is known to be the right one.
    id: OnceLock<String>,
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLedger").field("settings", &self.settings).field("id", &self.id).finish()
    }
}

impl PostgresLedger {
    /// A ledger whose database is there and up to date, or whose server cannot be reached yet. [`Ledger::identify`] must
    /// succeed before it takes and tells rows.
    ///
    /// # Errors
    /// `Refused` where the server was reached and says that it cannot be used like this.
    pub async fn open(settings: &PostgresSettings) -> CallResult<Self> {
        let options = settings.options()?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .connect_lazy_with(options);
        let ledger = Self { settings: settings.clone(), pool, id: OnceLock::new() };
        match ledger.prepare().await {
            Ok(_) => {}
            Err(error) if error.kind == CallErrorKind::Refused => return Err(error),
            Err(error) => tracing::warn!(%error, "the ledger cannot be reached yet: {error}"),
        }
        Ok(ledger)
    }

    /// Waits for what is under way and closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Brings the schema up to date and answers the ledger's id, on a connection of its own, whose error says more than the
    /// pool's.
    async fn prepare(&self) -> CallResult<String> {
        let late = |what: &str, within: Duration| {
            let message = format!("{what} at {}: no answer within {} s", self.settings, within.as_secs());
            CallError::new(CallErrorKind::Unavailable, message)
        };
        let options = self.settings.options()?;
        let mut connection = tokio::time::timeout(CONNECT, PgConnection::connect_with(&options))
            .await
            .map_err(|_| late("cannot reach the ledger", CONNECT))?
            .map_err(|error| failed(&self.settings, "cannot reach the ledger", &error))?;
        let id = tokio::time::timeout(PREPARE, schema::prepare(&mut connection, &self.settings))
            .await
            .map_err(|_| late("cannot open the ledger", PREPARE))??;
        // It has served its turn; how it ends does not matter.
        drop(tokio::time::timeout(CONNECT, connection.close()).await);
        Ok(id)
    }

    async fn fetch(
        &self,
        doing: &str,
        within: Duration,
        statement: Query<'_, Postgres, PgArguments>,
    ) -> CallResult<Vec<PgRow>> {
        if self.id.get().is_none() {
            let message =
                format!("{doing} at {}: it has not been reached since this process began", self.settings);
            return Err(CallError::new(CallErrorKind::Unavailable, message));
        }
        let result = lent::fetch(&self.pool, within, statement).await;
        result.map_err(|error| {
            self.renew_password(&error);
            failed(&self.settings, doing, &error)
        })
    }

    /// Takes up a password that was changed, for the next call.
    fn renew_password(&self, error: &sqlx::Error) {
        let code = error.as_database_error().and_then(|error| error.code());
        if code.as_deref() == Some("28P01")
            && let Ok(options) = self.settings.options()
        {
            self.pool.set_connect_options(options);
        }
    }

    fn unreadable(&self) -> impl Fn(sqlx::Error) -> CallError {
        |error| failed(&self.settings, "cannot read a row of the ledger", &error)
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn identify(&self, expected: Option<&str>) -> CallResult<String> {
        if let Some(id) = self.id.get() {
            return expect(id, expected);
        }
        let id = expect(&self.prepare().await?, expected)?;
        expect(self.id.get_or_init(|| id), expected)
    }

    async fn commit(&self, row: &LedgerRow) -> CallResult<bool> {
        let own = self.id.get().map(String::as_str).unwrap_or_default();
        let values = rows::values(row)?;
        let names = values.each_ref().map(|(name, _)| *name).join(", ");
        let places: Vec<String> = values
            .iter()
            .zip(1..)
            .map(|((_, value), number)| match value {
                Value::Text(_) | Value::Number(_) => format!("${number}"),
                Value::Decimal(_) => format!("CAST(${number} AS numeric)"),
            })
            .collect();
        // One statement, hence no transaction that a lost connection could leave open with the lock on numbers.
        let sql = format!(
            "INSERT INTO stint.ledger ({names}) SELECT {} FROM stint.identity WHERE id = ${}
             ON CONFLICT (group_id, machine_uid) DO NOTHING RETURNING number",
            places.join(", "),
            values.len() + 1
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for (_, value) in values {
            insert = match value {
                Value::Text(text) => insert.bind(text.map(storable)),
                Value::Number(number) => insert.bind(number),
                Value::Decimal(decimal) => insert.bind(decimal),
            };
        }
        let doing = "cannot commit a row to the ledger";
        if !self.fetch(doing, ANSWER, insert.bind(own)).await?.is_empty() {
            return Ok(true);
        }
        // The row was there, or the database was replaced.
        let identity = self.fetch(doing, ANSWER, sqlx::query("SELECT id FROM stint.identity")).await?;
        match identity.first().map(|row| row.try_get::<String, _>("id")) {
            Some(Ok(id)) if id == own => Ok(false),
            Some(Ok(other)) => Err(another_ledger(&other, own)),
            Some(Err(error)) => Err(failed(&self.settings, doing, &error)),
            None => Err(failed(&self.settings, doing, &sqlx::Error::ColumnNotFound("id".to_owned()))),
        }
    }

    async fn rows(&self) -> CallResult<Vec<LedgerRow>> {
        let statement = format!("{SELECT_ROWS} FROM stint.ledger ORDER BY number");
        let found =
            self.fetch("cannot read the ledger", WHOLE, sqlx::query(AssertSqlSafe(statement))).await?;
        found.iter().map(|row| Stored(row).row().map_err(self.unreadable())).collect()
    }

    async fn rows_of(&self, job: &JobKey) -> CallResult<Vec<LedgerRow>> {
        let statement = format!(
            "{SELECT_ROWS} FROM stint.ledger WHERE job_source = $1 AND job_id = $2 AND job_attempt = $3
             UNION ALL
             {SELECT_ROWS} FROM stint.ledger WHERE job_id IS NULL
             AND started_for_source = $1 AND started_for_id = $2 AND started_for_attempt = $3
             ORDER BY number"
        );
        let statement = sqlx::query(AssertSqlSafe(statement))
            .bind(storable((&*job.source).into()))
            .bind(storable((&*job.id).into()))
            .bind(i64::from(job.attempt));
        let found = self.fetch("cannot read the ledger", ANSWER, statement).await?;
        found.iter().map(|row| Stored(row).row().map_err(self.unreadable())).collect()
    }

    async fn charges(&self, periods: &[Period], after: u64) -> CallResult<Charges> {
        let doing = "cannot sum up the ledger";
        let cannot_read = |error| failed(&self.settings, doing, &error);
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let [all, latest] = CHARGES;
        let times = |of: fn(&Period) -> Timestamp| -> Vec<String> {
            periods.iter().map(|period| rows::time(of(period))).collect()
        };
        let statement = if periods.is_empty() {
            sqlx::query("SELECT coalesce(max(number), 0) AS newest FROM stint.ledger")
        } else {
            sqlx::query(if after == 0 { all } else { latest })
                .bind(times(|period| period.from))
                .bind(times(|period| period.until))
                .bind(after)
        };
        let mut charges = Charges { newest: 0, of: vec![Vec::new(); periods.len()] };
        for row in self.fetch(doing, ANSWER, statement).await? {
            let newest: i64 = row.try_get("newest").map_err(cannot_read)?;
            charges.newest = u64::try_from(newest).unwrap_or_default();
            if periods.is_empty() || row.try_get::<Option<i64>, _>("units").map_err(cannot_read)?.is_none() {
                continue;
            }
            let place: i64 = row.try_get("place_in_list").map_err(cannot_read)?;
            let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
            if let Some(of) = charges.of.get_mut(index) {
                of.push(Stored(&row).charge().map_err(cannot_read)?);
            }
        }
        Ok(charges)
    }

    async fn latest_seconds(&self, of_each: u32) -> CallResult<Vec<(String, u64)>> {
        let statement = sqlx::query(LATEST_SECONDS).bind(i64::from(of_each));
        let found = self.fetch("cannot read the latest rows of the ledger", ANSWER, statement).await?;
        found.iter().map(|row| Stored(row).class_seconds().map_err(self.unreadable())).collect()
    }

    async fn keep_logs(&self, logs: &KeptLogs) -> CallResult<()> {
        let statement = sqlx::query(
            "INSERT INTO stint.logs (runner, job_source, job_id, job_attempt, kept_at, origin, text)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (runner) DO UPDATE SET
                 job_source = excluded.job_source, job_id = excluded.job_id, job_attempt = excluded.job_attempt,
                 kept_at = excluded.kept_at, origin = excluded.origin, text = excluded.text",
        )
        .bind(storable((&*logs.runner).into()))
        .bind(storable((&*logs.job.source).into()))
        .bind(storable((&*logs.job.id).into()))
        .bind(i64::from(logs.job.attempt))
        .bind(rows::time(logs.kept_at))
        .bind(storable((&*logs.origin).into()))
        .bind(storable(tail(&logs.text).into()));
        self.fetch("cannot keep logs", ANSWER, statement).await.map(|_| ())
    }

    async fn logs(&self, of: &str) -> CallResult<Vec<KeptLogs>> {
        let statement = sqlx::query(LOGS).bind(storable(of.into()));
        let found = self.fetch("cannot read the kept logs", ANSWER, statement).await?;
        found.iter().map(|row| Stored(row).logs().map_err(self.unreadable())).collect()
    }

    async fn forget_logs_before(&self, before: Timestamp) -> CallResult<()> {
        let statement = sqlx::query("DELETE FROM stint.logs WHERE kept_at < $1").bind(rows::time(before));
        self.fetch("cannot forget old logs", WHOLE, statement).await.map(|_| ())
    }
}

/// All columns of a row, its decimals written out.
const SELECT_ROWS: &str = "
    SELECT number, group_id, machine_uid, runner, started_for_source, started_for_id, started_for_attempt, for_owner,
           for_repository, for_workflow, for_class, job_source, job_id, job_attempt, repository, job_name, class, place,
           ended_because, conclusion, started_at, started_from, stopped_at, stopped_from, bound_seconds, seconds, vcpu,
           memory_gb::text, amount::text, currency";

/// PostgreSQL keeps no NUL in text. What a runner printed may have one, and a row must not be lost for one.
fn storable(text: std::borrow::Cow<'_, str>) -> String {
    text.replace('\0', "\u{fffd}")
}
