//! The ledger: what each runner cost, append-only, and the logs that outlive its container group. In a SQLite file for
//! one replica, in PostgreSQL for several.
//!
//! Every row is durable before [`Ledger::commit`] answers. Nothing here computes a bill, and nothing changes or
//! deletes a row: the schemas refuse it, whoever asks.

mod postgres;
mod rows;
mod sqlite;

use std::sync::Arc;

pub use postgres::{PostgresLedger, PostgresSettings};
pub use sqlite::SqliteLedger;

use crate::ports::{CallError, CallErrorKind, CallResult, Ledger, another_ledger};
use crate::sqlite::Location;

/// The most that is kept of one runner's logs, in bytes.
const LOG_LIMIT: usize = 64 * 1024;

/// Where a ledger is.
#[derive(Clone, Debug)]
pub enum LedgerLocation {
    /// In a SQLite database.
    Sqlite(Location),
    /// In a PostgreSQL database.
    Postgres(PostgresSettings),
}

impl LedgerLocation {
    /// Opens the ledger, and creates it if there is none. A PostgreSQL server that cannot be reached now is asked again
    /// by [`Ledger::identify`].
    ///
    /// # Errors
    /// `Refused` where it can never be used like this, and what to do; `Unavailable` where another process keeps a file
    /// locked.
    pub async fn open(&self) -> CallResult<Arc<dyn Ledger>> {
        Ok(match self {
            Self::Sqlite(location) => Arc::new(SqliteLedger::open(location).await?),
            Self::Postgres(settings) => Arc::new(PostgresLedger::open(settings).await?),
        })
    }
}

/// The id of a ledger, if it is the expected one.
fn expect(id: &str, expected: Option<&str>) -> CallResult<String> {
    match expected {
        Some(other) if other != id => Err(another_ledger(id, other)),
        Some(_) | None => Ok(id.to_owned()),
    }
}

fn newer_schema(what: impl std::fmt::Display, version: impl std::fmt::Display, newest: usize) -> CallError {
    CallError::new(
        CallErrorKind::Refused,
        format!(
            "{what} has schema version {version}, and this program knows {newest} at most: use the newer release of Stint \
             that wrote it"
        ),
    )
}

/// The last [`LOG_LIMIT`] bytes of a text, or a few less, so that no character is cut.
fn tail(text: &str) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(LOG_LIMIT));
    text.get(from..).unwrap_or_default()
}
