//! What may go wrong between a client and the server, decided by the harness; nothing here draws a random number.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// A write that has reached the server.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteSeen {
    /// What it does.
    pub verb: Verb,
    /// The kind, such as `Runner`.
    pub kind: &'static str,
    /// The object's name.
    pub name: String,
    /// Whether it goes to the status subresource.
    pub status: bool,
    /// The body: an object, a patch, or `DeleteOptions`; null without one.
    pub body: Value,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out and answered.
    Allow,
    /// It is not carried out, and answered with this HTTP status.
    FailBefore(u16),
    /// It is not carried out: 429, to be tried again after so many seconds.
    Throttle(u32),
    /// It is carried out, and the connection breaks before the answer.
    CommitThenLose,
    /// It is not carried out, and the connection breaks.
    LoseBefore,
    /// It is not carried out: 409, as if somebody else had written in between.
    Conflict,
    /// No answer comes; the connection breaks then, or never.
    Hang {
        /// Whether it is carried out first.
        carried_out: bool,
        /// When the connection breaks.
        until: Option<Instant>,
    },
}

/// Decides what becomes of writes, and is told how far each is: the places at which a harness can end a replica.
///
/// A request is carried out in one step between `verdict` and `committed`. A replica whose futures are dropped while one
/// of the two waits has therefore written all or nothing.
#[async_trait]
pub trait WriteFaults: Send + Sync {
    /// Before anything of a write is carried out. May wait.
    async fn verdict(&self, who: &str, write: &WriteSeen) -> Verdict;

    /// After a write was carried out (or refused: `code` is the HTTP status), before the answer. May wait.
    async fn committed(&self, _who: &str, _write: &WriteSeen, _code: u16) {}

    /// As the answer is handed over.
    fn answered(&self, _who: &str, _write: &WriteSeen, _code: u16) {}

    /// The HTTP status that a GET, a list or a new watch of a kind fails with, if it does.
    fn read(&self, _who: &str, _kind: &'static str) -> Option<u16> {
        None
    }
}

/// How late the events of a kind reach a client.
pub trait Lag: Send + Sync {
    /// Counted from the write. Asked for the next event of a watch whenever that watch is woken, so it may change; events
    /// keep their order.
    fn of(&self, who: &str, kind: &str) -> Duration;
}

/// Nothing goes wrong, and events come at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faultless;

#[async_trait]
impl WriteFaults for Faultless {
    async fn verdict(&self, _who: &str, _write: &WriteSeen) -> Verdict {
        Verdict::Allow
    }
}

impl Lag for Faultless {
    fn of(&self, _who: &str, _kind: &str) -> Duration {
        Duration::ZERO
    }
}
