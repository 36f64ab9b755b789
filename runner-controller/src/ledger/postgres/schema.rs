//! The schema of a PostgreSQL ledger: brought up to date under a lock, so that replicas that start at once do not collide.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::errors::failed;
use super::settings::PostgresSettings;
use crate::ledger::newer_schema;
use crate::ports::{CallError, CallErrorKind, CallResult};

/// How each version of the schema comes from the one before. Never changed once released, only added to.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql")];
/// The advisory lock that whoever changes the schema holds; the numbering of rows takes the same one.
const LOCK: i64 = 0x5374_4c65;
/// The oldest server that has what the schema uses.
const OLDEST_SERVER: i64 = 130_000;

/// Brings the schema up to date, creating it if there is none, and answers the ledger's id.
///
/// # Errors
/// `Refused` where the database cannot hold a ledger or holds something else, or the role may not; `Unavailable` where the
/// server does not answer.
pub(super) async fn prepare(connection: &mut PgConnection, at: &PostgresSettings) -> CallResult<String> {
    let cannot_open = |error: sqlx::Error| failed(at, "cannot open the ledger", &error);
    let refuse = |why: String| Err(CallError::new(CallErrorKind::Refused, format!("--ledger {at}: {why}")));
    let mut transaction = connection.begin().await.map_err(cannot_open)?;
    // A replica that is cut off meanwhile must not keep the lock.
    sqlx::raw_sql("SET LOCAL idle_in_transaction_session_timeout = '30s'")
        .execute(&mut *transaction)
        .await
        .map_err(cannot_open)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(cannot_open)?;
    let found = sqlx::query(
        "SELECT current_setting('server_version_num')::bigint AS server,
                current_setting('server_encoding') AS encoding,
                to_regnamespace('stint') IS NOT NULL AS schema,
                to_regclass('stint.schema_version') IS NOT NULL AS ours,
                EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace('stint')) AS filled",
    )
    .fetch_one(&mut *transaction)
    .await
    .map_err(cannot_open)?;
    let is = |column: &str| found.try_get::<bool, _>(column).map_err(cannot_open);
    let (server, encoding): (i64, String) =
        (found.try_get("server").map_err(cannot_open)?, found.try_get("encoding").map_err(cannot_open)?);
    if server < OLDEST_SERVER {
        return refuse(format!(
            "the server is PostgreSQL {}, and 13 is the oldest that will do",
            server / 10_000
        ));
    }
    if encoding != "UTF8" {
        return refuse(format!(
            "the database keeps text as {encoding}: create it with ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    let (schema, ours, filled) = (is("schema")?, is("ours")?, is("filled")?);
    if filled && !ours {
        return refuse(
            "the database has a schema stint that is not a ledger of Stint: name a database of its own"
                .to_owned(),
        );
    }
    let done: i64 = if ours {
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM stint.schema_version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(cannot_open)?
    } else {
        0
    };
    if !schema {
        let create = sqlx::raw_sql("CREATE SCHEMA stint").execute(&mut *transaction).await;
        create.map_err(cannot_open)?;
    }
    let Some(missing) = MIGRATIONS.get(usize::try_from(done).unwrap_or(usize::MAX)..) else {
        return Err(newer_schema(format_args!("the ledger at {at}"), done, MIGRATIONS.len()));
    };
    for (migration, version) in missing.iter().zip(done.saturating_add(1)..) {
        let sql = format!("{migration};\nINSERT INTO stint.schema_version VALUES ({version});");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(|error| {
            failed(at, &format!("cannot bring the ledger to schema version {version}"), &error)
        })?;
    }
    let id = sqlx::query_scalar("SELECT id FROM stint.identity")
        .fetch_one(&mut *transaction)
        .await
        .map_err(cannot_open)?;
    transaction.commit().await.map_err(cannot_open)?;
    Ok(id)
}
