//! A connection that is lent for one statement. What is not given back in order is closed: the pool would wait for its
//! answer, for as long as a broken network keeps one waiting, and soon have no other connection left.

use std::io;
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;

/// A connection, closed when it is dropped.
struct Lent(Option<PoolConnection<Postgres>>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Runs one statement and answers its rows.
///
/// # Errors
/// The statement's own, or one of kind `TimedOut` where the server takes longer than `within`.
pub(super) async fn fetch(
    pool: &PgPool,
    within: Duration,
    statement: Query<'_, Postgres, PgArguments>,
) -> sqlx::Result<Vec<PgRow>> {
    let mut lent = Lent(Some(pool.acquire().await?));
    let Some(connection) = lent.0.as_mut() else { return Err(sqlx::Error::PoolClosed) };
    match tokio::time::timeout(within, statement.fetch_all(&mut **connection)).await {
        Ok(answer) => {
            drop(lent.0.take());
            answer
        }
        Err(_) => {
            let late = format!("no answer within {} s", within.as_secs());
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late)))
        }
    }
}
