//! The tables beside jobs, runners and reservations: credentials, and how far deliveries are accounted for. Nothing of them is
//! mirrored in memory.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::error::{StoreError, StoreResult};
use super::store::find_runner;
use crate::ports::CallErrorKind;

pub(super) async fn put_credential(
    db: &mut SqliteConnection,
    runner: &str,
    files: &BTreeMap<String, SecretString>,
) -> StoreResult<()> {
    find_runner(db, runner).await?;
    delete_credential(db, runner).await?;
    for (file, content) in files {
        sqlx::query("INSERT INTO credentials (runner, file, content) VALUES (?, ?, ?)")
            .bind(runner)
            .bind(file)
            .bind(content.expose_secret())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Answers whether there was one.
pub(super) async fn delete_credential(db: &mut SqliteConnection, runner: &str) -> StoreResult<bool> {
    let deleted = sqlx::query("DELETE FROM credentials WHERE runner = ?").bind(runner).execute(db).await?;
    Ok(deleted.rows_affected() > 0)
}

pub(super) async fn credential(
    db: &mut SqliteConnection,
    runner: &str,
) -> StoreResult<BTreeMap<String, SecretString>> {
    let rows = sqlx::query("SELECT file, content FROM credentials WHERE runner = ?")
        .bind(runner)
        .fetch_all(db)
        .await?;
    if rows.is_empty() {
        return Err(StoreError::call(CallErrorKind::NotFound, format!("runner {runner} has no credential")));
    }
    rows.iter()
        .map(|row| Ok((row.try_get("file")?, SecretString::from(row.try_get::<String, _>("content")?))))
        .collect()
}

pub(super) async fn swept(
    db: &mut SqliteConnection,
    source: &str,
) -> StoreResult<BTreeMap<String, Timestamp>> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT hook, until FROM swept WHERE source = ?").bind(source).fetch_all(db).await?;
    // What cannot be read is swept again.
    Ok(rows.into_iter().filter_map(|(hook, until)| Some((hook, until.parse().ok()?))).collect())
}

pub(super) async fn note_swept(
    db: &mut SqliteConnection,
    source: &str,
    hook: &str,
    to: Timestamp,
) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO swept (source, hook, until) VALUES (?, ?, ?)
         ON CONFLICT (source, hook) DO UPDATE SET until = excluded.until",
    )
    .bind(source)
    .bind(hook)
    .bind(to.to_string())
    .execute(db)
    .await?;
    Ok(())
}
