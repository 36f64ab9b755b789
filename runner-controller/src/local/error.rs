//! Why a write or reading of the records did not succeed, before it is known what it was for.

use std::fmt;

use crate::ports::{CallError, CallErrorKind};
use crate::sqlite;

#[derive(Debug)]
pub(super) enum StoreError {
    /// SQLite's own.
    Sql(sqlx::Error),
    /// What the records themselves refuse, in one line.
    Call(CallErrorKind, String),
}

pub(super) type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    pub(super) fn call(kind: CallErrorKind, message: impl fmt::Display) -> Self {
        Self::Call(kind, message.to_string())
    }

    /// The failed call that it makes `doing`, such as `cannot store a fact`.
    pub(super) fn during(&self, doing: &str) -> CallError {
        match self {
            StoreError::Sql(error) => sqlite::failed(doing, error),
            StoreError::Call(kind, message) => CallError::new(*kind, format!("{doing}: {message}")),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::call(CallErrorKind::Refused, format!("a record is not of the known form: {error}"))
    }
}
