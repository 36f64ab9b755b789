use std::path::Path;

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use super::*;

const NOTES: Schema = Schema {
    what: "notebook",
    application_id: 0x4e6f_7465,
    migrations: &["CREATE TABLE notes (text TEXT NOT NULL) STRICT"],
};
const NOTES_2: Schema = Schema {
    what: "notebook",
    application_id: 0x4e6f_7465,
    migrations: &[
        "CREATE TABLE notes (text TEXT NOT NULL) STRICT",
        "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody'",
    ],
};

fn file(folder: &tempfile::TempDir) -> Location {
    Location::File(folder.path().join("notes.db"))
}

async fn raw(at: &Path) -> SqlitePool {
    SqlitePool::connect_with(SqliteConnectOptions::new().filename(at).create_if_missing(true)).await.unwrap()
}

async fn refusal(at: &Location, schema: Schema) -> CallError {
    open(at, schema, 1).await.expect_err("opening must fail")
}

#[tokio::test]
async fn a_file_is_private_durable_and_in_wal_mode() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&file(&folder), NOTES, 1).await.unwrap();
    sqlx::query("INSERT INTO notes VALUES ('a')").execute(&pool).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&pool).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
    for name in ["notes.db", "notes.db-wal", "notes.db-shm"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(folder.path().join(name)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn an_older_file_is_brought_up_to_date_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(&file(&folder), NOTES, 1).await.unwrap();
    sqlx::query("INSERT INTO notes VALUES ('a')").execute(&pool).await.unwrap();
    pool.close().await;
    for _ in 0..2 {
        let pool = open(&file(&folder), NOTES_2, 1).await.unwrap();
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT * FROM notes").fetch_all(&pool).await.unwrap();
        assert_eq!(rows, [("a".to_owned(), "nobody".to_owned())]);
        pool.close().await;
    }
}

#[tokio::test]
async fn a_newer_file_is_refused_with_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    open(&file(&folder), NOTES_2, 1).await.unwrap().close().await;
    let error = refusal(&file(&folder), NOTES).await;
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("schema version 2, and this program knows 1"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pool = raw(&folder.path().join("notes.db")).await;
    sqlx::query("CREATE TABLE other (a)").execute(&pool).await.unwrap();
    pool.close().await;
    let error = refusal(&file(&folder), NOTES).await;
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("not hold the notebook of Stint"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.db"), "these are not pages ".repeat(500)).unwrap();
    let error = refusal(&file(&folder), NOTES).await;
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("damaged, or not a SQLite database"), "{error}");
    assert!(error.message.contains("notes.db"), "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_created_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = refusal(&Location::File(folder.path().join("missing/notes.db")), NOTES).await;
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("for writing") && error.message.contains("missing/notes.db"), "{error}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    open(&file(&folder), NOTES, 1).await.unwrap().close().await;
    let other = raw(&folder.path().join("notes.db")).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = refusal(&file(&folder), NOTES).await;
    assert_eq!(error.kind, CallErrorKind::Unavailable);
    assert!(error.message.contains("locked by another process"), "{error}");
    lock.rollback().await.unwrap();
    open(&file(&folder), NOTES, 1).await.unwrap();
}

#[tokio::test]
async fn a_new_file_may_be_opened_by_several_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = file(&folder);
    let opened = futures::future::join_all((0..8).map(|_| open(&at, NOTES_2, 2))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
}

#[tokio::test]
async fn two_databases_in_memory_share_nothing() {
    let one = open(&Location::Memory, NOTES, 4).await.unwrap();
    let two = open(&Location::Memory, NOTES, 4).await.unwrap();
    sqlx::query("INSERT INTO notes VALUES ('a')").execute(&one).await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&two).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_connection_on_which_the_disk_was_full_is_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let schema = Schema { what: "test", application_id: 1, migrations: &["CREATE TABLE t (text TEXT)"] };
    let pool = open(&Location::File(directory.path().join("full.db")), schema, 1).await.unwrap();
    {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *transaction).await.unwrap();
        sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 1)))
            .execute(&mut *transaction)
            .await
            .unwrap();
        let error = sqlx::query("INSERT INTO t VALUES (?)")
            .bind("x".repeat(1 << 20))
            .execute(&mut *transaction)
            .await
            .unwrap_err();
        assert!(failed("insert", &error).message.contains("the disk is full"), "{error}");
    }
    // Another connection, without the limit, once the first is given back.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    sqlx::query("INSERT INTO t VALUES ('fits')").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}
