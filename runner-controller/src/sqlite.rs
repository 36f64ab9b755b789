//! How a SQLite file is opened: created for its owner alone, durable before an answer, its schema brought up to date.
//!
//! What the tables mean is their adapter's business. Nothing here may hold a row.

use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::ports::{CallError, CallErrorKind, CallResult};

/// How long a connection waits for another process that is writing.
const BUSY: Duration = Duration::from_secs(5);

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a file, which is created if there is none. Its folder must exist.
    File(PathBuf),
    /// In memory: gone with the last handle on it.
    Memory,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File(path) => write!(f, "{}", path.display()),
            Location::Memory => f.write_str("the database in memory"),
        }
    }
}

/// What a database of one kind holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schema {
    /// What it is, for messages, such as `ledger`.
    pub(crate) what: &'static str,
    /// The mark in the file's header that tells one kind from another (`PRAGMA application_id`).
    pub(crate) application_id: u32,
    /// How each version of the schema comes from the one before. Never changed once released, only added to.
    pub(crate) migrations: &'static [&'static str],
}

/// Opens a database, creates it if need be, and brings its schema up to date.
///
/// A file has up to `connections` connections; what is in memory always has one.
///
/// # Errors
/// `Refused` where the file cannot be created, read or written, is damaged, is of another kind or was written by a
/// newer program; `Unavailable` where another process keeps it locked.
pub(crate) async fn open(at: &Location, schema: Schema, connections: u32) -> CallResult<SqlitePool> {
    let options = match at {
        Location::File(path) => {
            create_private(path).map_err(|error| {
                let kind = CallErrorKind::Refused;
                CallError::new(kind, format!("cannot open the {} {at} for writing: {error}", schema.what))
            })?;
            SqliteConnectOptions::new().filename(path)
        }
        Location::Memory => {
            "sqlite::memory:".parse().map_err(|error| failed(&format!("cannot open {at}"), &error))?
        }
    }
    .busy_timeout(BUSY)
    .synchronous(SqliteSynchronous::Full)
    .foreign_keys(true)
    // What is deleted, credentials among it, does not stay legible in free pages.
    .pragma("secure_delete", "ON");

    let pool = SqlitePoolOptions::new()
        .max_connections(if *at == Location::Memory { 1 } else { connections.max(1) })
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(BUSY * 2)
        // After some errors (a full disk) SQLite has rolled a transaction back by itself, which leaves the connection's
        // own count of it wrong for ever: such a connection is closed. The ping comes after a rollback that is under way.
        .before_acquire(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| failed(&format!("cannot open the {} {at}", schema.what), &error))?;
    match prepare(&pool, at, schema).await {
        Ok(()) => Ok(pool),
        Err(error) => {
            pool.close().await;
            Err(error)
        }
    }
}

/// Says what went wrong with a call to SQLite, in words that an admin can act on.
pub(crate) fn failed(doing: &str, error: &sqlx::Error) -> CallError {
    let code =
        error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    // The low byte is the primary result code (sqlite.org/rescode.html).
    let (kind, why) = match code.map(|code| code & 0xff) {
        Some(5 | 6) => (CallErrorKind::Unavailable, "locked by another process"),
        Some(8) => (CallErrorKind::Refused, "not writable"),
        Some(11 | 26) => (CallErrorKind::Refused, "damaged, or not a SQLite database"),
        Some(13) => (CallErrorKind::Unavailable, "the disk is full"),
        Some(14) => (CallErrorKind::Refused, "cannot be opened"),
        Some(19) => (CallErrorKind::Refused, "against the rules of the schema"),
        Some(_) | None => (CallErrorKind::Unavailable, "not available"),
    };
    CallError::new(kind, format!("{doing}: {why} ({error})"))
}

/// Makes sure that the file exists and that only its owner may read it. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(file);
    Ok(())
}

async fn prepare(pool: &SqlitePool, at: &Location, schema: Schema) -> CallResult<()> {
    let what = schema.what;
    let cannot_open = |error: sqlx::Error| failed(&format!("cannot open the {what} {at}"), &error);
    let refuse = |message: String| Err(CallError::new(CallErrorKind::Refused, message));
    if *at != Location::Memory {
        use_wal(pool).await.map_err(cannot_open)?;
    }
    // Immediate: whether the file can be written shows now rather than at the first row, and of two processes that
    // open a new file one waits.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(cannot_open)?;
    let header = sqlx::query(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema) AS objects
         FROM pragma_user_version, pragma_application_id",
    )
    .fetch_one(&mut *transaction)
    .await
    .map_err(cannot_open)?;
    let read = |column: &str| header.try_get::<i64, _>(column).map_err(cannot_open);
    let (version, mark, objects) = (read("user_version")?, read("application_id")?, read("objects")?);

    let fresh = version == 0 && mark == 0 && objects == 0;
    if !fresh && mark != i64::from(schema.application_id) {
        return refuse(format!("{at} is a SQLite database, but does not hold the {what} of Stint"));
    }
    let newest = schema.migrations.len();
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    let Some(missing) = schema.migrations.get(done..) else {
        return refuse(format!(
            "the {what} {at} has schema version {version}, and this program knows {newest} at most: use the newer \
             release of Stint that wrote it"
        ));
    };
    for (migration, version) in missing.iter().zip(done.saturating_add(1)..) {
        let mark = schema.application_id;
        let sql = format!("{migration};\nPRAGMA application_id = {mark};\nPRAGMA user_version = {version};");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(|error| {
            failed(&format!("cannot bring the {what} {at} to schema version {version}"), &error)
        })?;
    }
    transaction.commit().await.map_err(cannot_open)
}

/// Switches a file to write-ahead logging, where it stays. The switch needs the file for itself and does not wait for
/// it under the busy time-out (sqlite.org/wal.html), so it is tried again here.
async fn use_wal(pool: &SqlitePool) -> sqlx::Result<()> {
    let every_50_ms = ConstantBuilder::default().with_delay(Duration::from_millis(50)).with_max_times(100);
    (|| sqlx::query("PRAGMA journal_mode = WAL").execute(pool))
        .retry(every_50_ms)
        .when(|error| failed("", error).kind == CallErrorKind::Unavailable)
        .await
        .map(|_| ())
}

#[cfg(test)]
mod tests;
