//! What holds for the ledger's SQLite file alone.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use stint::ledger::SqliteLedger;
use stint::ports::{CallErrorKind, Ledger};
use stint::sqlite::Location;

use crate::Bed;
use crate::laws::{row, took};

/// A file.
pub(crate) struct File(tempfile::TempDir);

impl Bed for File {
    async fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        Arc::new(in_file(&self.0.path().join("ledger.db")).await)
    }
}

async fn in_file(path: &Path) -> SqliteLedger {
    SqliteLedger::open(&Location::File(path.to_owned())).await.unwrap()
}

#[tokio::test]
async fn a_ledger_that_is_dropped_without_closing_keeps_every_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    // A copy of the files as they are the moment after the answer: what a crash would leave.
    let crashed = folder.path().join("crashed.db");
    let ledger = in_file(&path).await;
    ledger.commit(&row("g", "m")).await.unwrap();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&path), name(&crashed)).unwrap();
    }
    drop(ledger);
    for path in [&path, &crashed] {
        let ledger = in_file(path).await;
        assert_eq!(ledger.rows().await.unwrap(), [row("g", "m")]);
        assert!(!ledger.commit(&row("g", "m")).await.unwrap());
    }
}

#[tokio::test]
async fn the_schema_refuses_to_change_or_delete_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let ledger = in_file(&path).await;
    ledger.commit(&row("g", "m")).await.unwrap();
    let raw = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for sql in ["UPDATE ledger SET amount = '0'", "DELETE FROM ledger"] {
        let error = sqlx::query(sql).execute(&raw).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    let columns =
        "number, group_id, machine_uid, runner, started_for_source, started_for_id, started_for_attempt,
        for_owner, for_repository, for_workflow, for_class, repository, job_name, class, place, ended_because, started_at, started_from, stopped_at, stopped_from,
        bound_seconds, seconds, vcpu, memory_gb, amount, amount_e8, currency";
    for number in ["number", "number + 1"] {
        let values = columns.replacen("number", number, 1).replace("amount", "'0'");
        let replace = format!("INSERT OR REPLACE INTO ledger ({columns}) SELECT {values} FROM ledger");
        sqlx::query(sqlx::AssertSqlSafe(replace)).execute(&raw).await.unwrap();
    }
    assert_eq!(ledger.rows().await.unwrap(), [row("g", "m")]);
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    std::fs::write(&path, [7; 5000]).unwrap();
    let error = SqliteLedger::open(&Location::File(path)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("the ledger") && error.message.contains("damaged"), "{error}");
}

#[tokio::test]
async fn sums_over_a_period_use_the_index_on_when_meters_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    drop(in_file(&path).await);
    let raw = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for (column, expect) in [("stopped_at", "ledger_by_stopped_at"), ("+stopped_at", "INTEGER PRIMARY KEY")] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT SUM(amount_e8) FROM ledger WHERE {column} >= 'a' AND {column} < 'b' AND number > 5"
        );
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&raw).await.unwrap();
        assert!(plan[0].3.contains(expect), "{plan:?}");
    }
}

#[tokio::test]
async fn a_ledger_of_the_first_schema_goes_on_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    took(&in_file(&path).await, "stint", [10, 20]).await;
    let raw = sqlx::SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path)).await.unwrap();
    for sql in ["DROP INDEX ledger_by_for_class", "PRAGMA user_version = 1"] {
        sqlx::query(sql).execute(&raw).await.unwrap();
    }
    raw.close().await;
    let latest = in_file(&path).await.latest_seconds(9).await.unwrap();
    assert_eq!(latest, [("stint".to_owned(), 20), ("stint".to_owned(), 10)]);
}
