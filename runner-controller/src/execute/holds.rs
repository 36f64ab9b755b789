//! What is under way, and what a failure holds back for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_core::plan::Hold;
use tokio::sync::Notify;

use crate::clock;
use crate::ports::{CallError, CallErrorKind};

/// The first pause after a failure; doubled for each further one.
const FIRST: SignedDuration = SignedDuration::from_secs(1);
/// The longest pause.
const LONGEST: SignedDuration = SignedDuration::from_secs(60);
/// The pause where the peer asks for one but does not say how long (GitHub: at least a minute).
const UNSAID: Duration = Duration::from_secs(60);

/// Holds by name of runner or job.
#[derive(Default)]
pub(super) struct Holds {
    by_name: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    hold: Hold,
    failing: Failing,
}

/// How often something has failed without a success between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) times: u32,
    /// From when on.
    pub(super) since: Option<Timestamp>,
}

impl Holds {
    /// All that hold at this moment; those that have run out keep only their count of failures.
    pub(super) fn all(&self, now: Timestamp) -> HashMap<String, Hold> {
        let mut entries = self.lock();
        // A hold long past has nothing to remember.
        entries.retain(|_, entry| match entry.hold {
            Hold::InFlight => true,
            Hold::Until(until) => now < until.saturating_add(LONGEST + LONGEST).unwrap_or(Timestamp::MAX),
        });
        let holds = |hold: Hold| match hold {
            Hold::InFlight => true,
            Hold::Until(until) => until > now,
        };
        entries
            .iter()
            .filter(|(_, entry)| holds(entry.hold))
            .map(|(name, entry)| (name.clone(), entry.hold))
            .collect()
    }

    pub(super) fn begin(&self, name: &str) {
        let mut entries = self.lock();
        let failing = entries.get(name).map(|entry| entry.failing).unwrap_or_default();
        entries.insert(name.to_owned(), Entry { hold: Hold::InFlight, failing });
    }

    pub(super) fn done(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Ends an action that could not even be tried: it neither succeeded nor failed.
    pub(super) fn undone(&self, name: &str, now: Timestamp) {
        if let Some(entry) = self.lock().get_mut(name) {
            entry.hold = Hold::Until(now);
        }
    }

    /// How often what is held under a name has failed.
    pub(super) fn failing(&self, name: &str) -> Failing {
        self.lock().get(name).map(|entry| entry.failing).unwrap_or_default()
    }

    /// Holds a name back without counting a failure.
    pub(super) fn again(&self, name: &str, now: Timestamp, after: Duration) {
        let until = add(now, SignedDuration::try_from(after).unwrap_or(LONGEST));
        self.lock().insert(name.to_owned(), Entry { hold: Hold::Until(until), failing: Failing::default() });
    }

    /// Counts a failure and answers until when it holds the name back.
    pub(super) fn failed(&self, name: &str, error: &CallError, now: Timestamp) -> Timestamp {
        let mut entries = self.lock();
        let before = entries.get(name).map(|entry| entry.failing).unwrap_or_default();
        let failing = Failing { times: before.times.saturating_add(1), since: before.since.or(Some(now)) };
        let pause = match error.kind {
            CallErrorKind::Throttled(after) => {
                SignedDuration::try_from(after.unwrap_or(UNSAID)).unwrap_or(LONGEST)
            }
            CallErrorKind::Unavailable
            | CallErrorKind::NotFound
            | CallErrorKind::Conflict
            | CallErrorKind::Refused => {
                let doublings = failing.times.saturating_sub(1).min(10);
                FIRST.saturating_mul(1_i32 << doublings).min(LONGEST)
            }
        };
        let until = add(now, pause);
        entries.insert(name.to_owned(), Entry { hold: Hold::Until(until), failing });
        until
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a name back for a while if its action ends without a result: an action that panics is a bug, and must not keep
/// its runner or job from ever being looked at again.
pub(super) struct Guard {
    armed: Option<(Arc<Holds>, String, Arc<Notify>)>,
}

impl Guard {
    pub(super) fn new(holds: Arc<Holds>, name: String, finished: Arc<Notify>) -> Self {
        Self { armed: Some((holds, name, finished)) }
    }

    pub(super) fn disarm(mut self) {
        self.armed = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((holds, name, finished)) = self.armed.take() {
            let error = CallError::new(CallErrorKind::Refused, "the action ended without a result");
            tracing::error!(subject = name, "an action on {name} ended without a result, which is a bug");
            holds.failed(&name, &error, clock::now());
            finished.notify_one();
        }
    }
}

fn add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: CallErrorKind) -> CallError {
        CallError::new(kind, "failed")
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let (holds, now) = (Holds::default(), Timestamp::UNIX_EPOCH);
        let pauses: Vec<i64> =
            (0..9).map(|_| holds.failed("a", &error(CallErrorKind::Unavailable), now).as_second()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_peer_that_asks_for_a_pause_gets_it_in_full() {
        let (holds, now) = (Holds::default(), Timestamp::UNIX_EPOCH);
        let asked = error(CallErrorKind::Throttled(Some(Duration::from_secs(300))));
        assert_eq!(holds.failed("a", &asked, now).as_second(), 300);
        assert_eq!(holds.failed("a", &error(CallErrorKind::Throttled(None)), now).as_second(), 60);
    }

    #[test]
    fn failures_are_counted_from_the_first_while_nothing_succeeds() {
        let (holds, now) = (Holds::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(holds.failing("a"), Failing::default());
        holds.failed("a", &error(CallErrorKind::Unavailable), now);
        holds.begin("a");
        holds.failed("a", &error(CallErrorKind::Unavailable), add(now, LONGEST));
        let twice = Failing { times: 2, since: Some(now) };
        assert_eq!(holds.failing("a"), twice);
        // What could not be tried counts neither way, and holds nothing back.
        holds.begin("a");
        holds.undone("a", now);
        assert_eq!((holds.failing("a"), holds.all(now).get("a")), (twice, None));
        holds.done("a");
        assert_eq!(holds.failing("a"), Failing::default());
    }

    #[test]
    fn success_forgets_failures() {
        let (holds, now) = (Holds::default(), Timestamp::UNIX_EPOCH);
        holds.failed("a", &error(CallErrorKind::Refused), now);
        holds.begin("a");
        assert_eq!(holds.all(now).get("a"), Some(&Hold::InFlight));
        holds.done("a");
        assert_eq!(holds.failed("a", &error(CallErrorKind::Refused), now).as_second(), 1);
    }
}
