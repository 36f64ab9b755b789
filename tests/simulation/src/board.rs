//! The faults of a run as they take effect: which write is the n-th, what is in trouble right now, and until when the
//! controller may not be blamed for being late.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::fault::{AgentFate, Fault, GroupFate, Peer, Trouble, WriteFault};
use crate::journal::Journal;
use crate::time::Clock;

/// The faults of a run.
pub struct Board {
    /// Time.
    pub clock: Clock,
    /// Where what happens is noted.
    pub journal: Journal,
    /// The run's seed.
    pub seed: u64,
    faults: Vec<Fault>,
    counters: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    writes: BTreeMap<Peer, u64>,
    groups: u64,
    agents: u64,
    /// When anything last went wrong.
    trouble: Duration,
    troubles: Vec<(Duration, Duration)>,
}

impl Board {
    /// Nothing has happened yet.
    pub fn new(clock: Clock, journal: Journal, seed: u64, faults: Vec<Fault>) -> Self {
        Self { clock, journal, seed, faults, counters: Mutex::default() }
    }

    /// Counts a write to a peer, and tells what becomes of it.
    pub fn write(&self, peer: Peer, what: &str) -> Option<WriteFault> {
        let number = {
            let mut counters = self.lock();
            let number = counters.writes.entry(peer).or_default();
            *number += 1;
            *number
        };
        let fault = self.faults.iter().find_map(|fault| {
            if let Fault::Write { peer: of, nth, what } = fault
                && *of == peer
                && *nth == number
            {
                Some(*what)
            } else {
                None
            }
        })?;
        self.journal.fault(format_args!("write {number} to {peer:?} ({what}): {fault:?}"));
        let lasts = if let WriteFault::Throttled(seconds) = fault { seconds } else { 0 };
        self.troubled(Duration::from_secs(lasts));
        Some(fault)
    }

    /// How many writes to a peer there were.
    pub fn writes(&self, peer: Peer) -> u64 {
        self.lock().writes.get(&peer).copied().unwrap_or(0)
    }

    /// What becomes of the group that is created now.
    pub fn group(&self) -> Vec<GroupFate> {
        let number = {
            let mut counters = self.lock();
            counters.groups += 1;
            counters.groups
        };
        let fates: Vec<GroupFate> = self
            .faults
            .iter()
            .filter_map(
                |fault| if let Fault::Group { nth, fate } = fault { Some((*nth, *fate)) } else { None },
            )
            .filter(|(nth, _)| *nth == number)
            .map(|(_, fate)| fate)
            .collect();
        for fate in &fates {
            self.journal.fault(format_args!("container group {number}: {fate:?}"));
        }
        fates
    }

    /// What becomes of the agent that starts now.
    pub fn agent(&self) -> Option<AgentFate> {
        let number = {
            let mut counters = self.lock();
            counters.agents += 1;
            counters.agents
        };
        let fate = self
            .faults
            .iter()
            .filter_map(
                |fault| if let Fault::Agent { nth, fate } = fault { Some((*nth, *fate)) } else { None },
            )
            .find(|(nth, _)| *nth == number)
            .map(|(_, fate)| fate)?;
        self.journal.fault(format_args!("agent {number}: {fate:?}"));
        Some(fate)
    }

    /// What is in trouble right now.
    pub fn now(&self) -> impl Iterator<Item = Trouble> + '_ {
        let second = self.clock.passed().as_secs();
        self.faults.iter().filter_map(move |fault| {
            if let Fault::While { what, from, lasts } = fault
                && (*from..from + lasts).contains(&second)
            {
                Some(*what)
            } else {
                None
            }
        })
    }

    /// Whether this is in trouble right now.
    pub fn is(&self, trouble: Trouble) -> bool {
        self.now().any(|now| now == trouble)
    }

    /// When records were last lost of what goes on, if they were by now.
    pub fn records_lost(&self) -> Option<Duration> {
        let now = self.clock.passed();
        let lost = self.faults.iter().filter_map(|fault| {
            if let Fault::Restored { at, .. } | Fault::Emptied { at } = fault {
                Some(Duration::from_secs(*at))
            } else {
                None
            }
        });
        lost.filter(|at| *at <= now).max()
    }

    /// By how much the controller's clock is ever wrong, in seconds.
    pub fn clock_error(&self) -> u64 {
        let wrong = self.faults.iter().filter_map(|fault| {
            if let Fault::While { what: Trouble::Clock(by), .. } = fault {
                Some(by.unsigned_abs())
            } else {
                None
            }
        });
        wrong.sum()
    }

    /// The plan.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Of a hundred webhooks, how many are lost and how many come twice, and by how many seconds at most one is late.
    pub fn webhooks(&self) -> (u64, u64, u64) {
        let of = |fault: &Fault| {
            if let Fault::Webhooks { lost, twice, late } = fault {
                Some((*lost, *twice, *late))
            } else {
                None
            }
        };
        self.faults.iter().find_map(of).unwrap_or_default()
    }

    /// Notes that something goes wrong, from now on for so long.
    pub fn troubled(&self, lasts: Duration) {
        let now = self.clock.passed();
        let mut counters = self.lock();
        counters.trouble = counters.trouble.max(now + lasts);
        counters.troubles.push((now, now + lasts));
    }

    /// When the last trouble that had begun by now ended or will end.
    pub fn last_trouble(&self) -> Duration {
        let now = self.clock.passed();
        let planned = self.faults.iter().filter_map(|fault| match fault {
            Fault::While { from, lasts, .. } if *from <= now.as_secs() => Some(from + lasts),
            Fault::Killed { at }
            | Fault::WatchesExpire { at }
            | Fault::Restored { at, .. }
            | Fault::Emptied { at }
                if *at <= now.as_secs() =>
            {
                Some(*at)
            }
            Fault::While { .. }
            | Fault::Killed { .. }
            | Fault::WatchesExpire { .. }
            | Fault::Restored { .. }
            | Fault::Emptied { .. }
            | Fault::Write { .. }
            | Fault::Group { .. }
            | Fault::Agent { .. }
            | Fault::Webhooks { .. }
            | Fault::Stolen { .. } => None,
        });
        let planned = planned.max().map(Duration::from_secs).unwrap_or_default();
        self.lock().trouble.max(planned)
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
