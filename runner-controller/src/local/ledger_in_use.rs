//! Which ledger holds the bills of these records' runners. Nothing here reads a ledger.

use sqlx::sqlite::SqliteConnection;

use super::error::{StoreError, StoreResult};
use crate::ports::another_ledger;

/// The ledger's id, if any process has acted on these records.
pub(super) async fn read(db: &mut SqliteConnection) -> StoreResult<Option<String>> {
    let ledger: String = sqlx::query_scalar("SELECT ledger FROM reservations_epoch").fetch_one(db).await?;
    Ok(Some(ledger).filter(|ledger| !ledger.is_empty()))
}

/// Remembers a ledger, which another one may follow only if it is adopted.
pub(super) async fn set(db: &mut SqliteConnection, ledger: &str, adopt: bool) -> StoreResult<()> {
    if let Some(in_use) = read(&mut *db).await?
        && in_use != ledger
        && !adopt
    {
        let error = another_ledger(ledger, &in_use);
        return Err(StoreError::call(error.kind, error));
    }
    sqlx::query("UPDATE reservations_epoch SET ledger = ?").bind(ledger).execute(db).await?;
    Ok(())
}
