//! Why a call to the outside did not succeed, in terms that the loop can act on.

use std::fmt;
use std::time::Duration;

/// Why a call to the outside did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What to make of it.
    pub kind: CallErrorKind,
    /// What happened, in one line, naming the call and the peer's own words. Never a secret.
    pub message: String,
    /// Whether the peer takes nothing from us at all, since it does not know the key or token: it tells nothing of what
    /// the call is about.
    pub of_credentials: bool,
}

/// What to make of a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The peer could not be reached, timed out or had trouble of its own (5xx). The call may have been carried out.
    Unavailable,
    /// The peer asked for a pause, of this length where it said so.
    Throttled(Option<Duration>),
    /// The object is not there.
    NotFound,
    /// Somebody else changed the object, or it exists already.
    Conflict,
    /// The peer understood and refused: the same call would be refused again.
    Refused,
}

impl CallError {
    /// A failed call.
    pub fn new(kind: CallErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string(), of_credentials: false }
    }

    /// The pause that the peer asked for, where it said of what length.
    pub fn pause(&self) -> Option<Duration> {
        match self.kind {
            CallErrorKind::Throttled(pause) => pause,
            CallErrorKind::Unavailable
            | CallErrorKind::NotFound
            | CallErrorKind::Conflict
            | CallErrorKind::Refused => None,
        }
    }
}

/// The answer to a call.
pub type CallResult<T> = Result<T, CallError>;

/// Why a process whose ledger is not the installation's must not act.
pub fn another_ledger(own: &str, in_use: &str) -> CallError {
    let message = format!(
        "this replica's ledger ({own}) is not the one that holds this installation's rows ({in_use}): a second replica \
         needs a ledger that both share; if the old ledger is lost for good, start once with --adopt-ledger"
    );
    CallError::new(CallErrorKind::Refused, message)
}
