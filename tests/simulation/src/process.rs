//! One process of the controller as the outside sees it: it lives, stands still, or is dead, and each of its calls to
//! a peer passes here, where faults strike.
//!
//! A process that has crashed is stopped in its tracks: whatever call any of its futures makes next never ends, and
//! what it was about to be told it never learns. So nothing of it acts any more, however it was spawned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use stint::ports::{CallError, CallErrorKind, CallResult};
use tokio::sync::Notify;

use crate::board::Board;
use crate::chance::Chance;
use crate::fault::{Peer, Trouble, WriteFault};
use crate::time::pause;

/// How long a call takes to fail that reaches nobody.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// A process.
pub struct Process {
    /// The replica and its how manieth process, as `a.1`.
    pub name: String,
    /// The faults.
    pub board: Arc<Board>,
    /// Whether what strikes the replica that acts strikes this one.
    struck: AtomicBool,
    dead: AtomicBool,
    died: Notify,
    calls: AtomicU64,
}

/// What becomes of a call.
enum Ruling {
    Allowed,
    Failed(CallError),
    AnswerLost,
    CrashAnswerLost,
    CrashAfter,
}

impl Process {
    /// A process that lives.
    pub fn new(name: String, board: Arc<Board>) -> Self {
        Self {
            name,
            board,
            struck: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            calls: AtomicU64::new(0),
        }
    }

    /// Whether it is dead.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Kills it.
    pub fn kill(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.board.troubled(Duration::ZERO);
            self.board.journal.crashed(&self.name);
            self.died.notify_one();
        }
    }

    /// Completes once it is dead. For the one who starts the next.
    pub async fn dies(&self) {
        if !self.is_dead() {
            self.died.notified().await;
        }
    }

    /// Whether what strikes the replica that acts strikes this one, from now on.
    pub fn set_struck(&self, struck: bool) {
        self.struck.store(struck, Ordering::Relaxed);
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.struck.load(Ordering::Relaxed) && self.board.is(Trouble::Paused)
    }

    /// Whether it reaches a peer.
    pub fn reaches(&self, peer: Peer) -> bool {
        let cut_off = peer == Peer::Kubernetes
            && self.struck.load(Ordering::Relaxed)
            && self.board.is(Trouble::LeaderCutOff);
        !cut_off && !self.board.is(Trouble::Partition(peer))
    }

    /// Goes on once the process does: never, if it is dead.
    pub async fn goes_on(&self) {
        while self.is_paused() {
            pause(500).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// How many milliseconds the next half of a call takes.
    pub fn latency(&self) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut chance = Chance::of(self.board.seed, &format!("latency {} {call}", self.name));
        // Most are quick; some are slow enough to change places with others.
        if chance.percent(5) { chance.between(50, 900) } else { chance.between(1, 25) }
    }

    /// Reads from a peer.
    pub async fn read<T>(&self, peer: Peer, act: impl FnOnce() -> CallResult<T>) -> CallResult<T> {
        self.goes_on().await;
        pause(self.latency()).await;
        self.goes_on().await;
        if !self.reaches(peer) {
            tokio::time::sleep(UNREACHABLE).await;
            self.goes_on().await;
            return Err(unreachable(peer));
        }
        let answer = act();
        pause(self.latency()).await;
        self.goes_on().await;
        answer
    }

    /// Writes to a peer. `what` stands in the journal.
    pub async fn write<T>(
        &self,
        peer: Peer,
        what: &str,
        act: impl FnOnce() -> CallResult<T>,
    ) -> CallResult<T> {
        self.goes_on().await;
        pause(self.latency()).await;
        self.goes_on().await;
        if !self.reaches(peer) {
            tokio::time::sleep(UNREACHABLE).await;
            self.goes_on().await;
            return Err(unreachable(peer));
        }
        let ruling = self.ruling(peer, what);
        self.goes_on().await;
        if let Ruling::Failed(error) = ruling {
            pause(self.latency()).await;
            self.goes_on().await;
            return Err(error);
        }
        let answer = act();
        let word = if answer.is_ok() { "" } else { ": refused" };
        self.board.journal.wrote(&self.name, format_args!("{what} ({peer:?}){word}"));
        match ruling {
            Ruling::CrashAnswerLost => self.kill(),
            Ruling::Allowed | Ruling::CrashAfter => {}
            Ruling::AnswerLost | Ruling::Failed(_) => {
                tokio::time::sleep(UNREACHABLE).await;
                self.goes_on().await;
                return Err(unreachable(peer));
            }
        }
        self.goes_on().await;
        pause(self.latency()).await;
        if let Ruling::CrashAfter = ruling {
            // Whoever called learns the answer, and can do nothing more with it.
            self.kill();
            return answer;
        }
        self.goes_on().await;
        answer
    }

    fn ruling(&self, peer: Peer, what: &str) -> Ruling {
        let failed = |kind, words: &str| Ruling::Failed(CallError::new(kind, format!("{peer:?}: {words}")));
        match self.board.write(peer, what) {
            None => Ruling::Allowed,
            Some(WriteFault::CrashBefore) => {
                self.kill();
                Ruling::Allowed
            }
            Some(WriteFault::CrashAnswerLost) => Ruling::CrashAnswerLost,
            Some(WriteFault::CrashAfter) => Ruling::CrashAfter,
            Some(WriteFault::Unavailable) => failed(CallErrorKind::Unavailable, "503"),
            Some(WriteFault::AnswerLost) => Ruling::AnswerLost,
            Some(WriteFault::Throttled(seconds)) => {
                failed(CallErrorKind::Throttled(Some(Duration::from_secs(seconds))), "429")
            }
            Some(WriteFault::Conflict) => failed(CallErrorKind::Conflict, "409"),
        }
    }
}

fn unreachable(peer: Peer) -> CallError {
    CallError::new(CallErrorKind::Unavailable, format!("{peer:?} could not be reached"))
}
