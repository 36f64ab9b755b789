//! The journal: what happened, in plain words with virtual times, and which invariants did not hold.
//!
//! Nothing random may stand in a line (tokens, UIDs made of chance): two runs of one seed are compared by it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::time::Clock;

/// An invariant of `docs/ARCHITECTURE.md` and what broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which, as `I1` to `I8`.
    pub invariant: &'static str,
    /// What was seen, in one line.
    pub text: String,
    /// The journal's line at which it was seen.
    pub line: usize,
}

/// What a run covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that happened.
    pub steps: u64,
    /// Writes of the controller to the outside.
    pub writes: u64,
    /// Crashes of a replica.
    pub crashes: u64,
    /// Faults that took effect.
    pub faults: u64,
}

impl Counts {
    /// Adds another run's.
    pub fn add(&mut self, other: Counts) {
        self.steps += other.steps;
        self.writes += other.writes;
        self.crashes += other.crashes;
        self.faults += other.faults;
    }
}

#[derive(Default)]
struct Pages {
    lines: Vec<(Duration, String)>,
    violations: Vec<Violation>,
    counts: Counts,
    last_write: Duration,
    last_write_text: String,
}

/// The journal of one run; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    clock: Clock,
    pages: Arc<Mutex<Pages>>,
}

impl Journal {
    /// Empty.
    pub fn new(clock: Clock) -> Self {
        Self { clock, pages: Arc::default() }
    }

    /// Notes that something happened.
    pub fn note(&self, who: &str, what: impl std::fmt::Display) {
        let mut pages = self.lock();
        pages.counts.steps += 1;
        pages.lines.push((self.clock.passed(), format!("{who}: {what}")));
    }

    /// Notes a write of the controller to the outside, carried out.
    pub fn wrote(&self, who: &str, what: impl std::fmt::Display) {
        let text = format!("{who} writes {what}");
        let mut pages = self.lock();
        pages.counts.steps += 1;
        pages.counts.writes += 1;
        pages.last_write = self.clock.passed();
        pages.last_write_text.clone_from(&text);
        pages.lines.push((self.clock.passed(), text));
    }

    /// Notes that a fault took effect.
    pub fn fault(&self, what: impl std::fmt::Display) {
        self.lock().counts.faults += 1;
        self.note("FAULT", what);
    }

    /// Notes that a replica crashed.
    pub fn crashed(&self, who: &str) {
        self.lock().counts.crashes += 1;
        self.note("FAULT", format_args!("{who} crashes"));
    }

    /// Notes that an invariant does not hold; the same one is noted a few times at most.
    pub fn violate(&self, invariant: &'static str, text: impl std::fmt::Display) {
        let text = text.to_string();
        {
            let mut pages = self.lock();
            let known = pages.violations.iter().filter(|known| known.invariant == invariant);
            if known.clone().count() >= 3 || known.clone().any(|known| known.text == text) {
                return;
            }
            let line = pages.lines.len();
            pages.violations.push(Violation { invariant, text: text.clone(), line });
        }
        self.note("VIOLATED", format_args!("{invariant}: {text}"));
    }

    /// What did not hold.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// What the run covered so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// How long ago the controller last wrote anything, and what.
    pub fn quiet_for(&self) -> (Duration, String) {
        let pages = self.lock();
        (self.clock.passed().saturating_sub(pages.last_write), pages.last_write_text.clone())
    }

    /// A hash of everything that happened, in its order.
    pub fn hash(&self) -> String {
        let pages = self.lock();
        let mut hasher = Sha256::new();
        for (at, text) in &pages.lines {
            hasher.update(at.as_millis().to_le_bytes());
            hasher.update(text.as_bytes());
            hasher.update([0]);
        }
        hex::encode(hasher.finalize())
    }

    /// All lines, or those about a line that concern what its text names.
    pub fn tell(&self, around: Option<usize>) -> String {
        let pages = self.lock();
        let most = 80;
        let from = around.map_or(0, |line| line.saturating_sub(most));
        let until = around.map_or(pages.lines.len(), |line| (line + 10).min(pages.lines.len()));
        let mut told = String::new();
        for (at, text) in pages.lines.get(from..until).unwrap_or_default() {
            let seconds = at.as_secs();
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let millis = at.subsec_millis();
            // Writing to a String does not fail.
            let _ok = writeln!(told, "  {hours:02}:{minutes:02}:{seconds:02}.{millis:03}  {text}");
        }
        told
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
